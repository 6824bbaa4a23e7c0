// Filters of a dashboard: matchers of labels that join every query of PromQL. A document and an address have them as text,
// `job="api", instance!~"a.*"`.

import { labelName, quote } from '../labels';

export const FILTER_OPERATORS = ['=', '!=', '=~', '!~'] as const;
export type FilterOperator = (typeof FILTER_OPERATORS)[number];

export interface Filter {
  key: string;
  op: FilterOperator;
  value: string;
}

const ONE = /\s*("(?:[^"\\]|\\.)*"|[^\s=!~,"{}]+)\s*(=~|!~|!=|=)\s*("(?:[^"\\]|\\.)*"|[^,"]*)\s*(?:,|$)/y;

const plain = (text: string): string => {
  if (!text.startsWith('"')) return text.trim();
  try {
    return String(JSON.parse(text));
  } catch {
    return text.slice(1, -1);
  }
};

/** What a text says, and the rest of it, from where it is none any more. */
export function readFilters(text: string): { filters: Filter[]; rest: string } {
  const filters: Filter[] = [];
  let at = 0;
  while (at < text.length) {
    ONE.lastIndex = at;
    const found = ONE.exec(text);
    if (!found) break;
    filters.push({ key: plain(found[1]!), op: found[2] as FilterOperator, value: plain(found[3]!) });
    at = ONE.lastIndex;
  }
  return { filters, rest: text.slice(at).trim() };
}

export const parseFilters = (text: string): Filter[] => readFilters(text).filters;

export const filterText = ({ key, op, value }: Filter): string => `${labelName(key)}${op}${quote(value)}`;

export const filtersText = (filters: Filter[]): string => filters.map(filterText).join(', ');

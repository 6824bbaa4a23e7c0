// Variables: what they are asked from, what is chosen, and how a choice becomes part of a query.

import { labelNames, labelValues, queryInstant, seriesList } from '../../api/prometheus';
import { seriesName } from '../labels';
import { valueText } from '../logsearch';
import { formatDuration, type Range } from '../time';
import type { Variable } from './model';

/** Most values of a variable that are listed. */
export const MAX_VALUES = 1000;
/** The choice that stands for all values. */
export const ALL = '$__all';

export interface Chosen {
  variable: Variable;
  /** What is chosen: values, or [`ALL`]. */
  values: string[];
  /** All there is to choose from. */
  options: string[];
}

export type Scope = Record<string, Chosen | string[]>;

const escapePromqlRegex = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
/** Within a string literal of PromQL each backslash stands twice. */
const literal = (text: string): string => text.replace(/\\/g, '\\\\').replace(/"/g, '\\"');

function valuesOf(entry: Chosen | string[]): { values: string[]; multi: boolean; all: boolean; allValue?: string } {
  if (Array.isArray(entry)) return { values: entry, multi: false, all: false };
  const { variable, values, options } = entry;
  if (values.includes(ALL))
    return { values: options, multi: true, all: true, allValue: variable.allValue || undefined };
  return { values, multi: (variable.multi ?? false) || (variable.all ?? false), all: false };
}

function formatted(name: string, entry: Chosen | string[], format: string | undefined): string {
  const { values, multi, all, allValue } = valuesOf(entry);
  const kind = Array.isArray(entry) ? 'text' : entry.variable.kind;
  if (all && allValue && format !== 'text' && format !== 'csv' && format !== 'search')
    return format === 'percentencode' ? encodeURIComponent(allValue) : allValue;
  if (Array.isArray(entry) && format?.startsWith('date')) return dated(values[0] ?? '', format);
  switch (format) {
    case 'raw':
      return values.join(',');
    case 'csv':
    case 'text':
      return values.join(format === 'text' ? ' + ' : ',');
    case 'pipe':
      return values.join('|');
    case 'regex':
      return values.length === 1 ? escapePromqlRegex(values[0]!) : `(${values.map(escapePromqlRegex).join('|')})`;
    case 'glob':
      return values.length === 1 ? values[0]! : `{${values.join(',')}}`;
    case 'json':
      return JSON.stringify(values.length === 1 ? values[0] : values);
    case 'doublequote':
      return values.map((v) => `"${v.replace(/"/g, '\\"')}"`).join(',');
    case 'singlequote':
    case 'sqlstring':
      return values.map((v) => `'${v.replace(/'/g, format === 'sqlstring' ? "''" : "\\'")}'`).join(',');
    case 'search':
      // As the search of logs takes it: `field:$name`. A text may be a part of a search itself.
      if (kind === 'text' || kind === 'constant' || kind === 'interval') return values.join(',');
      if (values.length === 0) return '*';
      return values.length === 1 ? valueText(values[0]!) : `(${values.map(valueText).join(' OR ')})`;
    case 'sql':
      // As Grafana does for databases: one choice is a part of a text that is quoted, several are a list.
      if (Array.isArray(entry) || kind === 'constant' || kind === 'interval') return values.join(',');
      if (!multi) return values.map((v) => v.replace(/'/g, "''")).join(',');
      return values.length === 0 ? 'NULL' : values.map((v) => `'${v.replace(/'/g, "''")}'`).join(',');
    case 'percentencode':
      return encodeURIComponent(values.join(','));
    case 'queryparam':
      return values.map((v) => `v-${name}=${encodeURIComponent(v)}`).join('&');
    default:
      // As Grafana does for Prometheus: a single choice is put in as it is, several as a regular expression.
      if (!multi || kind === 'interval' || kind === 'constant' || kind === 'text')
        return values.map((v) => (kind === 'text' ? v : literalIfQuoted(v))).join(',');
      if (values.length === 1 && !all) return literal(escapePromqlRegex(values[0]!));
      return `(${values.map((v) => literal(escapePromqlRegex(v))).join('|')})`;
  }
}

/** A moment in milliseconds, as `date`, `date:iso` or `date:seconds`. */
function dated(ms: string, format: string): string {
  const at = Number(ms);
  if (!Number.isFinite(at)) return ms;
  return format === 'date:seconds' ? String(Math.floor(at / 1000)) : new Date(at).toISOString();
}

const literalIfQuoted = (value: string): string => (/["\\]/.test(value) ? literal(value) : value);

const PATTERN = /\$(\w+)|\$\{(\w+)(?:\.[^:^}]+)?(?::([^}]+))?\}|\[\[(\w+)(?::(\w+))?\]\]/g;

/** Puts variables in. Names that nobody knows stay as they are: they may be PromQL's own. */
export function interpolate(text: string, scope: Scope, ownFormat?: string): string {
  return text.replace(
    PATTERN,
    (whole, plain?: string, braced?: string, format?: string, square?: string, squareFormat?: string) => {
      const name = plain ?? braced ?? square;
      if (name === undefined) return whole;
      const entry = Object.hasOwn(scope, name) ? scope[name] : undefined;
      if (!entry) return whole;
      return formatted(name, entry, format ?? squareFormat ?? ownFormat);
    },
  );
}

/** Names of variables in a text. */
export function namesIn(text: string): string[] {
  return [...text.matchAll(PATTERN)].map((m) => m[1] ?? m[2] ?? m[4] ?? '').filter(Boolean);
}

/** What every panel may use without having said so. */
export function builtins(range: Range, step: number, scrape = 15_000): Scope {
  const seconds = Math.max(1, Math.round((range.to - range.from) / 1000));
  const rate = Math.max(step + scrape, 4 * scrape);
  const one = (text: string | number): string[] => [String(text)];
  return {
    __interval: one(formatDuration(step)),
    __interval_ms: one(step),
    __auto: one(formatDuration(step)),
    __rate_interval: one(formatDuration(rate)),
    __rate_interval_ms: one(rate),
    __range: one(`${seconds}s`),
    __range_s: one(seconds),
    __range_ms: one(seconds * 1000),
    __from: one(Math.round(range.from)),
    __to: one(Math.round(range.to)),
  };
}

export type VariableQuery =
  | { kind: 'labels'; selector: string | null }
  | { kind: 'values'; selector: string | null; label: string }
  | { kind: 'metrics'; pattern: string }
  | { kind: 'result'; expr: string }
  | { kind: 'series'; selector: string };

/** What the text of a query variable asks for. */
export function parseVariableQuery(text: string): VariableQuery | null {
  const trimmed = text.trim();
  const call = /^(label_values|label_names|metrics|query_result)\s*\((.*)\)\s*$/s.exec(trimmed);
  if (!call) return trimmed === '' ? null : { kind: 'series', selector: trimmed };
  const inner = call[2]!.trim();
  switch (call[1]) {
    case 'label_names':
      return { kind: 'labels', selector: inner === '' ? null : inner };
    case 'metrics':
      return { kind: 'metrics', pattern: inner };
    case 'query_result':
      return { kind: 'result', expr: inner };
    default: {
      // The label is what follows the last comma outside of braces and quotes.
      let depth = 0;
      let quoted = '';
      let comma = -1;
      for (let i = 0; i < inner.length; i++) {
        const c = inner[i]!;
        if (quoted !== '') {
          if (c === '\\') i++;
          else if (c === quoted) quoted = '';
        } else if (c === '"' || c === "'" || c === '`') quoted = c;
        else if ('{[('.includes(c)) depth++;
        else if ('}])'.includes(c)) depth--;
        else if (c === ',' && depth === 0) comma = i;
      }
      const label = inner
        .slice(comma + 1)
        .trim()
        .replace(/^"(.*)"$/, '$1');
      return { kind: 'values', selector: comma < 0 ? null : inner.slice(0, comma).trim(), label };
    }
  }
}

/** Applies the regular expression of a variable: it chooses values, and its group a part of each. */
export function applyRegex(values: string[], regex: string | undefined): string[] {
  if (!regex) return values;
  const written = /^\/(.*)\/([a-z]*)$/s.exec(regex);
  let pattern: RegExp;
  try {
    pattern = new RegExp(written?.[1] ?? regex, (written?.[2] ?? '').replace('g', ''));
  } catch {
    return values;
  }
  const out: string[] = [];
  for (const value of values) {
    const found = pattern.exec(value);
    if (found) out.push(found.groups?.value ?? found.groups?.text ?? found[1] ?? found[0] ?? value);
  }
  return [...new Set(out.filter((v) => v !== ''))];
}

export function sortValues(values: string[], sort: Variable['sort']): string[] {
  if (!sort || sort === 'none') return values;
  const number = (text: string): number => Number(/-?\d+(\.\d+)?/.exec(text)?.[0] ?? 0);
  const order = [...values].sort((a, b) => (sort.startsWith('numeric') ? number(a) - number(b) : a.localeCompare(b)));
  return sort.endsWith('desc') ? order.reverse() : order;
}

/** Choices that are written down: with commas, escaped where they hold one; `text : value` is the value. */
export function customValues(text: string): string[] {
  return text
    .split(/(?<!\\),/)
    .map((part) => part.trim().replace(/\\,/g, ','))
    .map((part) => /^.*?\s:\s(.*)$/s.exec(part)?.[1] ?? part)
    .filter((part) => part !== '');
}

/** Asks the server for the values of a variable. */
export async function loadValues(
  variable: Variable,
  scope: Scope,
  range: Range,
  signal?: AbortSignal,
): Promise<string[]> {
  if (variable.kind === 'custom' || variable.kind === 'interval')
    return customValues(interpolate(variable.query, scope));
  if (variable.kind !== 'query') return [variable.query];
  const asked = parseVariableQuery(interpolate(variable.query, scope));
  if (!asked) return [];
  const times = { from: range.from, to: range.to, limit: MAX_VALUES };
  const match = (selector: string | null): string[] | undefined => (selector ? [selector] : undefined);
  let values: string[];
  switch (asked.kind) {
    case 'labels':
      values = (await labelNames({ ...times, match: match(asked.selector) }, signal)).data;
      break;
    case 'values':
      values = isSelector(asked.selector)
        ? (await labelValues(asked.label, { ...times, match: match(asked.selector) }, signal)).data
        : await valuesOfExpression(asked.selector ?? '', asked.label, range, signal);
      break;
    case 'metrics': {
      const pattern = asked.pattern === '' ? '.+' : `.*(?:${asked.pattern}).*`;
      values = (await labelValues('__name__', { ...times, match: [`{__name__=~${JSON.stringify(pattern)}}`] }, signal))
        .data;
      break;
    }
    case 'series':
      values = (await seriesList({ ...times, match: [asked.selector] }, signal)).data.map(seriesName);
      break;
    case 'result': {
      const { data } = await queryInstant({ query: asked.expr, time: range.to }, signal);
      values =
        data.resultType === 'vector'
          ? data.result.map((s) => `${seriesName(s.metric)} ${s.value?.[1] ?? ''} ${(s.value?.[0] ?? 0) * 1000}`)
          : data.resultType === 'scalar'
            ? [data.result[1]]
            : [];
    }
  }
  return sortValues(applyRegex(values, variable.regex), variable.sort);
}

const isSelector = (text: string | null): boolean =>
  text === null || /^[a-zA-Z_:][\w:]*\s*(\{.*\})?$|^\{.*\}$/s.test(text);

/** `label_values` of more than a selector: its expression is evaluated, and the label read from the result. */
async function valuesOfExpression(expr: string, label: string, range: Range, signal?: AbortSignal): Promise<string[]> {
  const { data } = await queryInstant({ query: expr, time: range.to }, signal);
  if (data.resultType !== 'vector') return [];
  return [...new Set(data.result.map((s) => s.metric[label] ?? '').filter((v) => v !== ''))].sort();
}

/** What is chosen: the address, else the first choice of the document, else the first value. */
export function choose(variable: Variable, options: string[], asked: string | string[] | undefined): string[] {
  if (variable.kind === 'text' || variable.kind === 'filters')
    return [typeof asked === 'string' ? asked : (asked?.[0] ?? variable.query)];
  if (variable.kind === 'constant') return [variable.query];
  const wanted = asked === undefined ? (variable.initial ?? []) : Array.isArray(asked) ? asked : [asked];
  const known = wanted.filter((v) => v === ALL || options.includes(v) || options.length === 0);
  const fitting = variable.multi ? known : known.slice(0, 1);
  if (fitting.includes(ALL)) return [ALL];
  if (fitting.length > 0) return fitting;
  // A value from the address that is not listed now may exist in another range: it is kept.
  if (asked !== undefined && wanted.length > 0 && variable.kind === 'query')
    return variable.multi ? wanted : wanted.slice(0, 1);
  if (variable.all) return [ALL];
  return options.length > 0 ? [options[0]!] : [];
}

// Links of dashboards, panels and values: what their addresses name is put in, and nothing becomes an address that a page
// must not follow.

import type { Labels } from '../labels';
import type { RangeText } from '../time';
import type { DashboardLink, Link } from './model';
import { type Chosen, interpolate, type Scope } from './variables';

/** The value that a link stands at. */
export interface LinkedValue {
  raw: number | string | null;
  text: string;
  /** Milliseconds. */
  time?: number;
  /** Of the series, or of the column. */
  name?: string;
  labels?: Labels;
  /** All fields of its row. */
  fields?: [string, string][];
}

export interface LinkContext {
  scope: Scope;
  /** The range as the address has it, and in milliseconds. */
  text: RangeText;
  /** The variables that go along. */
  chosen: Chosen[];
  tenant: string | undefined;
}

export interface Target {
  href: string;
  /** A page of this server: without its origin. */
  isOwn: boolean;
}

/** A parameter as the router reads it: what it would take for a number or a list is quoted. */
function parameter(value: string | string[]): string {
  if (Array.isArray(value)) return JSON.stringify(value);
  try {
    JSON.parse(value);
    return JSON.stringify(value);
  } catch {
    return value;
  }
}

/** The choices of variables as parameters, `v-NAME`, or `var-NAME` as Grafana has them. */
function choices(chosen: Chosen[], isOwn: boolean): [string, string][] {
  return chosen.flatMap(({ variable, values }): [string, string][] => {
    if (variable.kind === 'constant') return [];
    if (isOwn) return [[`v-${variable.name}`, parameter(values.length === 1 ? values[0]! : values)]];
    return values.map((value) => [`var-${variable.name}`, value]);
  });
}

const encoded = (pairs: [string, string][]): string => new URLSearchParams(pairs).toString().replaceAll('+', '%20');

const OF_VALUE = /\$\{(__value|__series|__field|__data)((?:\.[\w-]+|\[(?:"[^"]*"|'[^']*'|\d+)\])*)(?::(\w+))?\}/g;

const steps = (path: string): string[] =>
  [...path.matchAll(/\.([\w-]+)|\["([^"]*)"\]|\['([^']*)'\]|\[(\d+)\]/g)].map(
    (m) => m[1] ?? m[2] ?? m[3] ?? m[4] ?? '',
  );

function partOf(root: string, path: string[], value: LinkedValue): string | undefined {
  const [first, second] = path;
  switch (root) {
    case '__value':
      if (first === 'time') return value.time === undefined ? '' : String(Math.round(value.time));
      if (first === 'numeric') return typeof value.raw === 'number' ? String(value.raw) : '';
      if (first === 'text') return value.text;
      return first === undefined || first === 'raw' ? String(value.raw ?? '') : undefined;
    case '__series':
      return first === 'name' ? (value.name ?? '') : undefined;
    case '__field':
      if (first === 'name' || first === 'displayName') return value.name ?? '';
      if (first === 'labels' && second !== undefined) return value.labels?.[second] ?? '';
      return first === 'labels'
        ? Object.entries(value.labels ?? {})
            .map((l) => l.join('='))
            .join(',')
        : undefined;
    default: {
      if (first !== 'fields' || second === undefined) return undefined;
      const at = value.fields?.findIndex(
        ([name], i) => name === second || (/^\d+$/.test(second) && i === Number(second)),
      );
      return value.fields?.[at ?? -1]?.[1] ?? '';
    }
  }
}

/** The address with everything put in, or null where it is none that may be followed. */
export function targetOf(link: Link, context: LinkContext, value?: LinkedValue): Target | null {
  const { scope, text, chosen, tenant } = context;
  const written = link.url.trim();
  const isOwn = (url: string): boolean => /^\/(?![/\\])/.test(url) || /^\?/.test(url);
  const time: [string, string][] = [
    ['from', text.from],
    ['to', text.to],
  ];
  // What a variable holds is a part of an address; only one that stands at the beginning may bring the beginning.
  const head = /^(?:\$\w+|\$\{\w+(?::\w+)?\}|\[\[\w+\]\])/.exec(written)?.[0] ?? '';
  let url = interpolate(head, scope, 'raw') + interpolate(written.slice(head.length), scope, 'percentencode');
  if (value)
    url = url.replace(OF_VALUE, (whole, root: string, path: string, format?: string) => {
      const found = partOf(root, steps(path), value);
      if (found === undefined) return whole;
      return format === 'raw' ? found : encodeURIComponent(found);
    });
  url = url
    .replace(/\$\{?__url_time_range\}?/g, () => encoded(time))
    .replace(/\$\{?__all_variables\}?/g, () => encoded(choices(chosen, isOwn(url))));
  const own = isOwn(url);
  if (!own && !/^https?:\/\//i.test(url)) return null;
  const [rest = '', hash] = url.split(/(?=#)/);
  const has = (name: string): boolean => new RegExp(`[?&]${name}=`).test(rest);
  const added: [string, string][] = [];
  // From page to page of this server the range always goes along.
  if (link.keepTime || own) added.push(...time.filter(([name]) => !has(name)));
  if (link.keepVariables) added.push(...choices(chosen, own).filter(([name]) => !has(name)));
  if (own && tenant && !has('tenant')) added.push(['tenant', tenant]);
  const joined = added.length === 0 ? rest : `${rest}${rest.includes('?') ? '&' : '?'}${encoded(added)}`;
  const whole = joined + (hash ?? '');
  try {
    new URL(whole, 'http://here/');
  } catch {
    return null;
  }
  return { href: whole, isOwn: own };
}

/** What a link is called. */
export const linkTitle = (link: Link, scope: Scope): string => interpolate(link.title || link.url, scope, 'text');

/** Dashboards that a link by tags leads to: those that have all of them. */
export const taggedBy = <T extends { tags: string[]; uid: string }>(link: DashboardLink, rows: T[], but: string): T[] =>
  rows.filter((row) => row.uid !== but && (link.tags ?? []).every((tag) => row.tags.includes(tag)));

// TraceQL, as far as a page has to know it: its tokens, for colours and completion; how names and values are written in
// it; and how the fields of a form join a query. What is right and wrong is the server's to say.

import type { LogValue } from '../api/logs';
import { KINDS, NS, STATES, type TraceForm } from './traceform';

export type TokenKind = 'space' | 'field' | 'operator' | 'number' | 'text' | 'keyword' | 'mark' | 'word';

export interface Token {
  kind: TokenKind;
  from: number;
  to: number;
}

const SCOPES = ['span', 'resource', 'event', 'link', 'instrumentation'];

/** Fields that every span has. */
export const INTRINSICS = [
  'name',
  'kind',
  'status',
  'statusMessage',
  'duration',
  'traceDuration',
  'rootName',
  'rootServiceName',
  'span:id',
  'span:parentID',
  'trace:id',
  'event:name',
  'link:traceID',
  'link:spanID',
  'instrumentation:name',
  'instrumentation:version',
];

/** What makes numbers over time of spans; a query ends with it. */
const METRICS = [
  'rate',
  'count_over_time',
  'min_over_time',
  'max_over_time',
  'avg_over_time',
  'sum_over_time',
  'quantile_over_time',
  'histogram_over_time',
];

/** What makes stages and numbers of spans. */
export const FUNCTIONS = ['count', 'avg', 'min', 'max', 'sum', 'by', 'select', 'coalesce', ...METRICS];

const QUOTED = /^(?:"(?:\\[\s\S]|[^"\\])*"?|`[^`]*`?)/;
const NAME = '[^\\s{}()=~!<>&|^,"`]';
const FIELD = new RegExp(`^(?:(?:${SCOPES.join('|')})?\\.(?:"(?:\\\\[\\s\\S]|[^"\\\\])*"?|${NAME}+)?)`);
const OPERATOR = /^(?:&&|\|\||!>>|!<<|!~|!=|!>|!<|>>|<<|<=|>=|=~|[=<>~!])/;
const NUMBER = /^[+-]?\d+(?:\.\d+)?(?:ns|us|µs|ms|[smhd])?(?![\w.])/;
const WORD = new RegExp(`^${NAME}+`);

/** The token at a place. Any text is some token: a page colours what is half written, too. */
export function tokenAt(text: string, from: number): Token {
  const rest = text.slice(from);
  const make = (kind: TokenKind, length: number): Token => ({ kind, from, to: from + Math.max(length, 1) });
  const space = /^\s+/.exec(rest);
  if (space) return make('space', space[0].length);
  const quoted = QUOTED.exec(rest);
  if (quoted) return make('text', quoted[0].length);
  const field = FIELD.exec(rest);
  if (field) return make('field', field[0].length);
  const operator = OPERATOR.exec(rest);
  if (operator) return make('operator', operator[0].length);
  if (/^[{}()|,]/.test(rest)) return make('mark', 1);
  const number = NUMBER.exec(rest);
  if (number) return make('number', number[0].length);
  const word = WORD.exec(rest)?.[0] ?? rest[0]!;
  if (INTRINSICS.includes(word) || /^(?:span|trace):/.test(word)) return make('field', word.length);
  if (['true', 'false', 'nil', ...KINDS, ...STATES, ...FUNCTIONS].includes(word)) return make('keyword', word.length);
  return make('word', word.length);
}

export function tokens(text: string): Token[] {
  const out: Token[] = [];
  for (let at = 0; at < text.length; ) {
    const token = tokenAt(text, at);
    out.push(token);
    at = token.to;
  }
  return out;
}

/** A text as TraceQL quotes it. */
export const quoted = (text: string): string => JSON.stringify(text);

/** An attribute as TraceQL names it; without a scope, wherever it is. */
export function attribute(
  scope: '' | 'span' | 'resource' | 'instrumentation' | 'event' | 'link',
  name: string,
): string {
  const plain = new RegExp(`^(?!\\d)${NAME}+$`).test(name);
  return `${scope}.${plain ? name : quoted(name)}`;
}

/** The condition that a field has a value; null where a value is none that a condition can name. */
export function equals(field: string, value: LogValue): string | null {
  if (typeof value === 'string') return `${field} = ${quoted(value)}`;
  if (typeof value === 'bigint' || typeof value === 'boolean') return `${field} = ${value}`;
  if (typeof value === 'number') return Number.isFinite(value) ? `${field} = ${value}` : null;
  return null;
}

/** Whoever writes text does not say whether a number is meant: both are found. */
export function tagCondition(tag: string): string | null {
  const at = tag.indexOf('=');
  if (at < 1) return null;
  const [key, value] = [tag.slice(0, at).trim(), tag.slice(at + 1).trim()];
  const scope = SCOPES.find((one) => key.startsWith(`${one}.`));
  const name = scope ? key.slice(scope.length + 1) : key.replace(/^\./, '');
  if (name === '') return null;
  const field = attribute((scope ?? '') as 'span', name);
  const any = [`${field} = ${quoted(value)}`];
  if (/^-?\d{1,18}$/.test(value) || /^-?\d+\.\d+$/.test(value) || value === 'true' || value === 'false')
    any.push(`${field} = ${value}`);
  return any.length === 1 ? any[0]! : `(${any.join(' || ')})`;
}

/** Nanoseconds as TraceQL writes a duration, exactly. */
export function durationText(ns: number): string {
  const whole = Math.max(0, Math.round(ns));
  for (const unit of ['s', 'ms', 'us'] as const) {
    const size = NS[unit]!;
    if (whole < size) continue;
    const digits = Math.log10(size);
    const rest = String(whole % size)
      .padStart(digits, '0')
      .replace(/0+$/, '');
    return `${Math.floor(whole / size)}${rest === '' ? '' : `.${rest}`}${unit}`;
  }
  return `${whole}ns`;
}

/** The conditions of the fields of a form, all on one span. */
export function conditions(form: TraceForm): string[] {
  const out: (string | null)[] = [];
  if (form.service) out.push(`resource.service.name = ${quoted(form.service)}`);
  if (form.operation) out.push(`name = ${quoted(form.operation)}`);
  if (form.kind) out.push(`kind = ${form.kind}`);
  if (form.status) out.push(`status = ${form.status}`);
  if (form.roots) out.push('span:parentID = nil');
  if (form.dmin) out.push(`duration >= ${form.dmin}`);
  if (form.dmax) out.push(`duration <= ${form.dmax}`);
  if (form.min) out.push(`traceDuration >= ${form.min}`);
  if (form.max) out.push(`traceDuration <= ${form.max}`);
  for (const tag of form.tags ?? []) out.push(tagCondition(tag));
  return out.filter((one) => one !== null);
}

/** A query whose spans meet conditions, too: a stage behind its sets of spans, before all others. */
export function withConditions(query: string, all: string[]): string {
  const trimmed = query.trim();
  if (all.length === 0) return trimmed === '' ? '{ }' : trimmed;
  const filter = `{ ${all.join(' && ')} }`;
  if (trimmed === '' || /^\{\s*\}$/.test(trimmed)) return filter;
  let depth = 0;
  for (const token of tokens(trimmed)) {
    const text = trimmed.slice(token.from, token.to);
    if (token.kind !== 'mark') continue;
    if ('{('.includes(text)) depth += 1;
    else if ('})'.includes(text)) depth -= 1;
    else if (text === '|' && depth === 0)
      return `${trimmed.slice(0, token.from).trimEnd()} | ${filter} ${trimmed.slice(token.from)}`;
  }
  return `${trimmed} | ${filter}`;
}

/** Whether a query asks for numbers over time, not for traces. */
export function asksNumbers(query: string): boolean {
  const list = tokens(query).filter((token) => token.kind !== 'space');
  return list.some((token, i) => {
    const before = list[i - 1];
    return (
      token.kind === 'keyword' &&
      METRICS.includes(query.slice(token.from, token.to)) &&
      before?.kind === 'mark' &&
      query[before.from] === '|'
    );
  });
}

export const formQuery = (form: TraceForm): string => withConditions(form.q ?? '', conditions(form));

/** Where the cursor stands: in a field's name, in a value of a field, or where a stage begins. */
export function completionAt(
  query: string,
  cursor: number,
): { kind: 'field' | 'value' | 'stage'; field: string; from: number; typed: string } | null {
  const list = tokens(query.slice(0, cursor)).filter((token) => token.kind !== 'space');
  const textOf = (token: Token | undefined): string => (token ? query.slice(token.from, token.to) : '');
  let depth = 0;
  for (const token of list) {
    if (token.kind === 'mark' && textOf(token) === '{') depth += 1;
    if (token.kind === 'mark' && textOf(token) === '}') depth -= 1;
  }
  const last = list.at(-1);
  const touches =
    last !== undefined && last.to === cursor && ['field', 'word', 'keyword', 'text', 'number'].includes(last.kind);
  const before = touches ? list.at(-2) : last;
  const typed = touches ? textOf(last) : '';
  const from = touches ? last.from : cursor;
  if (before?.kind === 'operator' && /^(?:=|!=|=~|!~)$/.test(textOf(before))) {
    const field = list.at(touches ? -3 : -2);
    return field?.kind === 'field' ? { kind: 'value', field: textOf(field), from, typed } : null;
  }
  if (depth > 0) return last?.kind === 'text' ? null : { kind: 'field', field: '', from, typed };
  if (before?.kind === 'mark' && textOf(before) === '|') return { kind: 'stage', field: '', from, typed };
  return null;
}

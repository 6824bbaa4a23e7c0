// Log records as a page shows them: levels, texts of values, what of a body stands in a line.

import type { LogRow, LogValue } from '../api/logs';
import { type Run, runsOf } from './ansi';

/** From the gravest down: the order of bars and their key. */
export const LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'none'] as const;
export type Level = (typeof LEVELS)[number];

export const levelOf = (name: string | null | undefined): Level =>
  LEVELS.includes(name as Level) ? (name as Level) : 'none';

const { rawJSON } = JSON as { rawJSON?: (text: string) => unknown };

/** JSON of anything that a record holds. JSON itself has no bigint: its digits are what is meant. */
export const jsonOf = (value: unknown, space?: number): string =>
  JSON.stringify(
    value,
    (_, part) => (typeof part === 'bigint' ? (rawJSON?.(String(part)) ?? Number(part)) : part),
    space,
  );

/** A value as text; lists and maps as JSON, whole numbers of any size. */
export function textOf(value: LogValue | undefined, space?: number): string {
  if (value === undefined || value === null) return '';
  if (typeof value !== 'object') return String(value);
  return jsonOf(value, space);
}

export function typeOf(value: LogValue): string {
  if (value === null) return 'none';
  if (Array.isArray(value)) return 'list';
  if (typeof value === 'bigint' || (typeof value === 'number' && Number.isInteger(value))) return 'int';
  return typeof value === 'number'
    ? 'float'
    : typeof value === 'boolean'
      ? 'bool'
      : typeof value === 'object'
        ? 'map'
        : 'string';
}

/** Characters of a body that a line of the list shows. */
export const LINE_CHARS = 1000;

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f]/g;

/** Control characters as the pictures that Unicode has for them. */
export const visible = (text: string): string =>
  text.replace(CONTROL, (sign) => (sign === '\u007f' ? '\u2421' : String.fromCharCode(0x2400 + sign.charCodeAt(0))));

/** A body in the list, by its looks: one line unless it may wrap, not longer than can be read. `raw` shows what gives looks. */
export function lineRuns(row: LogRow, wrap: boolean, raw = false): Run[] {
  const whole = textOf(row.body);
  const cut = whole.length > LINE_CHARS ? `${whole.slice(0, LINE_CHARS)}…` : whole;
  const runs = (raw ? [{ text: cut, look: {} }] : runsOf(cut)).map(({ text, look }) => ({
    text: text.replace(/\r\n?/g, '\n'),
    look,
  }));
  for (let last = runs.at(-1); !wrap && last; last = runs.at(-1)) {
    last.text = last.text.trimEnd();
    if (last.text !== '') break;
    runs.pop();
  }
  for (const run of runs) run.text = visible(wrap ? run.text : run.text.replaceAll('\n', ' ⏎ '));
  return runs;
}

/** The same without its looks. */
export const lineOf = (row: LogRow, wrap: boolean): string =>
  lineRuns(row, wrap)
    .map((run) => run.text)
    .join('');

/** A field of a record by the name that searches use. */
export function fieldOf(row: LogRow, name: string): LogValue | undefined {
  switch (name) {
    case 'level':
      return row.level;
    case 'severity_text':
      return row.severityText;
    case 'trace_id':
      return row.traceId;
    case 'span_id':
      return row.spanId;
    case 'event_name':
      return row.eventName;
    case 'scope.name':
      return row.scope?.name;
    case 'scope.version':
      return row.scope?.version;
    case 'body':
      return row.body;
  }
  if (name.startsWith('attributes.')) return row.attributes?.[name.slice(11)];
  if (name.startsWith('resource.')) return row.resource?.[name.slice(9)] ?? row.attributes?.[name];
  if (name.startsWith('scope.attributes.')) return row.scope?.attributes?.[name.slice(17)];
  return row.attributes?.[name] ?? row.resource?.[name] ?? row.scope?.attributes?.[name];
}

/** Milliseconds; what a millisecond does not hold is shown from the text. */
export const millisOf = (row: LogRow): number => Number(BigInt(row.timeUnixNano) / 1_000_000n);

/** Parts of a text, those that are looked for apart. */
export function marked(text: string, words: string[]): { text: string; hit: boolean }[] {
  if (words.length === 0) return [{ text, hit: false }];
  const pattern = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('|');
  return text
    .split(new RegExp(`(${pattern})`))
    .map((part, i) => ({ text: part, hit: i % 2 === 1 }))
    .filter((part) => part.text !== '');
}

/** The same of runs, which keep their looks. */
export function markedRuns(runs: Run[], words: string[]): (Run & { hit: boolean })[] {
  const first = runs[0];
  if (!first) return [];
  if (words.length === 0) return runs.map((run) => ({ ...run, hit: false }));
  const parts = marked(runs.map((run) => run.text).join(''), words);
  const out: (Run & { hit: boolean })[] = [];
  let [at, from] = [0, 0];
  for (const part of parts) {
    for (let rest = part.text; rest !== ''; ) {
      const run = runs[at]!;
      const text = rest.slice(0, run.text.length - from);
      if (text !== '') out.push({ text, look: run.look, hit: part.hit });
      rest = rest.slice(text.length);
      from += text.length;
      if (from === run.text.length) [at, from] = [at + 1, 0];
    }
  }
  return out;
}

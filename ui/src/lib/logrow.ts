// Log records as a page shows them: levels, texts of values, what of a body stands in a line.

import type { LogRow, LogValue } from '../api/logs';

/** From the gravest down: the order of bars and their key. */
export const LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'none'] as const;
export type Level = (typeof LEVELS)[number];

export const levelOf = (name: string | null | undefined): Level =>
  LEVELS.includes(name as Level) ? (name as Level) : 'none';

/** A value as text; lists and maps as JSON, whole numbers of any size. */
export function textOf(value: LogValue | undefined, space?: number): string {
  if (value === undefined || value === null) return '';
  if (typeof value !== 'object') return String(value);
  // JSON has no bigint; the digits are what is meant.
  return JSON.stringify(value, (_, part) => (typeof part === 'bigint' ? Number(part) : part), space);
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

// Colours of terminals, and other sequences for them.
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
const ANSI = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|.)/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f]/g;

/** Control characters as the pictures that Unicode has for them. */
export const visible = (text: string): string =>
  text.replace(CONTROL, (sign) => (sign === '\u007f' ? '\u2421' : String.fromCharCode(0x2400 + sign.charCodeAt(0))));

/** A body in the list: without the colours of terminals, one line unless it may wrap, not longer than can be read. */
export function lineOf(row: LogRow, wrap: boolean): string {
  const whole = textOf(row.body);
  const cut = whole.length > LINE_CHARS ? `${whole.slice(0, LINE_CHARS)}…` : whole;
  const plain = cut.replace(ANSI, '').replace(/\r\n?/g, '\n');
  return visible(wrap ? plain : plain.trimEnd().replaceAll('\n', ' ⏎ '));
}

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

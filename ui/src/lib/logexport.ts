// Records as files: lines of text, lines of JSON, or a table.

import type { LogRow } from '../api/logs';
import { withoutAnsi } from './ansi';
import { csvLine } from './csv';
import { fieldOf, jsonOf, textOf } from './logrow';

export type Form = 'text' | 'jsonl' | 'csv';

export const FORMS: Record<Form, { label: string; ending: string; type: string }> = {
  text: { label: 'Text', ending: 'log', type: 'text/plain' },
  jsonl: { label: 'JSON lines', ending: 'jsonl', type: 'application/x-ndjson' },
  csv: { label: 'CSV', ending: 'csv', type: 'text/csv' },
};

/** Records of one file; a search in the terminal has no such end. */
export const MOST_EXPORTED = 50_000;

/** Where no columns are chosen. */
const USUAL = ['service.name', 'trace_id'];

/** A line of text says what the list says: one line each, without colours. */
function textLine(row: LogRow, columns: string[]): string {
  const parts = [row.time, row.level ?? '-', ...columns.map((column) => textOf(fieldOf(row, column)) || '-')];
  const body = withoutAnsi(textOf(row.body)).trimEnd();
  return [...parts, body].map((part) => part.replaceAll('\r', '').replaceAll('\n', '\\n')).join(' ');
}

/** Whole, without what is only its place in this search. */
function jsonLine(row: LogRow): string {
  const { id: _, ...record } = row;
  return jsonOf(record);
}

export function fileOf(rows: LogRow[], form: Form, columns: string[]): string {
  if (form === 'jsonl') return rows.map((row) => `${jsonLine(row)}\n`).join('');
  if (form === 'text') return rows.map((row) => `${textLine(row, columns)}\n`).join('');
  const named = columns.length > 0 ? columns.filter((column) => column !== 'level') : USUAL;
  const head = csvLine(['time', 'level', ...named, 'body']);
  const lines = rows.map((row) =>
    csvLine([row.time, row.level ?? '', ...named.map((column) => textOf(fieldOf(row, column))), textOf(row.body)]),
  );
  return `${[head, ...lines].join('\r\n')}\r\n`;
}

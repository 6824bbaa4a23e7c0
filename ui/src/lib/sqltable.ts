// Answers of SQL as a page shows them: cells as text, CSV, JSON; and names as statements write them.

import type { SqlTable, SqlValue, TableName } from '../api/sql';
import { csvLine } from './csv';
import { jsonOf } from './logrow';

/** A cell as text: what is copied and exported. NULL is empty. */
export function cellText(value: SqlValue): string {
  if (value === null) return '';
  if (typeof value !== 'object') return String(value);
  return jsonOf(value);
}

export function csvOf(table: SqlTable, separator = ','): string {
  const line = (texts: string[]): string => csvLine(texts, separator);
  return [line(table.columns.map((c) => c.name)), ...table.rows.map((row) => line(row.map(cellText)))].join('\r\n');
}

export const isNumeric = (type: string): boolean => /^(double|real|bigint|integer|smallint|decimal)\b/.test(type);

/** Something to order cells by: numbers as such, the rest as text. */
export function sortKey(value: SqlValue, type: string): number | string {
  if (value === null) return isNumeric(type) ? Number.NEGATIVE_INFINITY : '';
  return isNumeric(type) ? Number(value) : cellText(value);
}

/** A name as a statement writes it: quoted where it would be folded or end. */
export const identifier = (name: string): string =>
  /^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`;

/** A table as a statement names it. */
export const tableText = ({ schema, name }: TableName): string =>
  schema === 'public' ? identifier(name) : `${identifier(schema)}.${identifier(name)}`;

/** Rows as JSON: a list of objects. */
export function jsonRows(table: SqlTable): string {
  const names = table.columns.map((column) => column.name);
  const lines = table.rows.map((row) => jsonOf(Object.fromEntries(names.map((name, i) => [name, row[i] ?? null]))));
  return lines.length > 0 ? `[\n${lines.join(',\n')}\n]\n` : '[]\n';
}

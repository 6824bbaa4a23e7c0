// Answers of SQL as a page shows them: cells as text, CSV, a chart where there is a time; and names as statements write
// them.

import type { SqlTable, SqlValue, TableName } from '../api/sql';
import type { Frame } from './frame';

/** A cell as text: what is copied and exported. NULL is empty. */
export function cellText(value: SqlValue): string {
  if (value === null) return '';
  if (typeof value !== 'object') return String(value);
  return JSON.stringify(value, (_, part) => (typeof part === 'bigint' ? Number(part) : part));
}

export function csvOf(table: SqlTable, separator = ','): string {
  const needs = new RegExp(`["\\n\\r${separator}]`);
  const cell = (text: string): string => (needs.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const line = (texts: string[]): string => texts.map(cell).join(separator);
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

const UNITS = [
  ['bytes', 'bytes'],
  ['seconds', 's'],
] as const;

/** Series that are drawn. */
const MOST_SERIES = 100;

export interface SqlChart {
  frame: Frame;
  from: number;
  to: number;
  /** Series there are, also those that are not drawn. */
  series: number;
  /** What the numbers are, where the names of all their columns say it. */
  unit: string | undefined;
  /** Whether most series have no value at most times: then points say more than lines. */
  sparse: boolean;
}

/** Rows along their first time: a series for each number and each combination of texts. Null where there is none. */
export function chartOf(table: SqlTable): SqlChart | null {
  const time = table.columns.findIndex((c) => c.type === 'timestamp' || c.type === 'date');
  const numbers = table.columns.flatMap((c, i) => (isNumeric(c.type) ? [i] : []));
  const labels = table.columns.flatMap((c, i) => (['text', 'boolean', 'map'].includes(c.type) ? [i] : []));
  if (time < 0 || numbers.length === 0) return null;
  const found = new Map<string, { labels: Record<string, string>; points: Map<number, number> }>();
  const times = new Set<number>();
  for (const row of table.rows) {
    const at = Date.parse(String(row[time]));
    if (Number.isNaN(at)) continue;
    const of = Object.fromEntries(labels.map((i) => [table.columns[i]!.name, cellText(row[i]!)]));
    for (const i of numbers) {
      const value = row[i];
      if (value === null || value === undefined) continue;
      const named = numbers.length > 1 ? { ...of, column: table.columns[i]!.name } : of;
      const key = JSON.stringify([i, Object.values(of)]);
      const series = found.get(key) ?? { labels: named, points: new Map<number, number>() };
      series.points.set(at, Number(value));
      found.set(key, series);
      times.add(at);
    }
  }
  if (times.size === 0) return null;
  const sorted = [...times].sort((a, b) => a - b);
  const shown = [...found].slice(0, MOST_SERIES);
  const points = shown.reduce((sum, [, series]) => sum + series.points.size, 0);
  return {
    frame: {
      times: sorted,
      series: shown.map(([id, { labels: of, points: values }], i) => ({
        id,
        labels: of,
        name: Object.values(of).join(' · ') || table.columns[numbers[i] ?? numbers[0]!]!.name,
        values: sorted.map((at) => values.get(at) ?? null),
        query: 0,
      })),
    },
    from: sorted[0]!,
    to: Math.max(sorted.at(-1)!, sorted[0]! + 1000),
    series: found.size,
    unit: UNITS.find(([end]) => numbers.every((i) => table.columns[i]!.name.endsWith(end)))?.[1],
    sparse: points < 0.5 * shown.length * sorted.length,
  };
}

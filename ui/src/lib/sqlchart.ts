// Answers of SQL as charts: along a time, a number, or names; a series for each column of numbers and each combination of
// what other columns say.

import type { SqlTable, SqlValue } from '../api/sql';
import type { Frame, FrameSeries } from './frame';
import type { ChartSpec } from './notebook';
import { cellText, isNumeric } from './sqltable';

const UNITS = [
  ['bytes', 'bytes'],
  ['seconds', 's'],
] as const;

/** Series and names that are drawn. */
export const MOST_SERIES = 100;
export const MOST_NAMES = 200;

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

/** A chart along anything: `along` says what the frame's times are. */
export interface Drawn extends SqlChart {
  along: 'time' | 'number' | 'names';
  /** Of names: what they are; the frame's times are their positions. */
  names: string[];
  /** Names there are, also those that are not drawn. */
  allNames: number;
  /** Rows of which another has the same place: the last one is drawn. */
  covered: number;
}

export const isTime = (type: string): boolean => type === 'timestamp' || type === 'date';
const isText = (type: string): boolean => ['text', 'boolean', 'map'].includes(type);

/** Columns by what a chart can do with them. */
export const xColumns = ({ columns }: SqlTable): string[] => columns.map((column) => column.name);
export const yColumns = ({ columns }: SqlTable): string[] =>
  columns.filter((column) => isNumeric(column.type)).map((column) => column.name);

/** What is drawn where nobody has said it; null where nothing can be. */
export function usual(table: SqlTable): Required<Omit<ChartSpec, 'draw'>> | null {
  const { columns } = table;
  const x =
    columns.find((column) => isTime(column.type)) ?? columns.find((column) => isText(column.type)) ?? columns[0];
  const y = yColumns(table).filter((name) => name !== x?.name);
  if (!x || y.length === 0) return null;
  const by = columns.filter((column) => isText(column.type) && column !== x).map((column) => column.name);
  return { x: x.name, y, by };
}

const timeOf = (value: SqlValue | undefined): number => Date.parse(String(value));

/** What a spec means for a table: names of columns that it does not have are left out. */
export function meant(table: SqlTable, spec: ChartSpec | undefined): Required<Omit<ChartSpec, 'draw'>> | null {
  const otherwise = usual(table);
  const has = (name: string): boolean => table.columns.some((column) => column.name === name);
  const numbers = new Set(yColumns(table));
  const x = spec?.x !== undefined && has(spec.x) ? spec.x : otherwise?.x;
  if (x === undefined) return null;
  const y = (spec?.y?.filter((name) => numbers.has(name)) ?? otherwise?.y ?? [...numbers]).filter((name) => name !== x);
  const by = (spec?.by?.filter(has) ?? otherwise?.by ?? []).filter((name) => name !== x && !y.includes(name));
  return y.length > 0 ? { x, y, by } : null;
}

export function drawn(table: SqlTable, spec?: ChartSpec): Drawn | null {
  const chosen = meant(table, spec);
  if (!chosen) return null;
  const at = (name: string): number => table.columns.findIndex((column) => column.name === name);
  const [x, numbers, labels] = [at(chosen.x), chosen.y.map(at), chosen.by.map(at)];
  const { type } = table.columns[x]!;
  const along = isTime(type) ? 'time' : isNumeric(type) ? 'number' : 'names';
  const names = new Map<string, number>();
  const place = (value: SqlValue | undefined): number => {
    if (along === 'time') return timeOf(value);
    if (along === 'number') return value === null || value === undefined ? Number.NaN : Number(value);
    const name = cellText(value ?? null);
    const known = names.get(name) ?? names.size;
    names.set(name, known);
    return known;
  };
  const found = new Map<string, { column: number; labels: Record<string, string>; points: Map<number, number> }>();
  const times = new Set<number>();
  let covered = 0;
  for (const row of table.rows) {
    const key = place(row[x]);
    if (!Number.isFinite(key)) continue;
    const of = Object.fromEntries(labels.map((i) => [table.columns[i]!.name, cellText(row[i] ?? null)]));
    for (const i of numbers) {
      const value = row[i];
      if (value === null || value === undefined) continue;
      const id = JSON.stringify([i, Object.values(of)]);
      const series = found.get(id) ?? {
        column: i,
        labels: numbers.length > 1 ? { ...of, column: table.columns[i]!.name } : of,
        points: new Map<number, number>(),
      };
      if (series.points.has(key)) covered += 1;
      series.points.set(key, Number(value));
      found.set(id, series);
      times.add(key);
    }
  }
  if (times.size === 0) return null;
  const all = [...times].sort((a, b) => a - b);
  const sorted = along === 'names' ? all.slice(0, MOST_NAMES) : all;
  const shown = [...found].slice(0, MOST_SERIES);
  const points = shown.reduce((sum, [, series]) => sum + series.points.size, 0);
  const list = [...names.keys()];
  return {
    along,
    names: along === 'names' ? sorted.map((i) => list[i]!) : [],
    allNames: along === 'names' ? all.length : 0,
    covered,
    frame: {
      times: sorted,
      series: shown.map(
        ([id, { column, labels: of, points: values }]): FrameSeries => ({
          id,
          labels: of,
          name: Object.values(of).join(' · ') || table.columns[column]!.name,
          values: sorted.map((key) => values.get(key) ?? null),
          query: 0,
        }),
      ),
    },
    from: sorted[0]!,
    to: along === 'number' ? sorted.at(-1)! : Math.max(sorted.at(-1)!, sorted[0]! + 1000),
    series: found.size,
    unit: UNITS.find(([end]) => numbers.every((i) => table.columns[i]!.name.endsWith(end)))?.[1],
    sparse: points < 0.5 * shown.length * sorted.length,
  };
}

/** Rows along their first time: a series for each number and each combination of texts. Null where there is none. */
export function chartOf(table: SqlTable): SqlChart | null {
  const chosen = usual(table);
  const chart = chosen && table.columns.some((c) => c.name === chosen.x && isTime(c.type)) ? drawn(table) : null;
  return chart;
}

// The heat of durations: what the server counts by powers of two becomes rows without holes, from the shortest duration
// that was seen to the longest.

import type { TraceSeries } from '../api/traces';
import type { Heat, HeatRow } from './heatmap';

/** Rows of a picture at most; durations from nanoseconds to days are fewer. */
const MOST_ROWS = 60;

/** Buckets are upper bounds in seconds, powers of two of nanoseconds; a value of no time at all is in the least. */
const powerOf = (bound: number): number => (bound <= 0 ? 0 : Math.max(0, Math.round(Math.log2(bound * 1e9))));

const seconds = (power: number): number => 2 ** power / 1e9;

/** Of the series of `histogram_over_time`; times are milliseconds. */
export function traceHeat(series: TraceSeries[], from: number, to: number, step: number): Heat {
  const steps = Math.min(Math.max(Math.ceil((to - from) / step), 1), 5000);
  // Steps of a heat end at their times.
  const times = Array.from({ length: steps }, (_, i) => from + (i + 1) * step);
  const counted = new Map<number, (number | null)[]>();
  let max = 0;
  for (const one of series) {
    const power = powerOf(Number(one.labels.__bucket));
    if (!Number.isFinite(power)) continue;
    const counts = counted.get(power) ?? new Array<number | null>(steps).fill(null);
    for (const [at, count] of one.values) {
      const column = Math.round((at * 1000 - from) / step);
      if (column < 0 || column >= steps || count === 0) continue;
      counts[column] = (counts[column] ?? 0) + count;
      max = Math.max(max, counts[column]!);
    }
    counted.set(power, counts);
  }
  const powers = [...counted.keys()];
  if (powers.length === 0) return { times, step, rows: [], max, kind: 'native' };
  const [least, most] = [Math.min(...powers), Math.max(...powers)];
  const rows: HeatRow[] = [];
  for (let power = least; power <= most && rows.length < MOST_ROWS; power++) {
    rows.push({
      lower: power === 0 ? 0 : seconds(power - 1),
      upper: seconds(power),
      counts: counted.get(power) ?? new Array<number | null>(steps).fill(null),
    });
  }
  return { times, step, rows, max, kind: 'native' };
}

/** All that a heat counts. */
export const heatTotal = (heat: Heat, inside: (column: number, row: HeatRow) => boolean = () => true): number =>
  heat.rows.reduce(
    (sum, row) => sum + row.counts.reduce<number>((part, count, i) => part + (inside(i, row) ? (count ?? 0) : 0), 0),
    0,
  );

/** A chosen part in an address: milliseconds and nanoseconds. */
export interface TraceBox {
  from: number;
  to: number;
  lowerNs: number;
  upperNs: number;
}

export const boxText = (box: TraceBox): string =>
  `${Math.floor(box.from)}-${Math.ceil(box.to)},${Math.round(box.lowerNs)}-${Math.round(box.upperNs)}`;

export function parseBox(text: string | undefined): TraceBox | null {
  const found = /^(\d{1,14})-(\d{1,14}),(\d{1,18})-(\d{1,18})$/.exec(text ?? '');
  if (!found) return null;
  const [from, to, lowerNs, upperNs] = [1, 2, 3, 4].map((i) => Number(found[i])) as [number, number, number, number];
  return from < to && lowerNs < upperNs ? { from, to, lowerNs, upperNs } : null;
}

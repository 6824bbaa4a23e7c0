// Heatmaps from histograms: classic ones (a series a `le`, cumulative) and native ones (buckets in each point). Both
// become cells: a column a step, a row a bucket, a count.

import type { MatrixSeries } from '../api/prometheus';
import { gridTimes, parseValue } from './frame';

export interface HeatRow {
  lower: number;
  upper: number;
  counts: (number | null)[];
}

export interface Heat {
  times: number[];
  step: number;
  /** From the smallest bucket up. */
  rows: HeatRow[];
  max: number;
  /** Which kind of histogram it was made from. */
  kind: 'classic' | 'native';
}

/** Most rows that are drawn; native histograms with more are merged. */
const MAX_ROWS = 160;

export function isHistogram(result: MatrixSeries[]): boolean {
  return result.some((s) => (s.histograms?.length ?? 0) > 0 || 'le' in s.metric);
}

export function heatOf(result: MatrixSeries[], from: number, to: number, step: number): Heat | null {
  const times = gridTimes(from, to, step);
  if (result.some((s) => (s.histograms?.length ?? 0) > 0)) return native(result, times, from, step);
  if (result.some((s) => 'le' in s.metric)) return classic(result, times, from, step);
  return null;
}

function largest(rows: HeatRow[]): number {
  let max = 0;
  for (const row of rows) for (const count of row.counts) if (count !== null && count > max) max = count;
  return max;
}

function classic(result: MatrixSeries[], times: number[], from: number, step: number): Heat {
  // Series that share a bound are added up: the heat of a whole selection.
  const bounds = new Map<number, (number | null)[]>();
  for (const series of result) {
    const le = series.metric.le;
    if (le === undefined || !series.values) continue;
    const bound = parseValue(le);
    if (Number.isNaN(bound)) continue;
    const column = bounds.get(bound) ?? new Array<number | null>(times.length).fill(null);
    for (const [seconds, text] of series.values) {
      const at = Math.round((seconds * 1000 - from) / step);
      const value = parseValue(text);
      if (at >= 0 && at < column.length && Number.isFinite(value)) column[at] = (column[at] ?? 0) + value;
    }
    bounds.set(bound, column);
  }
  const sorted = [...bounds].sort((a, b) => a[0] - b[0]);
  const rows = sorted.map(([upper, cumulative], i): HeatRow => {
    const below = sorted[i - 1];
    return {
      lower: below ? below[0] : upper > 0 ? 0 : Number.NEGATIVE_INFINITY,
      upper,
      // A count that falls from bucket to bucket comes from buckets scraped at different moments: nothing, not less.
      counts: cumulative.map((value, t) => (value === null ? null : Math.max(0, value - (below?.[1][t] ?? 0)))),
    };
  });
  return { times, step, rows, max: largest(rows), kind: 'classic' };
}

function native(result: MatrixSeries[], times: number[], from: number, step: number): Heat {
  const rows = new Map<string, HeatRow>();
  for (const series of result) {
    for (const [seconds, histogram] of series.histograms ?? []) {
      const at = Math.round((seconds * 1000 - from) / step);
      if (at < 0 || at >= times.length) continue;
      for (const [, low, high, text] of histogram.buckets ?? []) {
        const [lower, upper, count] = [parseValue(low), parseValue(high), parseValue(text)];
        const key = `${lower}:${upper}`;
        let row = rows.get(key);
        if (!row) {
          row = { lower, upper, counts: new Array<number | null>(times.length).fill(null) };
          rows.set(key, row);
        }
        row.counts[at] = (row.counts[at] ?? 0) + count;
      }
    }
  }
  let sorted = [...rows.values()].sort((a, b) => a.upper - b.upper || a.lower - b.lower);
  while (sorted.length > MAX_ROWS) sorted = halved(sorted);
  return { times, step, rows: sorted, max: largest(sorted), kind: 'native' };
}

function halved(rows: HeatRow[]): HeatRow[] {
  const out: HeatRow[] = [];
  for (let i = 0; i < rows.length; i += 2) {
    const [a, b] = [rows[i]!, rows[i + 1]];
    if (!b) {
      out.push(a);
      continue;
    }
    out.push({
      lower: a.lower,
      upper: b.upper,
      counts: a.counts.map((count, t) =>
        count === null && b.counts[t] === null ? null : (count ?? 0) + (b.counts[t] ?? 0),
      ),
    });
  }
  return out;
}

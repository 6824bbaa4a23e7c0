// Which labels of a chart's series account for the difference between a part of its time and the rest: of each value, the
// share of the total inside and outside, in the browser, of the numbers that are drawn.
//
// The total is the sum over all series of their mean over the steps. A step without a value adds nothing, nor do NaN,
// infinities and negative numbers: shares are of what is there. How many numbers are left out for that is told.

import { type Differing, differing, MOST_VALUES, ranked } from './compare';
import type { FrameSeries } from './frame';
import type { Labels } from './labels';
import type { Range } from './time';

/** Numbers that are added up; of more, every second, third, ... step of either side is taken. */
export const MOST_NUMBERS = 4_000_000;
/** Series whose labels are looked at: those with the most on either side. */
export const MOST_SERIES = 20_000;
/** Names of labels that are compared. */
export const MOST_LABELS = 200;

export interface SeriesComparison {
  series: number;
  /** Steps on either side, and how many of both were looked at. */
  inside: number;
  outside: number;
  looked: number;
  /** Means of the total. */
  selection: number;
  baseline: number;
  negative: number;
  /** NaN and infinities. */
  strange: number;
  fields: Differing[];
  /** Labels with too many values. */
  leftOut: string[];
  /** Labels and series beyond the limits. */
  moreLabels: number;
  moreSeries: number;
}

/** Names of labels that are not the same for all series. */
function varying(series: { labels: Labels }[]): string[] {
  const first = new Map<string, string>();
  const seen = new Map<string, number>();
  const differ = new Set<string>();
  for (const { labels } of series) {
    for (const name in labels) {
      const value = labels[name]!;
      if (!first.has(name)) first.set(name, value);
      else if (first.get(name) !== value) differ.add(name);
      seen.set(name, (seen.get(name) ?? 0) + 1);
    }
  }
  for (const [name, count] of seen) if (count < series.length) differ.add(name);
  return [...differ].sort();
}

export function compareSeries(
  series: FrameSeries[],
  times: number[],
  part: Range,
  limits = { numbers: MOST_NUMBERS, series: MOST_SERIES, labels: MOST_LABELS },
): SeriesComparison {
  const isInside = (i: number): boolean => times[i]! >= part.from && times[i]! <= part.to;
  const all = Array.from(times.keys());
  const [inside, outside] = [all.filter(isInside), all.filter((i) => !isInside(i))];
  // Half of the numbers for either side: a short part keeps all of its steps.
  const some = (steps: number[]): number[] => {
    const every = Math.max(1, Math.ceil((2 * series.length * steps.length) / limits.numbers));
    return steps.filter((_, k) => k % every === 0);
  };
  const [within, beside] = [some(inside), some(outside)];
  const own = new Float64Array(series.length);
  const other = new Float64Array(series.length);
  let [negative, strange, selection, baseline] = [0, 0, 0, 0];
  const mean = ({ values, negated }: FrameSeries, steps: number[]): number => {
    let sum = 0;
    for (const i of steps) {
      const value = values[i];
      if (value === null || value === undefined) continue;
      const size = negated ? -value : value;
      if (!Number.isFinite(size)) strange += 1;
      else if (size < 0) negative += 1;
      else sum += size;
    }
    return sum / Math.max(1, steps.length);
  };
  series.forEach((one, s) => {
    own[s] = mean(one, within);
    other[s] = mean(one, beside);
    selection += own[s]!;
    baseline += other[s]!;
  });
  const answer: SeriesComparison = {
    series: series.length,
    inside: inside.length,
    outside: outside.length,
    looked: within.length + beside.length,
    selection,
    baseline,
    negative,
    strange,
    fields: [],
    leftOut: [],
    moreLabels: 0,
    moreSeries: 0,
  };
  if (!(selection > 0) || !(baseline > 0)) return answer;

  return { ...answer, ...compareLabels(series, own, other, selection, baseline, limits) };
}

/** The labels by which series tell a selection from a baseline, by what each series has of both. */
export function compareLabels(
  series: { labels: Labels }[],
  own: ArrayLike<number>,
  other: ArrayLike<number>,
  selection: number,
  baseline: number,
  limits = { series: MOST_SERIES, labels: MOST_LABELS },
): Pick<SeriesComparison, 'fields' | 'leftOut' | 'moreLabels' | 'moreSeries'> {
  let order = Array.from(series.keys());
  let moreSeries = 0;
  if (order.length > limits.series) {
    const share = (s: number): number => Math.max(own[s]! / selection, other[s]! / baseline);
    order = order.sort((a, b) => share(b) - share(a)).slice(0, limits.series);
    moreSeries = series.length - order.length;
  }
  const names = varying(order.map((s) => series[s]!));
  const fields: Differing[] = [];
  const leftOut: string[] = [];
  for (const name of names.slice(0, limits.labels)) {
    const sums = new Map<string, [string, number, number]>();
    for (const s of order) {
      const value = series[s]!.labels[name] ?? '';
      const sum = sums.get(value);
      if (sum) {
        sum[1] += own[s]!;
        sum[2] += other[s]!;
      } else sums.set(value, [value, own[s]!, other[s]!]);
      if (sums.size > MOST_VALUES) break;
    }
    if (sums.size > MOST_VALUES) leftOut.push(name);
    else fields.push(differing(name, sums.values(), selection, baseline));
  }
  return { fields: ranked(fields), leftOut, moreLabels: Math.max(0, names.length - limits.labels), moreSeries };
}

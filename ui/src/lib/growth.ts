// How numbers of series have grown: counts at two moments, side by side.

import type { InstantData } from '../api/prometheus';
import { parseValue } from './frame';
import { escapeRegex, quote } from './labels';

/** Metrics that are compared: those with most series. */
export const METRICS_COMPARED = 50;
export const LABELS_COMPARED = 12;

export interface Grown {
  name: string;
  now: number;
  before: number;
}

/** Series of some metrics at one moment. */
export const countQuery = (metrics: string[]): string =>
  `count by (__name__) ({__name__=~${quote(metrics.slice(0, METRICS_COMPARED).map(escapeRegex).join('|'))}})`;

export function countsOf(data: InstantData): Map<string, number> {
  const rows = data.resultType === 'vector' ? data.result : [];
  return new Map(rows.map(({ metric, value }) => [metric.__name__ ?? '', value ? parseValue(value[1]) : 0]));
}

/** What changed most, growth first. */
export function grown(now: Map<string, number>, before: Map<string, number>): Grown[] {
  return [...new Set([...now.keys(), ...before.keys()])]
    .map((name) => ({ name, now: now.get(name) ?? 0, before: before.get(name) ?? 0 }))
    .filter((row) => row.now !== row.before)
    .sort((a, b) => b.now - b.before - (a.now - a.before) || a.name.localeCompare(b.name));
}

/** `+120, +50 %`, `new`. */
export function changeText({ now, before }: Grown, format: (n: number) => string): string {
  const by = now - before;
  const sign = by > 0 ? '+' : '−';
  if (before === 0) return `+${format(now)}, new`;
  return `${sign}${format(Math.abs(by))}, ${sign}${((Math.abs(by) / before) * 100).toFixed(Math.abs(by) < before / 10 ? 1 : 0)} %`;
}

// Rate, errors and duration of services and of their operations, from spans counted by the server. What a service is
// asked for are its server spans, else what it takes from queues, else what it has most of.

import type { TraceSeries } from '../api/traces';
import type { Frame } from './frame';
import { quoted } from './traceql';

/** The quantiles that are asked for. */
export const QUANTILES = [0.5, 0.95, 0.99];

export interface RedQueries {
  rate: string;
  errors: string;
  quantiles: string;
}

/** The three questions about spans, by some fields. */
export function redQueries(service: string | undefined, by: string[]): RedQueries {
  const of = service === undefined ? [] : [`resource.service.name = ${quoted(service)}`];
  const group = by.length === 0 ? '' : ` by (${by.join(', ')})`;
  const filter = (all: string[]): string => (all.length === 0 ? '{ }' : `{ ${all.join(' && ')} }`);
  return {
    rate: `${filter(of)} | rate()${group}`,
    errors: `${filter([...of, 'status = error'])} | rate()${group}`,
    quantiles: `${filter(of)} | quantile_over_time(duration, ${QUANTILES.join(', ')})${group}`,
  };
}

export interface Red {
  /** Values of the fields that it is grouped by. */
  key: string;
  kind: string;
  spans: number;
  /** Spans a second, over all of the time. */
  rate: number;
  /** Share of them that failed. */
  errors: number;
  /** By quantile; null where there is none. */
  quantiles: (number | null)[];
  /** Spans a second, bucket by bucket; those that failed. */
  trend: number[];
  failed: number[];
}

const textOf = (value: unknown): string => (value === null || value === undefined ? '' : String(value));

/** Rows of what the three questions gave, by a field and the kind. `seconds` is all of the time, `step` a bucket. */
export function redRows(
  answers: { rate: TraceSeries[]; errors: TraceSeries[]; quantiles: TraceSeries[] },
  field: string,
  seconds: number,
  step: number,
): Red[] {
  const rows = new Map<string, Red>();
  const of = (labels: TraceSeries['labels']): string => `${textOf(labels.kind)} ${textOf(labels[field])}`;
  for (const { labels, values } of answers.rate) {
    const trend = values.map(([, number]) => number);
    const spans = trend.reduce((sum, number) => sum + number, 0) * step;
    if (spans === 0) continue;
    rows.set(of(labels), {
      key: textOf(labels[field]),
      kind: textOf(labels.kind),
      spans: Math.round(spans),
      rate: spans / seconds,
      errors: 0,
      quantiles: QUANTILES.map(() => null),
      trend,
      failed: trend.map(() => 0),
    });
  }
  for (const { labels, values } of answers.errors) {
    const row = rows.get(of(labels));
    if (!row) continue;
    row.failed = values.map(([, number]) => number);
    row.errors = Math.min(1, (row.failed.reduce((sum, number) => sum + number, 0) * step) / Math.max(1, row.spans));
  }
  for (const { labels, values } of answers.quantiles) {
    const at = QUANTILES.indexOf(Number(labels.p));
    const row = rows.get(of(labels));
    if (row && at >= 0) row.quantiles[at] = values.at(-1)?.[1] ?? null;
  }
  return [...rows.values()];
}

/** The kind that tells of what a service is asked. */
export function entryKind(kinds: { kind: string; spans: number }[]): string | undefined {
  for (const wanted of ['server', 'consumer']) {
    const found = kinds.find((one) => one.kind === wanted);
    if (found && found.spans > 0) return wanted;
  }
  return [...kinds].sort((a, b) => b.spans - a.spans)[0]?.kind;
}

/** A row a service: that of its entry kind. */
export function byService(rows: Red[]): Red[] {
  const kinds = new Map<string, Red[]>();
  for (const row of rows) kinds.set(row.key, [...(kinds.get(row.key) ?? []), row]);
  return [...kinds.values()].map((all) => {
    const kind = entryKind(all);
    return all.find((row) => row.kind === kind)!;
  });
}

/** Series over time as charts draw them. */
export function frameOfTraces(
  series: TraceSeries[],
  from: number,
  to: number,
  step: number,
  name: (labels: TraceSeries['labels']) => string,
): Frame {
  const steps = Math.min(Math.max(Math.ceil((to - from) / step), 1), 5000);
  return {
    times: Array.from({ length: steps }, (_, i) => from + i * step),
    series: series.map(({ labels, values }) => {
      const column = new Array<number | null>(steps).fill(null);
      for (const [seconds, number] of values) {
        const at = Math.round((seconds * 1000 - from) / step);
        if (at >= 0 && at < steps) column[at] = number;
      }
      const shown = name(labels);
      const own = Object.fromEntries(Object.entries(labels).map(([key, value]) => [key, textOf(value)]));
      return { labels: own, id: `0:${shown}`, name: shown, values: column, query: 0 };
    }),
  };
}

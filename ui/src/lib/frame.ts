// Answers turned into what charts draw: one row of times, one column of values a series.

import type { InstantData, MatrixSeries, NativeHistogram, VectorSample } from '../api/prometheus';
import type { Columns } from './columns';
import { type Labels, labelName, legendText, quote, seriesName, varyingLabels } from './labels';

export interface FrameSeries {
  labels: Labels;
  /** What identifies it, whole. */
  id: string;
  /** What the legend says. */
  name: string;
  values: (number | null)[];
  /** Of which query. */
  query: number;
  /** Drawn below zero on purpose: the values are the other way round. */
  negated?: boolean;
}

export interface Frame {
  /** Milliseconds. */
  times: number[];
  series: FrameSeries[];
}

/** A value as the API writes it. */
export function parseValue(text: string): number {
  if (text === '+Inf' || text === 'Inf') return Number.POSITIVE_INFINITY;
  if (text === '-Inf') return Number.NEGATIVE_INFINITY;
  return Number(text);
}

export function gridTimes(from: number, to: number, step: number): number[] {
  const count = Math.floor((to - from) / step + 1e-9) + 1;
  // The server allows some ten thousand steps; a larger number is a fault of ours.
  return Array.from({ length: Math.min(Math.max(count, 1), 50_000) }, (_, i) => from + i * step);
}

/** A matrix on the steps that were asked for; where a series has no point, there is a gap. */
export function frameOf(
  answers: { result: MatrixSeries[]; template?: string; query: number }[],
  from: number,
  to: number,
  step: number,
): Frame {
  const times = gridTimes(from, to, step);
  const series: FrameSeries[] = [];
  for (const { result, template, query } of answers) {
    const names = shortNames(
      result.map((r) => r.metric),
      template,
    );
    result.forEach((row, i) => {
      if (!row.values || row.values.length === 0) return;
      const values = new Array<number | null>(times.length).fill(null);
      for (const [seconds, text] of row.values) {
        const at = Math.round((seconds * 1000 - from) / step);
        if (at >= 0 && at < values.length) values[at] = parseValue(text);
      }
      series.push({ labels: row.metric, id: `${query}:${seriesName(row.metric)}`, name: names[i]!, values, query });
    });
  }
  return { times, series };
}

export function frameOfColumns(columns: Columns, template?: string): Frame {
  const times = Array.from({ length: columns.steps }, (_, i) => columns.start + i * columns.step);
  const names = shortNames(
    columns.series.map((s) => s.labels),
    template,
  );
  return {
    times,
    series: columns.series.map(({ labels, values }, i) => ({
      labels,
      id: `0:${seriesName(labels)}`,
      name: names[i]!,
      values,
      query: 0,
    })),
  };
}

/** Names that say what differs: the metric's name, and the labels that are not the same for all. */
export function shortNames(all: Labels[], template?: string): string[] {
  if (template && template !== '__auto') return all.map((labels) => legendText(template, labels) || seriesName(labels));
  // A sum over everything has no labels: there is nothing that its name could say.
  if (all.length <= 1) return all.map((labels) => labels.__name__ ?? seriesName(labels).replace(/^\{\}$/, 'value'));
  const varying = varyingLabels(all);
  return all.map((labels) => {
    const keys = Object.keys(labels)
      .filter((key) => key !== '__name__' && varying.has(key))
      .sort();
    if (keys.length === 0) return seriesName(labels);
    const head = varying.has('__name__') ? (labels.__name__ ?? '') : '';
    if (keys.length === 1 && head === '') return labels[keys[0]!] || '""';
    return `${head}{${keys.map((key) => `${labelName(key)}=${quote(labels[key]!)}`).join(', ')}}`;
  });
}

export interface Reduced {
  last: number | null;
  first: number | null;
  min: number | null;
  max: number | null;
  mean: number | null;
  sum: number | null;
  count: number;
}

/** One number each of a column: gaps and NaN do not count. */
export function reduce(values: (number | null)[]): Reduced {
  let [last, first, min, max, sum, count]: [number | null, number | null, number, number, number, number] = [
    null,
    null,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    0,
    0,
  ];
  for (const value of values) {
    if (value === null || Number.isNaN(value)) continue;
    first ??= value;
    last = value;
    if (value < min) min = value;
    if (value > max) max = value;
    sum += value;
    count += 1;
  }
  return count === 0
    ? { last: null, first: null, min: null, max: null, mean: null, sum: null, count }
    : { last, first, min, max, mean: sum / count, sum, count };
}

export interface TableRow {
  labels: Labels;
  time: number | null;
  value: number | null;
  /** Where the value is not a number: a string, a histogram's summary. */
  text?: string;
  histogram?: NativeHistogram;
  points?: number;
}

/** An instant answer as rows. */
export function rowsOf(data: InstantData): TableRow[] {
  switch (data.resultType) {
    case 'vector':
      return data.result.map((sample: VectorSample) =>
        sample.histogram
          ? {
              labels: sample.metric,
              time: sample.histogram[0] * 1000,
              value: null,
              text: `count ${sample.histogram[1].count}, sum ${sample.histogram[1].sum}`,
              histogram: sample.histogram[1],
            }
          : {
              labels: sample.metric,
              time: sample.value ? sample.value[0] * 1000 : null,
              value: sample.value ? parseValue(sample.value[1]) : null,
            },
      );
    case 'matrix':
      return data.result.map((series) => {
        const lastValue = series.values?.at(-1);
        const lastHistogram = series.histograms?.at(-1);
        return {
          labels: series.metric,
          time: (lastValue?.[0] ?? lastHistogram?.[0] ?? Number.NaN) * 1000,
          value: lastValue ? parseValue(lastValue[1]) : null,
          text: lastValue ? undefined : lastHistogram ? `histogram, count ${lastHistogram[1].count}` : '',
          points: (series.values?.length ?? 0) + (series.histograms?.length ?? 0),
        };
      });
    case 'scalar':
      return [{ labels: {}, time: data.result[0] * 1000, value: parseValue(data.result[1]) }];
    case 'string':
      return [{ labels: {}, time: data.result[0] * 1000, value: null, text: data.result[1] }];
  }
}

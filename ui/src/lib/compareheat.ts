// What tells a chosen part of a heatmap of histograms from the rest: by the labels of its series, other than the bound of
// a bucket, of what each of them counts inside and outside.

import type { MatrixSeries } from '../api/prometheus';
import { compareLabels, type SeriesComparison } from './compareseries';
import { type HeatRow, heatOf } from './heatmap';
import { type Labels, seriesName } from './labels';
import type { HeatBox } from './part';

export interface HeatComparison
  extends Pick<SeriesComparison, 'fields' | 'leftOut' | 'moreLabels' | 'moreSeries' | 'selection' | 'baseline'> {
  /** Histograms, each with its own labels. */
  series: number;
  /** What the part is compared with: the other buckets of its time, or, if it has all of them, the other times. */
  against: 'buckets' | 'times';
}

/** Whether a box takes in a bucket; a bound is what it is to a thousandth. */
const holds = ({ lower, upper }: HeatBox, row: HeatRow): boolean =>
  (row.lower >= lower - Math.abs(lower) / 1000 || lower === Number.NEGATIVE_INFINITY) &&
  (row.upper <= upper + Math.abs(upper) / 1000 || upper === Number.POSITIVE_INFINITY);

/** Labels of a histogram: those of its series without the bound. */
export const histogramLabels = ({ metric: { le: _, __name__: __, ...labels } }: MatrixSeries): Labels => labels;

export function compareHeat(
  result: MatrixSeries[],
  box: HeatBox,
  from: number,
  to: number,
  step: number,
): HeatComparison {
  const groups = new Map<string, { labels: Labels; series: MatrixSeries[] }>();
  for (const series of result) {
    const labels = histogramLabels(series);
    const key = seriesName(labels);
    const group = groups.get(key);
    if (group) group.series.push(series);
    else groups.set(key, { labels, series: [series] });
  }
  const histograms = [...groups.values()].map(({ labels, series }) => ({
    labels,
    heat: heatOf(series, from, to, step),
  }));
  // A step's column stands for the step before it.
  const isInside = (time: number): boolean => time > box.from && time - step < box.to;
  const hasAll = histograms.every(({ heat }) =>
    (heat?.rows ?? []).every((row) => holds(box, row) || row.counts.every((count) => !count)),
  );
  const own = new Float64Array(histograms.length);
  const other = new Float64Array(histograms.length);
  let [selection, baseline] = [0, 0];
  histograms.forEach(({ heat }, i) => {
    for (const row of heat?.rows ?? []) {
      const isHeld = holds(box, row);
      row.counts.forEach((count, column) => {
        if (!count) return;
        const isTime = isInside(heat!.times[column]!);
        if (isHeld && isTime) own[i] = own[i]! + count;
        else if (hasAll ? isHeld : isTime) other[i] = other[i]! + count;
      });
    }
    selection += own[i]!;
    baseline += other[i]!;
  });
  const none = { fields: [], leftOut: [], moreLabels: 0, moreSeries: 0 };
  return {
    series: histograms.length,
    against: hasAll ? 'times' : 'buckets',
    selection,
    baseline,
    ...(selection > 0 && baseline > 0 ? compareLabels(histograms, own, other, selection, baseline) : none),
  };
}

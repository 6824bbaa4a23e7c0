// Histograms of an answer as heat, or why they are none.

import { Grid3x3 } from 'lucide-react';
import type { MatrixSeries } from '../api/prometheus';
import { heatOf, isHistogram } from '../lib/heatmap';
import type { Range } from '../lib/time';
import { Heatmap } from './Heatmap';
import { Empty } from './states';

/** The unit of the buckets of a histogram, by its name. */
const bucketUnit = (query: string): string | undefined => {
  const name = /(seconds|bytes)\w*_bucket/.exec(query)?.[1];
  return name === 'seconds' ? 's' : name;
};

export default function HistogramHeat({
  series,
  span,
  step,
  range,
  utc,
  query,
  dimmed,
  onZoom,
}: {
  series: MatrixSeries[];
  /** Of the answer, in whole steps. */
  span: Range;
  step: number;
  range: Range;
  utc: boolean;
  query: string;
  dimmed: boolean;
  onZoom: (range: Range) => void;
}) {
  const heat = isHistogram(series) ? heatOf(series, span.from, span.to, step) : null;
  return heat && heat.rows.length > 0 ? (
    <Heatmap
      heat={heat}
      range={range}
      utc={utc}
      height={420}
      unit={bucketUnit(query)}
      onZoom={onZoom}
      dimmed={dimmed}
      label={query}
    />
  ) : (
    <Empty icon={Grid3x3} title="These are no histograms">
      A heatmap needs series with a label <code>le</code>, such as{' '}
      <code>sum by (le) (increase(pharos_log_sync_duration_seconds_bucket[1m]))</code>, or native histograms.
    </Empty>
  );
}

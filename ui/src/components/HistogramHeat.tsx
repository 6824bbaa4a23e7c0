// Histograms of an answer as heat, or why they are none; and a chosen part of it, compared with the rest.

import { Grid3x3 } from 'lucide-react';
import { lazy, Suspense, useMemo, useState } from 'react';
import type { MatrixSeries } from '../api/prometheus';
import { type Heat, heatOf, isHistogram } from '../lib/heatmap';
import { type HeatBox, snapped } from '../lib/part';
import type { Range } from '../lib/time';
import { formatValue } from '../lib/units';
import { Heatmap, plotArea } from './Heatmap';
import { PartEdges } from './Part';
import { Empty, Skeleton } from './states';
import { Button, Select } from './ui';
import '../style/heat.css';

const CompareHeat = lazy(async () => ({ default: (await import('./CompareHeat')).CompareHeat }));

const HEIGHT = 420;

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
  zone,
  query,
  dimmed,
  onZoom,
  box,
  byKey,
  comparing,
  onBox,
  onCompare,
}: {
  series: MatrixSeries[];
  /** Of the answer, in whole steps. */
  span: Range;
  step: number;
  range: Range;
  zone: string;
  query: string;
  dimmed: boolean;
  onZoom: (range: Range) => void;
  box: HeatBox | null;
  /** Whether the part was chosen without a pointer: its first edge takes the keys. */
  byKey: boolean;
  comparing: boolean;
  /** `isMoved`: another form of the same part. */
  onBox: (box: HeatBox, isMoved: boolean) => void;
  onCompare: (on: boolean) => void;
}) {
  const [wanted, setOnly] = useState<{ name: string; value: string } | null>(null);
  const whole = useMemo(
    () => (isHistogram(series) ? heatOf(series, span.from, span.to, step) : null),
    [series, span.from, span.to, step],
  );
  const only = box && comparing ? wanted : null;
  const heat = useMemo(() => {
    if (!whole || !only) return whole;
    const some = heatOf(
      series.filter(({ metric }) => (metric[only.name] ?? '') === only.value),
      span.from,
      span.to,
      step,
    );
    // Another answer may have none of them.
    return some && some.rows.length > 0 ? some : whole;
  }, [whole, only, series, span.from, span.to, step]);
  const unit = bucketUnit(query);
  const snap = (next: HeatBox): HeatBox => ({ ...next, ...snapped(next, step) });
  if (!whole || whole.rows.length === 0 || !heat)
    return (
      <Empty icon={Grid3x3} title="These are no histograms">
        A heatmap needs series with a label <code>le</code>, such as{' '}
        <code>sum by (le) (increase(pharos_log_sync_duration_seconds_bucket[1m]))</code>, or native histograms.
      </Empty>
    );
  return (
    <>
      {box && <Buckets heat={whole} box={box} unit={unit} onBox={(next) => onBox(next, true)} />}
      {only && heat !== whole && (
        <p className="cap-note">
          Only the histograms of <bdi className="mono">{`${only.name}=${only.value || '(none)'}`}</bdi> are drawn.{' '}
          <Button look="ghost" onClick={() => setOnly(null)}>
            Draw all
          </Button>
        </p>
      )}
      <div className="heat-held">
        <Heatmap
          heat={heat}
          range={range}
          zone={zone}
          height={HEIGHT}
          unit={unit}
          onZoom={onZoom}
          onBox={(next) => onBox(snap(next), false)}
          box={box}
          dimmed={dimmed}
          label={query}
        />
        {box && (
          <PartEdges
            area={plotArea(HEIGHT)}
            range={range}
            times={heat.times}
            part={box}
            zone={zone}
            focus={byKey}
            onPart={(part) => onBox(snap({ ...box, ...part }), true)}
          />
        )}
      </div>
      {box && comparing && (
        <Suspense fallback={<Skeleton rows={6} />}>
          <CompareHeat
            series={series}
            box={box}
            said={boundsText(box, unit)}
            span={span}
            step={step}
            zone={zone}
            only={only}
            onOnly={setOnly}
            onClose={() => onCompare(false)}
          />
        </Suspense>
      )}
    </>
  );
}

const bound = (value: number, unit: string | undefined): string =>
  Number.isFinite(value) ? formatValue(value, unit) : value > 0 ? '+Inf' : '-Inf';

const boundsText = ({ lower, upper }: HeatBox, unit: string | undefined): string =>
  !Number.isFinite(lower) && !Number.isFinite(upper) ? 'all buckets' : `${bound(lower, unit)} to ${bound(upper, unit)}`;

/** The buckets of the part, chosen without a pointer. */
function Buckets({
  heat,
  box,
  unit,
  onBox,
}: {
  heat: Heat;
  box: HeatBox;
  unit: string | undefined;
  onBox: (box: HeatBox) => void;
}) {
  // Bounds between those of the heat are shown as the nearest.
  const low = Math.max(
    0,
    heat.rows.findIndex((row) => row.lower >= box.lower * 0.999),
  );
  const found = heat.rows.findLastIndex((row) => row.upper <= box.upper * 1.001);
  const high = Math.max(low, found < 0 ? heat.rows.length - 1 : found);
  const choose = (from: number, to: number) =>
    onBox({ ...box, lower: heat.rows[Math.min(from, to)]!.lower, upper: heat.rows[Math.max(from, to)]!.upper });
  return (
    <div className="heat-buckets">
      <label className="check">
        Buckets above
        <Select value={low} onChange={(e) => choose(Number(e.target.value), high)}>
          {heat.rows.map((row, i) => (
            <option key={row.lower} value={i}>
              {bound(row.lower, unit)}
            </option>
          ))}
        </Select>
      </label>
      <label className="check">
        up to
        <Select value={high} onChange={(e) => choose(low, Number(e.target.value))}>
          {heat.rows.map((row, i) => (
            <option key={row.upper} value={i}>
              {bound(row.upper, unit)}
            </option>
          ))}
        </Select>
      </label>
    </div>
  );
}

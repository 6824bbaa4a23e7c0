// A small chart of a moving window, fed by the live socket.

import { useMemo, useState } from 'react';
import { frameOfColumns, reduce } from '../lib/frame';
import { formatValue } from '../lib/units';
import { useRange } from '../state/clock';
import { useLiveQuery } from '../state/live';
import { Chart } from './Chart';
import { Empty, Skeleton } from './states';

export interface LiveChartProps {
  query: string;
  tenant?: string;
  windowMs?: number;
  stepMs?: number;
  unit?: string;
  height?: number;
  label: string;
  template?: string;
  stack?: 'none' | 'normal';
  /** Shows the newest value, summed over series, in large figures. */
  figure?: boolean;
  sync?: string;
  /** Said where there is no series. */
  none?: string;
}

export function LiveChart(props: LiveChartProps) {
  const { windowMs = 900_000, stepMs = 5000, height = 150, unit } = props;
  const { columns, error } = useLiveQuery(
    props.tenant === undefined ? null : props.query,
    windowMs,
    stepMs,
    props.tenant,
  );
  const { zone } = useRange();
  const [emphasised] = useState<string | null>(null);
  const frame = useMemo(() => (columns ? frameOfColumns(columns, props.template) : null), [columns, props.template]);
  const now = useMemo(() => {
    if (!frame) return null;
    const lasts = frame.series.map((s) => reduce(s.values).last).filter((v) => v !== null);
    return lasts.length === 0 ? null : lasts.reduce((a, b) => a + b, 0);
  }, [frame]);
  return (
    <div className="live-chart">
      {props.figure && <div className="figure tab-num">{frame ? formatValue(now, unit) : '\u00a0'}</div>}
      {error && !frame ? (
        <p className="critical small" role="alert">
          ■ {error}
        </p>
      ) : !frame ? (
        <Skeleton height={height} rows={3} />
      ) : frame.series.length === 0 ? (
        <div style={{ height }}>
          <Empty title={props.none ?? 'No value in this window yet'} />
        </div>
      ) : (
        <Chart
          frame={frame}
          range={{ from: frame.times[0]!, to: frame.times.at(-1)! }}
          zone={zone}
          height={height}
          unit={unit}
          stack={props.stack}
          fill={props.stack || frame.series.length === 1 ? 0.15 : 0}
          emphasised={emphasised}
          sync={props.sync}
          label={props.label}
        />
      )}
    </div>
  );
}

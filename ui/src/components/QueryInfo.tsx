// What a query cost, in a line.

import type { ReactNode } from 'react';
import type { FragmentTrace, QueryStats } from '../api/prometheus';
import { formatBytes, formatCount, formatValue } from '../lib/units';

export function StatsLine({
  elapsedMs,
  bytes,
  stats,
  series,
  fragments,
  children,
}: {
  elapsedMs: number;
  bytes: number;
  stats?: QueryStats;
  series: number;
  fragments?: FragmentTrace[];
  children?: ReactNode;
}) {
  const shards = new Set(fragments?.flatMap((f) => f.shards.map((s) => s.shard)));
  return (
    <div className="stats-line tab-num" data-testid="stats">
      <span>
        <b>{formatCount(series)}</b> series
      </span>
      <span>
        <b>{formatValue(elapsedMs / 1000, 's')}</b> in all
      </span>
      {stats && (
        <>
          <span>
            <b>{formatValue(stats.timings.evalTotalTime ?? 0, 's')}</b> evaluated
          </span>
          <span>
            <b>{formatCount(stats.samples.totalQueryableSamples)}</b> samples read
          </span>
        </>
      )}
      {shards.size > 0 && (
        <span>
          <b>{shards.size}</b> shards asked
        </span>
      )}
      <span>
        <b>{formatBytes(bytes)}</b> answered
      </span>
      {children}
    </div>
  );
}

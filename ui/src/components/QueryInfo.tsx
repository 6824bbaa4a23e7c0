// What a query cost, in a line.

import type { ReactNode } from 'react';
import type { FragmentTrace, QueryStats } from '../api/prometheus';
import { formatBytes, formatCount, formatValue } from '../lib/units';
import { isCut } from '../lib/warnings';
import { StatusTag } from './ui';

/** Says that less is shown than there is, where that is so, and why. */
export function PartialTag({
  answers,
  failed = 0,
}: {
  answers: ({ warnings: string[] } | undefined)[];
  /** Queries without an answer, beside others that have one. */
  failed?: number;
}) {
  const reasons = [...new Set(answers.flatMap((answer) => answer?.warnings.filter(isCut) ?? []))];
  if (failed > 0 && answers.some(Boolean)) reasons.push(`${failed} of ${answers.length} queries failed`);
  return reasons.length > 0 ? <StatusTag tone="warn">Partial: {reasons.join('; ')}</StatusTag> : null;
}

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

// LogQL, for what was written in it: annotations that come from Grafana. And how much logs there are.

import type { LokiStream } from '../lib/dashboard/annotations';
import { type Answer, ask, askPlain } from './client';
import type { MatrixSeries } from './prometheus';

export type LokiData =
  | { resultType: 'streams'; result: LokiStream[] }
  | { resultType: 'matrix'; result: MatrixSeries[] };

/** The newest lines, or series where it is a query for numbers. */
export const lokiRange = (
  q: { query: string; from: number; to: number; step: number; limit: number; tenant?: string },
  signal?: AbortSignal,
): Promise<Answer<LokiData>> =>
  ask(
    '/loki/api/v1/query_range',
    {
      query: q.query,
      start: `${q.from}000000`,
      end: `${q.to}000000`,
      step: q.step / 1000,
      limit: q.limit,
      direction: 'backward',
    },
    { signal, exact: true, tenant: q.tenant },
  );

export interface LogVolume {
  streams: number;
  entries: number;
  /** Of bodies and attributes, as they came. */
  bytes: number;
}

/** All logs of a tenant in a time. */
export const logVolume = (
  { from, to }: { from: number; to: number },
  tenant: string,
  signal?: AbortSignal,
): Promise<LogVolume> =>
  askPlain(`/loki/api/v1/index/stats?query=%7B%7D&start=${from}000000&end=${to}000000`, signal, tenant);

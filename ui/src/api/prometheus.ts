// The Prometheus part of the API: queries and what there is to ask about.

import type { Labels } from '../lib/labels';
import { type Answer, ask, type Params } from './client';

export type Pair = [number, string];

/** A native histogram in an answer: buckets are `[bounds kind, lower, upper, count]`. */
export interface NativeHistogram {
  count: string;
  sum: string;
  buckets?: [number, string, string, string][];
}

export interface MatrixSeries {
  metric: Labels;
  values?: Pair[];
  histograms?: [number, NativeHistogram][];
}

export interface VectorSample {
  metric: Labels;
  value?: Pair;
  histogram?: [number, NativeHistogram];
}

export interface PlanNode {
  expression: string;
  place: string;
  once: boolean;
  parts: PlanNode[];
}

export interface FragmentTrace {
  expression: string;
  place: string;
  level: number;
  steps: number;
  uses: number;
  seconds: number;
  shards: { shard: number; series: number; samples: number; rows: number; bytes: number; seconds: number }[];
}

export interface QueryStats {
  /** Seconds. */
  timings: Record<string, number>;
  samples: { totalQueryableSamples: number; peakSamples: number };
  /** What is not in Prometheus' statistics. */
  pharos?: { series: number; fragments: number; cachedSteps: number; shardMicros: number };
}

interface Extra {
  stats?: QueryStats;
  explain?: { plan: PlanNode; fragments: FragmentTrace[] };
}

export type RangeData = { resultType: 'matrix'; result: MatrixSeries[] } & Extra;

export type InstantData = (
  | { resultType: 'vector'; result: VectorSample[] }
  | { resultType: 'matrix'; result: MatrixSeries[] }
  | { resultType: 'scalar' | 'string'; result: Pair }
) &
  Extra;

export interface RangeQuery {
  query: string;
  from: number;
  to: number;
  step: number;
  explain?: boolean;
  limit?: number;
  /** Another tenant than the page's. */
  tenant?: string;
  /** Whether the server is to keep the request's trace. */
  traced?: boolean;
}

export interface InstantQuery extends Omit<RangeQuery, 'from' | 'to' | 'step'> {
  time?: number;
}

/** A query as it is sent. */
export const rangeParams = (q: RangeQuery): Params => ({
  query: q.query,
  start: q.from / 1000,
  end: q.to / 1000,
  step: q.step / 1000,
  stats: 'true',
  explain: q.explain ? 'true' : undefined,
  limit: q.limit,
});

export const instantParams = (q: InstantQuery): Params => ({
  query: q.query,
  time: q.time === undefined ? undefined : q.time / 1000,
  stats: 'true',
  explain: q.explain ? 'true' : undefined,
  limit: q.limit,
});

export const RANGE_PATH = '/api/v1/query_range';
export const INSTANT_PATH = '/api/v1/query';

export const queryRange = (q: RangeQuery, signal?: AbortSignal): Promise<Answer<RangeData>> =>
  ask(RANGE_PATH, rangeParams(q), { signal, tenant: q.tenant, traced: q.traced });

export const queryInstant = (q: InstantQuery, signal?: AbortSignal): Promise<Answer<InstantData>> =>
  ask(INSTANT_PATH, instantParams(q), { signal, tenant: q.tenant, traced: q.traced });

export interface ExemplarSeries {
  seriesLabels: Labels;
  exemplars: { labels: Labels; value: string; timestamp: number }[];
}

export function queryExemplars(
  q: { query: string; from: number; to: number },
  signal?: AbortSignal,
): Promise<Answer<ExemplarSeries[]>> {
  return ask('/api/v1/query_exemplars', { query: q.query, start: q.from / 1000, end: q.to / 1000 }, { signal });
}

export function labelNames(
  q: { match?: string[]; from?: number; to?: number; limit?: number },
  signal?: AbortSignal,
): Promise<Answer<string[]>> {
  return ask('/api/v1/labels', times(q), { signal });
}

export function labelValues(
  name: string,
  q: { match?: string[]; from?: number; to?: number; limit?: number },
  signal?: AbortSignal,
): Promise<Answer<string[]>> {
  return ask(`/api/v1/label/${encodeURIComponent(name)}/values`, times(q), { signal });
}

export function seriesList(
  q: { match: string[]; from?: number; to?: number; limit?: number },
  signal?: AbortSignal,
): Promise<Answer<Labels[]>> {
  return ask('/api/v1/series', times(q), { signal });
}

function times(q: { match?: string[]; from?: number; to?: number; limit?: number }) {
  return {
    'match[]': q.match,
    start: q.from === undefined ? undefined : q.from / 1000,
    end: q.to === undefined ? undefined : q.to / 1000,
    limit: q.limit,
  };
}

export interface Metadata {
  type: string;
  help: string;
  unit: string;
}

export function metadata(metric?: string, signal?: AbortSignal): Promise<Answer<Record<string, Metadata[]>>> {
  return ask('/api/v1/metadata', { metric, limit_per_metric: 1 }, { signal });
}

export function formatQuery(query: string): Promise<Answer<string>> {
  return ask('/api/v1/format_query', { query });
}

// What a node says about itself, and what an administrator may tell it.

import { type Answer, ask } from './client';

export interface ActiveQuery {
  id: number;
  tenant: string;
  type: string;
  query: string;
  since: string;
  seconds: number;
  start?: string;
  end?: string;
  stepSeconds?: number;
  samples?: number;
}

export interface SlowQuery extends Omit<ActiveQuery, 'id'> {
  outcome: string;
}

export interface Quarantined {
  tenant: string;
  query: string;
  crashes: number;
  until: string;
}

export interface NamedCount {
  name: string;
  value: number;
}

export interface TsdbStatus {
  headStats: { numSeries: number; numLabelPairs: number; chunkCount: number; minTime: number; maxTime: number };
  seriesCountByMetricName: NamedCount[];
  labelValueCountByLabelName: NamedCount[];
  memoryInBytesByLabelName: NamedCount[];
  seriesCountByLabelValuePair: NamedCount[];
}

type Signal = AbortSignal | undefined;

export const activeQueries = (
  signal?: Signal,
): Promise<Answer<{ active: ActiveQuery[]; quarantined: Quarantined[] }>> =>
  ask('/api/v1/status/active_queries', {}, { signal });
export const slowQueries = (signal?: Signal): Promise<Answer<SlowQuery[]>> =>
  ask('/api/v1/status/slow_queries', {}, { signal });
export const buildInfo = (signal?: Signal): Promise<Answer<Record<string, string>>> =>
  ask('/api/v1/status/buildinfo', {}, { signal });
export const runtimeInfo = (signal?: Signal): Promise<Answer<Record<string, string | number | boolean>>> =>
  ask('/api/v1/status/runtimeinfo', {}, { signal });
export const flags = (signal?: Signal): Promise<Answer<Record<string, string>>> =>
  ask('/api/v1/status/flags', {}, { signal });
export const config = (signal?: Signal): Promise<Answer<{ yaml: string }>> =>
  ask('/api/v1/status/config', {}, { signal });
export const features = (signal?: Signal): Promise<Answer<Record<string, Record<string, boolean>>>> =>
  ask('/api/v1/features', {}, { signal });
export const tsdb = (limit: number, signal?: Signal, tenant?: string): Promise<Answer<TsdbStatus>> =>
  ask('/api/v1/status/tsdb', { limit }, { signal, tenant });

export const killQuery = (id: number): Promise<Answer<unknown>> =>
  ask('/api/v1/admin/queries/kill', { id }, { post: true });
export const releaseQuery = (query: string): Promise<Answer<unknown>> =>
  ask('/api/v1/admin/queries/release', { query }, { post: true });

// Traces: search, one trace whole, its logs, numbers over time, comparison; services and their calls.

import { type Answer, ask, askPlain } from './client';
import type { LogRow, LogValue } from './logs';

export interface ServiceShare {
  name: string;
  spans: number;
  errors: number;
}

/** A trace in short. Nanoseconds that a double can not hold come as bigint. */
export interface TraceSummary {
  traceId: string;
  rootService: string;
  rootName: string;
  start: string;
  startTimeUnixNano: string;
  durationNs: number | bigint;
  spanCount: number;
  errorCount: number;
  services: ServiceShare[];
}

/** A span that a search was about. */
export interface MatchedSpan {
  spanId: string;
  name: string;
  service: string;
  startTimeUnixNano: string;
  durationNs: number | bigint;
  error: boolean;
  fields: Record<string, LogValue>;
}

export interface FoundTrace extends TraceSummary {
  /** Its place in the search. */
  id: string;
  matched: number;
  sets: { values: Record<string, LogValue>; matched: number; spans: MatchedSpan[] }[];
}

export interface SpanEvent {
  timeUnixNano: string;
  name: string;
  attributes: Record<string, LogValue>;
}

export interface SpanLink {
  traceId: string;
  spanId: string;
  traceState: string;
  flags: number;
  attributes: Record<string, LogValue>;
}

export interface Span {
  spanId: string;
  parentSpanId: string;
  /** Position of the parent in the trace's spans. */
  parent: number | null;
  depth: number;
  orphan: boolean;
  service: string;
  name: string;
  kind: string;
  status: string;
  statusMessage: string;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  durationNs: number | bigint;
  criticalNs: number | bigint;
  traceState: string;
  flags: number;
  attributes: Record<string, LogValue>;
  events: SpanEvent[];
  links: SpanLink[];
  /** Position of its resource and scope in the trace's streams. */
  stream: number;
  dropped: { attributes: number; events: number; links: number };
}

export interface Trace extends TraceSummary {
  /** Each parent before its children, and all that is below a span right behind it. */
  spans: Span[];
  streams: {
    resource: Record<string, LogValue>;
    scope: { name: string; version: string; attributes: Record<string, LogValue> };
  }[];
  criticalPath: { span: number; startTimeUnixNano: string; endTimeUnixNano: string }[];
}

/** TraceQL and its time in milliseconds; the end does not belong to it. */
export interface TraceQuestion {
  query: string;
  from: number;
  to: number;
}

export interface TraceSeries {
  labels: Record<string, LogValue>;
  /** Beginnings of buckets in seconds, and numbers. */
  values: [number, number][];
}

export interface ComparedField {
  scope: string;
  field: string;
  score: number;
  values: { value: string; selection: number; baseline: number; difference: number }[];
}

export interface Comparison {
  selection: number;
  baseline: number;
  fields: ComparedField[];
  leftOut: { scope: string; field: string }[];
}

export interface Operation {
  name: string;
  kind: string;
  spanCount: number;
}

export interface Dependency {
  parent: string;
  child: string;
  callCount: number;
  errorCount: number;
  averageDurationNs: number;
}

/** Both ends belong to the server's ranges, to the nanosecond. */
const times = ({ from, to }: { from: number; to: number }) => ({
  start: `${Math.floor(from)}000000`,
  end: String(BigInt(Math.ceil(to)) * 1_000_000n - 1n),
});

type Signal = AbortSignal | undefined;

export const searchTraces = (
  { query, ...range }: TraceQuestion,
  page: { order: 'newest' | 'slowest'; limit: number; cursor?: string },
  signal?: Signal,
): Promise<Answer<{ traces: FoundTrace[]; cursor: string | null; query: string }>> =>
  ask('/api/v1/traces/search', { q: query, ...times(range), ...page }, { signal, exact: true });

export const getTrace = (id: string, signal?: Signal): Promise<Answer<Trace>> =>
  ask(`/api/v1/traces/${encodeURIComponent(id)}`, {}, { signal, exact: true });

export const traceLogs = (id: string, signal?: Signal): Promise<Answer<{ rows: LogRow[]; truncated: boolean }>> =>
  ask(`/api/v1/traces/${encodeURIComponent(id)}/logs`, {}, { signal, exact: true });

/** Numbers over time; `step` in milliseconds. */
export const traceMetrics = (
  { query, ...range }: TraceQuestion,
  step: number,
  signal?: Signal,
): Promise<Answer<{ series: TraceSeries[]; step: number }>> =>
  ask('/api/v1/traces/metrics', { q: query, ...times(range), step: step / 1000 }, { signal });

/** What tells a selection from a baseline, both TraceQL, within one time. */
export const compareTraces = (
  sets: { selection: string; baseline: string; from: number; to: number },
  signal?: Signal,
): Promise<Answer<Comparison>> =>
  ask('/api/v1/traces/compare', { selection: sets.selection, baseline: sets.baseline, ...times(sets) }, { signal });

export const listServices = (
  range: { from: number; to: number },
  signal?: Signal,
  tenant?: string,
): Promise<Answer<{ services: { name: string; spanCount: number; errorCount: number }[] }>> =>
  ask('/api/v1/services', times(range), { signal, tenant });

export const listOperations = (
  service: string,
  range: { from: number; to: number },
  signal?: Signal,
): Promise<Answer<{ operations: Operation[] }>> =>
  ask(`/api/v1/services/${encodeURIComponent(service)}/operations`, times(range), { signal });

export const listDependencies = (
  range: { from: number; to: number },
  signal?: Signal,
): Promise<Answer<{ dependencies: Dependency[] }>> => ask('/api/v1/dependencies', times(range), { signal });

const inSeconds = ({ from, to }: { from: number; to: number }): string =>
  `start=${Math.floor(from / 1000)}&end=${Math.ceil(to / 1000)}`;

/** Names of attributes by where they stand: `span`, `resource`, `instrumentation`, `intrinsic`. */
export const traceTags = (
  range: { from: number; to: number },
  signal?: Signal,
): Promise<{ scopes: { name: string; tags: string[] }[] }> =>
  askPlain(`/api/v2/search/tags?${inSeconds(range)}`, signal);

/** Values that a field has: `resource.service.name`, `name`, `.http.method`. */
export const traceTagValues = (
  field: string,
  range: { from: number; to: number },
  signal?: Signal,
): Promise<{ tagValues: { type: string; value: string }[] }> =>
  askPlain(`/api/v2/search/tag/${encodeURIComponent(field)}/values?${inSeconds(range)}`, signal);

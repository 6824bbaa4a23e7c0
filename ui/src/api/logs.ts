// Logs: search, exact counts over time, values of fields, surroundings, patterns. The live tail is in `state/tail`.

import { type Answer, ask } from './client';

/** What an attribute holds, as the server types it; bytes arrive as Base64. */
export type LogValue = string | number | bigint | boolean | null | LogValue[] | { [key: string]: LogValue };

export interface LogRow {
  /** Its place in the search that found it; rows of surroundings have none. */
  id?: string;
  time: string;
  timeUnixNano: string;
  observedTimeUnixNano?: string;
  body?: LogValue;
  level?: string;
  severityNumber?: number;
  severityText?: string;
  traceId?: string;
  spanId?: string;
  flags?: number;
  eventName?: string;
  attributes?: Record<string, LogValue>;
  resource?: Record<string, LogValue>;
  scope?: { name?: string; version?: string; attributes?: Record<string, LogValue> };
}

/** What all questions say: the search and its time, in whole milliseconds; the end does not belong to it. */
export interface LogQuestion {
  query: string;
  from: number;
  to: number;
}

/** `[seconds, count]`. */
export type Counts = [number, number][];

export interface LogGroup {
  fields: Record<string, string | null>;
  total: number;
  values: Counts;
}

export interface LogField {
  name: string;
  place: string;
  types: string[];
  count: number;
}

export interface TopValues {
  total: number;
  distinct: number;
  values: { fields: Record<string, string | null>; count: number }[];
}

export interface LogPattern {
  pattern: string;
  count: number;
  values: Counts;
}

/** Both ends belong to the server's ranges, to the nanosecond. */
const span = ({ query, from, to }: LogQuestion) => ({
  query,
  start: `${from}000000`,
  end: String(BigInt(to) * 1_000_000n - 1n),
});

type Signal = AbortSignal | undefined;

export const searchLogs = (
  question: LogQuestion,
  page: { limit: number; cursor?: string },
  signal?: Signal,
  tenant?: string,
): Promise<Answer<{ rows: LogRow[]; cursor: string | null }>> =>
  ask('/api/v1/logs/query', { ...span(question), ...page }, { signal, exact: true, tenant });

/** What was written for one nanosecond, whatever it says. */
export const logsAt = (
  timeUnixNano: string,
  signal?: Signal,
): Promise<Answer<{ rows: LogRow[]; cursor: string | null }>> =>
  ask(
    '/api/v1/logs/query',
    { query: '', start: timeUnixNano, end: timeUnixNano, limit: 1000 },
    { signal, exact: true },
  );

export const logHistogram = (
  question: LogQuestion,
  step: number,
  signal?: Signal,
): Promise<Answer<{ step: number; groups: LogGroup[] }>> =>
  ask('/api/v1/logs/histogram', { ...span(question), step: step / 1000, field: 'level' }, { signal });

export const logFields = (question: LogQuestion, signal?: Signal): Promise<Answer<{ fields: LogField[] }>> =>
  ask('/api/v1/logs/fields', span(question), { signal });

export const topValues = (
  question: LogQuestion,
  field: string,
  limit: number,
  signal?: Signal,
): Promise<Answer<TopValues>> => ask('/api/v1/logs/top', { ...span(question), field, limit }, { signal });

export const logContext = (
  question: LogQuestion,
  id: string,
  around: number,
  signal?: Signal,
): Promise<Answer<{ before: LogRow[]; row: LogRow | null; after: LogRow[] }>> =>
  ask('/api/v1/logs/context', { ...span(question), id, before: around, after: around }, { signal, exact: true });

export const logPatterns = (
  question: LogQuestion,
  step: number,
  limit: number,
  signal?: Signal,
): Promise<Answer<{ patterns: LogPattern[]; leftOut: number }>> =>
  ask('/api/v1/logs/patterns', { ...span(question), step: step / 1000, limit }, { signal });

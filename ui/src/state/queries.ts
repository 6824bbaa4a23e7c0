// Queries of screens, with one way to ask, keep and cancel.

import { useQueries, useQuery } from '@tanstack/react-query';
import type { Answer } from '../api/client';
import { type InstantData, queryInstant, queryRange, type RangeData, type RangeQuery } from '../api/prometheus';
import type { Range } from '../lib/time';
import { currentTenant } from './prefs';

const SECOND = 1000;

/** Ends on whole steps, so that the same minute asked twice is the same question. */
export function aligned(range: Range, step: number): Range {
  const from = Math.floor(range.from / step) * step;
  return { from, to: Math.max(from + step, Math.floor(range.to / step) * step) };
}

export function useRangeQueries(queries: string[], range: Range, step: number, explain: boolean, limit?: number) {
  const span = aligned(range, step);
  return useQueries({
    queries: queries.map((query) => ({
      queryKey: ['timed', 'range', currentTenant(), query, span.from, span.to, step, explain, limit] as const,
      enabled: query.trim() !== '',
      placeholderData: (old: Answer<RangeData> | undefined) => old,
      queryFn: ({ signal }: { signal: AbortSignal }): Promise<Answer<RangeData>> =>
        queryRange({ query, ...span, step, explain, limit } satisfies RangeQuery, signal),
      staleTime: 5 * SECOND,
      gcTime: 60 * SECOND,
    })),
  });
}

export function useInstantQueries(queries: string[], time: number, limit?: number) {
  return useQueries({
    queries: queries.map((query) => ({
      queryKey: ['timed', 'instant', currentTenant(), query, Math.round(time / SECOND), limit] as const,
      enabled: query.trim() !== '',
      placeholderData: (old: Answer<InstantData> | undefined) => old,
      queryFn: ({ signal }: { signal: AbortSignal }): Promise<Answer<InstantData>> =>
        queryInstant({ query, time, limit }, signal),
      staleTime: 5 * SECOND,
      gcTime: 60 * SECOND,
    })),
  });
}

/** One number of an expression, now. */
export function useNumber(query: string, time: number) {
  return useQuery({
    queryKey: ['timed', 'number', currentTenant(), query, Math.round(time / SECOND)],
    queryFn: async ({ signal }) => {
      const answer = await queryInstant({ query, time }, signal);
      const data = answer.data;
      if (data.resultType === 'scalar') return Number(data.result[1]);
      if (data.resultType !== 'vector') return null;
      const value = data.result[0]?.value?.[1];
      return value === undefined ? null : Number(value);
    },
  });
}

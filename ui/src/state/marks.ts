// The marks of annotations in a range. Panels of the same range ask the same, and it is asked once.

import { hashKey, useQueries } from '@tanstack/react-query';
import { searchLogs } from '../api/logs';
import { lokiRange } from '../api/loki';
import { queryRange } from '../api/prometheus';
import { MAX_MARKS, type Marks, marksOfRecords, marksOfSeries, marksOfStreams } from '../lib/dashboard/annotations';
import { askedText, type Rewrite } from '../lib/dashboard/asked';
import type { Annotation } from '../lib/dashboard/model';
import { builtins, interpolate, type Scope } from '../lib/dashboard/variables';
import { niceStep, parseDuration, type Range } from '../lib/time';
import { useStopped } from './panels';
import { currentTenant } from './prefs';
import { aligned } from './queries';

export interface AnnotationContext {
  annotations: Annotation[];
  scope: Scope;
  tenant: string | undefined;
  /** Puts the filters of the dashboard into an expression. */
  rewrite: Rewrite;
}

/** Steps that a range is looked at in. */
const STEPS = 300;

async function load(
  annotation: Annotation,
  query: string,
  range: Range,
  step: number,
  tenant: string | undefined,
  signal: AbortSignal,
): Promise<Marks> {
  const span = aligned(range, step);
  const whole = { from: Math.floor(range.from), to: Math.ceil(range.to) };
  switch (annotation.source) {
    case 'promql':
      return marksOfSeries(
        (await queryRange({ query, ...span, step, tenant }, signal)).data.result,
        annotation,
        span,
        step,
      );
    case 'logs': {
      const { data } = await searchLogs({ query, ...whole }, { limit: MAX_MARKS }, signal, tenant);
      return marksOfRecords(data.rows, data.cursor !== null && data.rows.length >= MAX_MARKS, annotation);
    }
    case 'logql': {
      const { data } = await lokiRange({ query, ...whole, step, limit: MAX_MARKS, tenant }, signal);
      return data.resultType === 'streams'
        ? marksOfStreams(data.result, annotation)
        : marksOfSeries(data.result, annotation, whole, step);
    }
  }
}

export function useMarks({ annotations, scope, tenant, rewrite }: AnnotationContext, range: Range, enabled = true) {
  const stopped = useStopped((s) => s.hashes);
  return useQueries({
    queries: annotations.map((annotation) => {
      const least = parseDuration(interpolate(annotation.step ?? '', scope)) ?? 1000;
      const step = niceStep(range, STEPS, least);
      const full = { ...builtins(range, step), ...scope };
      const language = annotation.source === 'logs' ? 'search' : annotation.source;
      const query = askedText(language, annotation.query, full, { range, step }, rewrite);
      const { name: _, colour: __, off: ___, hidden: ____, ...asked } = annotation;
      const queryKey = ['timed', 'marks', tenant ?? currentTenant(), asked, query, range.from, range.to, step] as const;
      return {
        queryKey,
        enabled: enabled && query.trim() !== '' && !stopped.has(hashKey(queryKey)),
        placeholderData: (old: Marks | undefined) => old,
        staleTime: 5000,
        gcTime: 120_000,
        queryFn: ({ signal }: { signal: AbortSignal }) => load(annotation, query, range, step, tenant, signal),
      };
    }),
  });
}

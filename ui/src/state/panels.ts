// What the panels of a dashboard ask: together it can be stopped, and told how it went.

import { hashKey, type QueryClient, type QueryKey, useIsFetching, useQueries } from '@tanstack/react-query';
import { useEffect } from 'react';
import { create } from 'zustand';
import type { Answer } from '../api/client';
import { isCut } from '../lib/warnings';

/** Queries that somebody has stopped: they are not asked again by themselves. Another range asks another query. */
export const useStopped = create<{ hashes: ReadonlySet<string> }>(() => ({ hashes: new Set() }));

const isOfDashboard = ({ queryKey: key }: { queryKey: QueryKey }): boolean =>
  key[0] === 'variable' || (key[0] === 'timed' && (key[1] === 'panel' || key[1] === 'marks'));

export const useRunning = (): number => useIsFetching({ predicate: isOfDashboard });

/** Ends what a dashboard has under way; the server is told by the ends of its requests. */
export function stopAll(client: QueryClient): void {
  const running = client.getQueryCache().findAll({ fetchStatus: 'fetching', predicate: isOfDashboard });
  useStopped.setState(({ hashes }) => ({ hashes: new Set([...hashes, ...running.map((q) => q.queryHash)]) }));
  for (const query of running) void client.cancelQueries({ queryKey: query.queryKey, exact: true });
}

export function runAgain(wanted?: string[]): void {
  useStopped.setState(({ hashes }) => {
    const next = new Set(wanted ? hashes : []);
    for (const hash of wanted ?? []) next.delete(hash);
    return { hashes: next };
  });
}

export interface Ask<T> {
  ref: string;
  /** As it is asked. */
  text: string;
  /** What tells it from others. */
  key: readonly unknown[];
  run: (signal: AbortSignal) => Promise<Answer<T>>;
}

export interface Asked<T> {
  ref: string;
  text: string;
  hash: string;
  answer: Answer<T> | undefined;
  error: Error | null;
  isPending: boolean;
  /** The answer is that of another range or another text, until the new one is there. */
  isOld: boolean;
  isStopped: boolean;
  again: () => void;
}

/** Asks while the panel is in sight, and unless somebody has stopped it. */
export function usePanelQueries<T>(asks: Ask<T>[], isSeen: boolean): Asked<T>[] {
  const stopped = useStopped((s) => s.hashes);
  const keys = asks.map((ask): QueryKey => ['timed', 'panel', ...ask.key]);
  const hashes = keys.map((key) => hashKey(key));
  const results = useQueries({
    queries: asks.map((ask, i) => ({
      queryKey: keys[i]!,
      enabled: isSeen && !stopped.has(hashes[i]!),
      placeholderData: (old: Answer<T> | undefined) => old,
      staleTime: 5000,
      gcTime: 120_000,
      queryFn: ({ signal }: { signal: AbortSignal }) => ask.run(signal),
    })),
  });
  return asks.map((ask, i) => {
    const result = results[i]!;
    const hash = hashes[i]!;
    return {
      ref: ask.ref,
      text: ask.text,
      hash,
      answer: result.data,
      error: result.error,
      isPending: result.isPending,
      isOld: result.isPlaceholderData,
      isStopped: stopped.has(hash) && (result.isPending || result.isPlaceholderData) && result.error === null,
      again: () => (stopped.has(hash) ? runAgain([hash]) : void result.refetch()),
    };
  });
}

/** The panel that is looked into. */
export const useInspected = create<{ panel: string | null }>(() => ({ panel: null }));

/** What is to be said of the answer of a panel. */
export interface Report {
  title: string;
  /** What is missing from it. */
  partial: string[];
  warnings: string[];
  infos: string[];
  stopped: string[];
}

export const useReports = create<{ panels: ReadonlyMap<string, Report> }>(() => ({ panels: new Map() }));

/** Tells the dashboard, while the panel is there. */
export function useReport(id: string | undefined, report: Report): void {
  const text = JSON.stringify(report);
  useEffect(() => {
    if (id === undefined) return;
    useReports.setState(({ panels }) => ({ panels: new Map(panels).set(id, JSON.parse(text) as Report) }));
  }, [id, text]);
  useEffect(
    () => () => {
      if (id === undefined) return;
      useReports.setState(({ panels }) => {
        const next = new Map(panels);
        next.delete(id);
        return { panels: next };
      });
    },
    [id],
  );
}

/** What there is to say of the answers to the queries of a panel. */
export function reportOf<T>(title: string, asked: Asked<T>[], notes: string[] = []): Report {
  const warnings = [...new Set(asked.flatMap((a) => a.answer?.warnings ?? []))];
  const answered = asked.some((a) => a.answer !== undefined);
  const of = (a: Asked<T>): string => (asked.length > 1 ? `Query ${a.ref}` : 'The query');
  const partial = answered
    ? asked.flatMap((a) => [
        ...(a.error ? [`${of(a)} failed: ${a.error.message}`] : []),
        ...(a.isStopped
          ? [a.answer ? `${of(a)} was stopped: what is shown is older` : `${of(a)} was stopped, and is not shown`]
          : []),
      ])
    : [];
  return {
    title,
    partial: [...partial, ...warnings.filter(isCut), ...notes],
    warnings: warnings.filter((w) => !isCut(w)),
    infos: [...new Set(asked.flatMap((a) => a.answer?.infos ?? []))],
    stopped: asked.filter((a) => a.isStopped).map((a) => a.hash),
  };
}

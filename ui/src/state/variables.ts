// The variables of a dashboard, one after the other: each may be asked with the choices before it.

import { hashKey, useQueries } from '@tanstack/react-query';
import { useMemo } from 'react';
import type { Variable } from '../lib/dashboard/model';
import { type Chosen, choose, loadValues, namesIn, type Scope } from '../lib/dashboard/variables';
import type { Range } from '../lib/time';
import { useStopped } from './panels';
import { currentTenant } from './prefs';

export interface VariableState {
  scope: Scope;
  chosen: Chosen[];
  /** Whether all that panels need is known. */
  ready: boolean;
  errors: Map<string, Error>;
  /** Those that somebody has stopped asking. */
  stopped: number;
}

/** How many variables may stand on each other. */
const DEPTH = 6;

const asked = (variable: Variable, search: Record<string, unknown>): string | string[] | undefined => {
  const value = search[`v-${variable.name}`];
  return typeof value === 'string' || Array.isArray(value) ? (value as string | string[]) : undefined;
};

export function useVariables(variables: Variable[], search: Record<string, unknown>, range: Range): VariableState {
  // Values change slowly: a minute more or less does not matter, and the address stays one question.
  const coarse = useMemo(() => {
    const unit = Math.max(60_000, Math.round((range.to - range.from) / 60));
    return { from: Math.floor(range.from / unit) * unit, to: Math.ceil(range.to / unit) * unit };
  }, [range.from, range.to]);

  const stopped = useStopped((s) => s.hashes);

  // What each is asked as depends on the choices before it: level by level, with what is known so far.
  const levels: { variable: Variable; level: number }[] = [];
  const levelOf = new Map<string, number>();
  for (const variable of variables) {
    const needs = namesIn(variable.query)
      .map((name) => levelOf.get(name))
      .filter((l) => l !== undefined);
    const level = needs.length === 0 ? 0 : Math.min(Math.max(...needs) + 1, DEPTH);
    levelOf.set(variable.name, level);
    levels.push({ variable, level });
  }
  const at = (level: number) => levels.filter((l) => l.level === level).map((l) => l.variable);

  const state: VariableState = { scope: {}, chosen: [], ready: true, errors: new Map(), stopped: 0 };
  // Hooks are called the same number of times whatever the document says.
  for (let level = 0; level <= DEPTH; level++) {
    const here = at(level);
    const scope = { ...state.scope };
    const open = state.ready;
    const keys = here.map((variable) => [
      'variable',
      currentTenant(),
      variable.kind,
      variable.query,
      variable.regex,
      variable.sort,
      JSON.stringify(scopeKey(variable, scope)),
      variable.kind === 'query' ? coarse.from : 0,
      variable.kind === 'query' ? coarse.to : 0,
    ]);
    const isStopped = keys.map((key) => stopped.has(hashKey(key)));
    // biome-ignore lint/correctness/useHookAtTopLevel: the loop has a fixed length
    const results = useQueries({
      queries: here.map((variable, i) => ({
        queryKey: keys[i]!,
        enabled: open && !isStopped[i],
        staleTime: 60_000,
        placeholderData: (old: string[] | undefined) => old,
        queryFn: ({ signal }: { signal: AbortSignal }) => loadValues(variable, scope, coarse, signal),
      })),
    });
    here.forEach((variable, i) => {
      const result = results[i]!;
      if (result.error) state.errors.set(variable.name, result.error);
      else if (!result.data && isStopped[i]) {
        state.stopped += 1;
        state.errors.set(variable.name, new Error('Its values are not known: the question was stopped.'));
      } else if (!result.data) state.ready = false;
      const options = result.data ?? [];
      const entry: Chosen = { variable, options, values: choose(variable, options, asked(variable, search)) };
      state.scope[variable.name] = entry;
    });
  }
  state.chosen = variables.map((v) => state.scope[v.name] as Chosen).filter(Boolean);
  return state;
}

function scopeKey(variable: Variable, scope: Scope): unknown {
  return namesIn(variable.query).map((name) => {
    const entry = scope[name];
    return entry && !Array.isArray(entry)
      ? [entry.values, entry.values.includes('$__all') ? entry.options : []]
      : entry;
  });
}

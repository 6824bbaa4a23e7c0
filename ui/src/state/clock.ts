// The moment that relative times are counted from. It moves when somebody refreshes, or by itself with auto refresh,
// never in between: all panels of a page show the same range.

import { useNavigate, useSearch } from '@tanstack/react-router';
import { useCallback, useEffect, useMemo } from 'react';
import { create } from 'zustand';
import {
  DEFAULT_RANGE,
  isRelative,
  parseDuration,
  type Range,
  type RangeText,
  resolveRange,
  type Zone,
} from '../lib/time';
import { usePrefs } from './prefs';

export const useClock = create<{ now: number; tick: () => void }>((set) => ({
  now: Date.now(),
  tick: () => set({ now: Date.now() }),
}));

/** Search parameters that every page has. */
export interface GlobalSearch {
  from?: string;
  to?: string;
  refresh?: string;
  tz?: Zone;
  tenant?: string;
  kiosk?: boolean;
}

export const REFRESH_CHOICES = ['off', '5s', '10s', '30s', '1m', '5m'];

export interface RangeState {
  text: RangeText;
  range: Range;
  zone: Zone;
  refresh: string;
  setRange: (text: RangeText) => void;
  setRefresh: (refresh: string) => void;
  /** For this browser, and for the address that said another one. */
  setZone: (zone: Zone) => void;
  zoom: (range: Range) => void;
}

/** The time range of the address, resolved. */
export function useRange(fallback: RangeText = DEFAULT_RANGE, fallbackRefresh = 'off'): RangeState {
  const search = useSearch({ strict: false }) as GlobalSearch;
  const navigate = useNavigate();
  const now = useClock((s) => s.now);
  const preferred = usePrefs((s) => s.zone);
  const zone = search.tz ?? preferred;
  const from = search.from ?? fallback.from;
  const to = search.to ?? fallback.to;
  const refresh = search.refresh ?? fallbackRefresh;
  const range = useMemo(() => resolveRange({ from, to }, now, zone), [from, to, now, zone]);
  const change = useCallback(
    (part: GlobalSearch) =>
      void navigate({ to: '.', search: ((old: GlobalSearch) => ({ ...old, ...part })) as never, resetScroll: false }),
    [navigate],
  );
  const setRange = useCallback(
    (text: RangeText) => {
      useClock.getState().tick();
      change({ from: text.from, to: text.to });
    },
    [change],
  );
  return {
    text: { from, to },
    range,
    zone,
    refresh,
    setRange,
    setRefresh: useCallback((value: string) => change({ refresh: value === 'off' ? undefined : value }), [change]),
    setZone: useCallback(
      (wanted: Zone) => {
        usePrefs.getState().set({ zone: wanted });
        change({ tz: undefined });
      },
      [change],
    ),
    zoom: useCallback(
      (wanted: Range) => setRange({ from: String(Math.round(wanted.from)), to: String(Math.round(wanted.to)) }),
      [setRange],
    ),
  };
}

/** Lets the clock run at the refresh interval, while the page is visible and its range moves. */
export function useAutoRefresh(refresh: string, range: RangeText): void {
  const moving = isRelative(range);
  useEffect(() => {
    const every = refresh === 'off' ? null : parseDuration(refresh);
    if (!every || every < 1000 || !moving) return;
    const timer = setInterval(() => {
      if (document.visibilityState === 'visible') useClock.getState().tick();
    }, every);
    return () => clearInterval(timer);
  }, [refresh, moving]);
}

/** A step along time, or a wider look around the middle. */
export function shifted(state: RangeState, kind: 'back' | 'forward' | 'out'): { from: number; to: number } {
  const { from, to } = state.range;
  const span = to - from;
  if (kind === 'back') return { from: from - span / 2, to: to - span / 2 };
  if (kind === 'forward') return { from: from + span / 2, to: to + span / 2 };
  return { from: from - span / 2, to: to + span / 2 };
}

export const frozen = (state: RangeState) => ({
  from: String(Math.round(state.range.from)),
  to: String(Math.round(state.range.to)),
});

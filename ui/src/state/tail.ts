// The live tail of logs: one socket of its own while it is on. Lines come in batches; the newest are kept, and what is
// left out, here or by the server, is counted, never hidden.

import { useEffect, useRef, useState } from 'react';
import { address } from '../api/client';
import type { LogRow } from '../api/logs';
import { currentTenant } from './prefs';

/** Lines that are kept; older ones make room. */
const KEPT = 5000;
/** What was written lately is shown at once. */
const BEHIND_MS = 300_000;
const BEHIND_LINES = 200;
const AGAIN_MS = [500, 1000, 2000, 5000];

export interface Tail {
  /** Newest first. */
  rows: LogRow[];
  /** Lines that arrived while it was paused. */
  waiting: number;
  /** Lines that were left out: by the server, because they came too fast, or here, because too many waited. */
  dropped: number;
  state: 'connecting' | 'open' | 'lost';
  /** Why the server ended it. */
  reason: string;
}

const NOTHING: Tail = { rows: [], waiting: 0, dropped: 0, state: 'connecting', reason: '' };

const newestFirst = (a: LogRow, b: LogRow): number =>
  b.timeUnixNano.length - a.timeUnixNano.length ||
  (a.timeUnixNano === b.timeUnixNano ? 0 : a.timeUnixNano < b.timeUnixNano ? 1 : -1);

/** New lines among those that are there, which may be a little newer. A line that is there already stays one. */
export function merged(rows: LogRow[], fresh: LogRow[]): LogRow[] {
  const there = new Set(rows.map((row) => row.id));
  const added = fresh.filter((row) => !there.has(row.id));
  return added.length === 0 ? rows : [...added, ...rows].sort(newestFirst).slice(0, KEPT);
}

export function useTail(query: string, on: boolean, paused: boolean): Tail {
  const [tail, setTail] = useState<Tail>(NOTHING);
  const held = useRef<LogRow[]>([]);
  const isPaused = useRef(paused);
  isPaused.current = paused;

  useEffect(() => {
    if (!on) return;
    setTail(NOTHING);
    held.current = [];
    let socket: WebSocket | null = null;
    let again: ReturnType<typeof setTimeout>;
    let attempts = 0;
    let since = Date.now() - BEHIND_MS;
    const connect = () => {
      const url = new URL(address('/api/v1/logs/tail'));
      url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
      url.searchParams.set('query', query);
      url.searchParams.set('start', `${since}000000`);
      url.searchParams.set('limit', String(BEHIND_LINES));
      const tenant = currentTenant();
      if (tenant) url.searchParams.set('tenant', tenant);
      const made = new WebSocket(url);
      socket = made;
      made.onopen = () => {
        attempts = 0;
        setTail((old) => ({ ...old, state: 'open', reason: '' }));
      };
      made.onmessage = (event: MessageEvent<string>) => {
        const { rows, dropped } = JSON.parse(event.data) as { rows: LogRow[]; dropped: number };
        // What a new connection begins with: a little before the newest that is here.
        for (const row of rows) since = Math.max(since, Number(BigInt(row.timeUnixNano) / 1_000_000n) - 5000);
        if (isPaused.current) {
          const all = [...held.current, ...rows];
          held.current = all.slice(-KEPT);
          const over = all.length - held.current.length;
          setTail((old) => ({ ...old, waiting: held.current.length, dropped: old.dropped + dropped + over }));
        } else {
          setTail((old) => ({ ...old, rows: merged(old.rows, rows), dropped: old.dropped + dropped }));
        }
      };
      made.onclose = (event) => {
        if (socket !== made) return;
        setTail((old) => ({ ...old, state: 'lost', reason: event.reason }));
        again = setTimeout(connect, AGAIN_MS[Math.min(attempts, AGAIN_MS.length - 1)]);
        attempts += 1;
      };
    };
    connect();
    return () => {
      clearTimeout(again);
      const old = socket;
      socket = null;
      old?.close();
    };
  }, [query, on]);

  useEffect(() => {
    if (paused || held.current.length === 0) return;
    const waiting = held.current;
    held.current = [];
    setTail((old) => ({ ...old, rows: merged(old.rows, waiting), waiting: 0 }));
  }, [paused]);

  return tail;
}

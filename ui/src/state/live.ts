// The one WebSocket of this tab. Screens subscribe by what they want to see; two that want the same share it. While the
// tab is hidden nothing is sent; when the connection is lost it is made again, slower each time, and every subscription
// is told anew.

import { useEffect, useMemo, useState } from 'react';
import { create } from 'zustand';
import { address } from '../api/client';
import type { ClusterStatus } from '../api/cluster';
import { type Columns, decodeColumns } from '../lib/columns';
import { currentTenant } from './prefs';

export type Topic =
  | { topic: 'cluster' }
  | { topic: 'promql'; query: string; window: number; step: number; tenant?: string };

interface Connection {
  state: 'idle' | 'connecting' | 'open' | 'lost';
  attempts: number;
  /** Updates that the server left out because this tab was too slow. */
  dropped: number;
}

export const useConnection = create<Connection>(() => ({ state: 'idle', attempts: 0, dropped: 0 }));

type Update = { data?: unknown; columns?: Columns; error?: { type: string; error: string } };
type Listener = (update: Update) => void;

interface Subscription {
  id: number;
  topic: Topic;
  listeners: Set<Listener>;
  last: Update | null;
}

/** The server speaks at least every 10 s; after this silence the connection counts as lost. */
const SILENCE_MS = 25_000;
const BACKOFF_MS = [500, 1000, 2000, 4000, 8000];

class Live {
  private socket: WebSocket | null = null;
  private tenant: string | undefined;
  private readonly subscriptions = new Map<string, Subscription>();
  private nextId = 1;
  private attempts = 0;
  private silence: ReturnType<typeof setTimeout> | undefined;
  private again: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    document.addEventListener('visibilitychange', () => this.tell({ do: document.hidden ? 'pause' : 'resume' }));
  }

  subscribe(topic: Topic, listener: Listener): () => void {
    const key = JSON.stringify(topic);
    let subscription = this.subscriptions.get(key);
    if (!subscription) {
      subscription = { id: this.nextId++, topic, listeners: new Set(), last: null };
      this.subscriptions.set(key, subscription);
      this.ask(subscription);
    }
    subscription.listeners.add(listener);
    if (subscription.last) listener(subscription.last);
    this.connect();
    const mine = subscription;
    return () => {
      mine.listeners.delete(listener);
      if (mine.listeners.size > 0) return;
      this.subscriptions.delete(key);
      this.tell({ do: 'unsubscribe', id: mine.id });
      if (this.subscriptions.size === 0) this.close();
    };
  }

  private tell(message: object): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  private ask(subscription: Subscription): void {
    this.tell({ do: 'subscribe', id: subscription.id, ...subscription.topic });
  }

  private close(): void {
    clearTimeout(this.silence);
    clearTimeout(this.again);
    const socket = this.socket;
    this.socket = null;
    socket?.close();
    useConnection.setState({ state: 'idle', attempts: 0 });
  }

  private heard(): void {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.lost(), SILENCE_MS);
  }

  private lost(): void {
    clearTimeout(this.silence);
    const socket = this.socket;
    this.socket = null;
    socket?.close();
    if (this.subscriptions.size === 0) return;
    this.attempts += 1;
    useConnection.setState({ state: 'lost', attempts: this.attempts });
    clearTimeout(this.again);
    this.again = setTimeout(() => this.connect(), BACKOFF_MS[Math.min(this.attempts - 1, BACKOFF_MS.length - 1)]);
  }

  private connect(): void {
    if (this.socket && this.tenant !== currentTenant()) {
      const old = this.socket;
      this.socket = null;
      old.close();
    }
    if (this.socket) return;
    this.tenant = currentTenant();
    const url = new URL(address('/api/v1/live'));
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    if (this.tenant) url.searchParams.set('tenant', this.tenant);
    const socket = new WebSocket(url);
    socket.binaryType = 'arraybuffer';
    this.socket = socket;
    if (this.attempts === 0) useConnection.setState({ state: 'connecting' });
    socket.onopen = () => {
      if (this.socket !== socket) return;
      this.attempts = 0;
      useConnection.setState({ state: 'open', attempts: 0 });
      this.heard();
      if (document.hidden) this.tell({ do: 'pause' });
      for (const subscription of this.subscriptions.values()) this.ask(subscription);
    };
    socket.onclose = () => {
      if (this.socket === socket) this.lost();
    };
    socket.onmessage = (event: MessageEvent<string | ArrayBuffer>) => {
      if (this.socket !== socket) return;
      this.heard();
      if (typeof event.data === 'string') {
        const message = JSON.parse(event.data) as { id?: number; dropped?: number } & Update;
        if (message.id !== undefined) this.give(message.id, message, message.dropped ?? 0);
      } else if (event.data.byteLength > 8) {
        const head = new DataView(event.data);
        this.give(head.getUint32(0, true), { columns: decodeColumns(event.data, 8) }, head.getUint32(4, true));
      }
    };
  }

  private give(id: number, update: Update, dropped: number): void {
    if (dropped > 0) useConnection.setState((old) => ({ dropped: old.dropped + dropped }));
    for (const subscription of this.subscriptions.values()) {
      if (subscription.id !== id) continue;
      subscription.last = update;
      for (const listener of subscription.listeners) listener(update);
    }
  }
}

let live: Live | undefined;

function useTopic(topic: Topic | null): Update | null {
  const [update, setUpdate] = useState<Update | null>(null);
  const key = topic ? JSON.stringify(topic) : '';
  useEffect(() => {
    if (key === '') return;
    live ??= new Live();
    return live.subscribe(JSON.parse(key) as Topic, setUpdate);
  }, [key]);
  return update;
}

/** The cluster's state, pushed when it changes. */
export function useLiveCluster(): { status: ClusterStatus | null; error: string | null } {
  const update = useTopic({ topic: 'cluster' });
  return { status: (update?.data as ClusterStatus | undefined) ?? null, error: update?.error?.error ?? null };
}

/** A moving window of an expression. */
export function useLiveQuery(
  query: string | null,
  windowMs: number,
  stepMs: number,
  tenant?: string,
): { columns: Columns | null; error: string | null } {
  const topic = useMemo<Topic | null>(
    () => (query === null ? null : { topic: 'promql', query, window: windowMs, step: stepMs, tenant }),
    [query, windowMs, stepMs, tenant],
  );
  const update = useTopic(topic);
  return { columns: update?.columns ?? null, error: update?.error?.error ?? null };
}

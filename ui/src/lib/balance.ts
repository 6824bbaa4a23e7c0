// How a cluster's shards spread over its nodes: what each holds beside an even share, what moves, and the ring that shows it.

import type { ClusterNode, ClusterStatus, Replica, Shard } from '../api/cluster';

export interface NodeShare {
  node: ClusterNode;
  replicas: number;
  leads: number;
  bytes: number;
  series: number;
  /** Entries behind the leader, of its replica that is furthest behind. */
  lag: number;
  /** Whether it can hold more: it takes part in what is even. */
  takes: boolean;
}

export type Measure = 'replicas' | 'leads' | 'bytes' | 'series';
export const MEASURES: Measure[] = ['replicas', 'leads', 'bytes', 'series'];

export interface Balance {
  shares: NodeShare[];
  /** An even share of each measure. */
  even: Record<Measure, number>;
  /** What stands out, in words; none where all is even. */
  uneven: string[];
}

/** Away from an even share by more than this part of it, and by more than a whole one, is said. */
const TOLERANCE = 0.25;

const NAMES: Record<Measure, [string, string]> = {
  replicas: ['holds', 'replicas'],
  leads: ['leads', 'shards'],
  bytes: ['holds', 'of segments and logs'],
  series: ['holds', 'series'],
};

const bytesOf = (replica: Replica): number => (replica.data ? replica.data.segment_bytes + replica.data.log_bytes : 0);

export function balanceOf(status: ClusterStatus, format: Record<Measure, (n: number) => string>): Balance {
  const shares = status.nodes
    .filter((node) => node.state !== 'removed')
    .map((node): NodeShare => {
      const own = status.shards.flatMap((shard) => shard.replicas.filter((replica) => replica.node === node.id));
      return {
        node,
        replicas: own.length,
        leads: status.shards.filter((shard) => shard.leader === node.id).length,
        bytes: own.reduce((sum, replica) => sum + bytesOf(replica), 0),
        series: own.reduce((sum, replica) => sum + (replica.data?.series ?? 0), 0),
        lag: Math.max(0, ...own.map((replica) => replica.lag)),
        takes: node.reachable && node.state === 'active',
      };
    });
  const takers = shares.filter((share) => share.takes);
  const even = {} as Balance['even'];
  const uneven: string[] = [];
  for (const measure of MEASURES) {
    even[measure] = takers.length === 0 ? 0 : takers.reduce((sum, share) => sum + share[measure], 0) / takers.length;
    // Bytes and series follow from which shards are large: only where they are many does a difference mean anything.
    const least = measure === 'bytes' ? 64 * 1024 * 1024 : measure === 'series' ? 1000 : 1;
    const [verb, what] = NAMES[measure];
    for (const share of takers) {
      const away = share[measure] - even[measure];
      if (Math.abs(away) > Math.max(least, even[measure] * TOLERANCE))
        uneven.push(
          `node ${share.node.id} ${verb} ${format[measure](share[measure])} ${what}, an even share is ${format[measure](Math.round(even[measure]))}`,
        );
    }
  }
  return { shares, even, uneven };
}

export interface Move {
  shard: number;
  /** Whose replicas are to go, and to come. */
  from: number[];
  to: number[];
  /** What the one that comes does now. */
  stage: 'waits' | 'copies' | 'catches up' | 'leaves';
  /** Entries that are still to come. */
  lag: number;
  bytes: number;
}

/** Shards whose replicas are not yet where they are wanted, or no longer. */
export function movesOf(status: ClusterStatus): Move[] {
  const removed = new Set(status.nodes.filter((node) => node.state === 'removed').map((node) => node.id));
  const groups = status.meta ? [status.meta, ...status.shards] : status.shards;
  return groups
    .map((shard): Move | null => {
      const votes = (node: number): boolean => shard.voters.includes(node);
      const to = [...new Set([...shard.wanted.filter((node) => !votes(node)), ...shard.learners])];
      // Without a leader nobody says who votes: then nothing is known to go.
      const from =
        shard.voters.length === 0
          ? []
          : shard.replicas
              .map((replica) => replica.node)
              .filter((node) => !shard.wanted.includes(node) && !to.includes(node) && !removed.has(node));
      if (shard.voters.length === 0 || (to.length === 0 && from.length === 0)) return null;
      const coming = shard.replicas.filter((replica) => to.includes(replica.node));
      const lag = Math.max(0, ...coming.map((replica) => replica.lag));
      const source = shard.replicas.find((replica) => replica.node === shard.leader);
      return {
        shard: shard.id,
        from,
        to,
        stage: to.length === 0 ? 'leaves' : coming.length < to.length ? 'waits' : lag > 0 ? 'catches up' : 'copies',
        lag,
        bytes: source ? bytesOf(source) : 0,
      };
    })
    .filter((move) => move !== null);
}

export interface RingCell {
  node: number;
  shard: Shard;
  /** Around the ring, in turns from its top. */
  from: number;
  to: number;
}

export interface RingArc {
  node: ClusterNode;
  from: number;
  to: number;
  cells: RingCell[];
}

/** Between the arcs of two nodes, in turns. */
const GAP = 0.012;

/** Nodes around a ring, as long as they hold replicas, which stand in the order of their shards. */
export function ringOf(status: ClusterStatus): RingArc[] {
  const nodes = status.nodes.filter((node) => node.state !== 'removed');
  const groups = status.meta ? [status.meta, ...status.shards] : status.shards;
  const held = nodes.map((node) =>
    groups.filter((shard) => shard.wanted.includes(node.id) || shard.replicas.some((r) => r.node === node.id)),
  );
  // A node without any is there to be seen.
  const total = held.reduce((sum, shards) => sum + Math.max(1, shards.length), 0);
  const room = 1 - GAP * nodes.length;
  let at = GAP / 2;
  return nodes.map((node, i) => {
    const shards = held[i]!;
    const width = (room * Math.max(1, shards.length)) / Math.max(1, total);
    const from = at;
    at += width + GAP;
    const cell = width / Math.max(1, shards.length);
    return {
      node,
      from,
      to: from + width,
      cells: shards.map((shard, n) => ({ node: node.id, shard, from: from + n * cell, to: from + (n + 1) * cell })),
    };
  });
}

/** A point of the ring. */
export const ringPoint = (turns: number, radius: number): [number, number] => [
  radius * Math.sin(turns * 2 * Math.PI),
  -radius * Math.cos(turns * 2 * Math.PI),
];

const pair = ([x, y]: [number, number]): string => `${x.toFixed(2)},${y.toFixed(2)}`;

/** The outline of a part of the ring. */
export function ringPath(from: number, to: number, inner: number, outer: number): string {
  const long = to - from > 0.5 ? 1 : 0;
  const arc = (radius: number, turns: number, back: 0 | 1): string =>
    `A${radius},${radius} 0 ${long} ${back === 0 ? 1 : 0} ${pair(ringPoint(turns, radius))}`;
  return `M${pair(ringPoint(from, outer))}${arc(outer, to, 0)}L${pair(ringPoint(to, inner))}${arc(inner, from, 1)}Z`;
}

/** A line through the inside, from one replica to another. */
export const ringChord = (from: number, to: number, radius: number): string =>
  `M${pair(ringPoint(from, radius))}Q0,0 ${pair(ringPoint(to, radius))}`;

// The state of the cluster, and what may be done to it.

import { type Answer, ask, askPlain } from './client';

export interface ClusterNode {
  id: number;
  addr: string;
  state: 'joining' | 'active' | 'draining' | 'removed';
  reachable: boolean;
  ready?: boolean;
  version?: string;
  clock_offset_ms?: number;
  clock_disagrees?: boolean;
  log_bytes?: number;
}

export interface ReplicaData {
  flushed: number | null;
  log_bytes: number;
  memtable_bytes: number;
  segment_bytes: number;
  segments: number;
  series: number;
  digest_index: number;
  digest: string;
}

export interface Replica {
  node: number;
  replica: number;
  role: 'leader' | 'follower' | 'candidate' | 'learner' | 'stopped';
  last_log: number;
  applied: number;
  lag: number;
  data: ReplicaData | null;
}

export interface Shard {
  id: number;
  leader: number | null;
  term: number;
  voters: number[];
  learners: number[];
  changing: boolean;
  wanted: number[];
  replicas: Replica[];
  consistent: boolean;
  applied: number | null;
}

export interface ClusterStatus {
  cluster_id: string;
  node: number;
  meta_leader: number | null;
  nodes: ClusterNode[];
  meta: Shard | null;
  shards: Shard[];
}

export const clusterStatus = (signal?: AbortSignal): Promise<ClusterStatus> => askPlain('/cluster/status', signal);

export const moveReplica = (shard: number, from: number, to: number): Promise<Answer<unknown>> =>
  ask('/api/v1/cluster/move', { shard, from, to }, { post: true });
export const drainNode = (node: number): Promise<Answer<unknown>> =>
  ask('/api/v1/cluster/drain', { node }, { post: true });
export const removeNode = (node: number): Promise<Answer<unknown>> =>
  ask('/api/v1/cluster/remove', { node }, { post: true });

/** What an operator looks at first. */
export interface Health {
  reachable: number;
  members: number;
  leaderless: number[];
  underReplicated: number[];
  diverged: number[];
  maxLag: number;
  series: number;
  bytes: number;
  state: 'ok' | 'warn' | 'critical';
  words: string;
}

export function health(status: ClusterStatus): Health {
  const members = status.nodes.filter((n) => n.state !== 'removed');
  const alive = new Set(members.filter((n) => n.reachable).map((n) => n.id));
  const groups = status.meta ? [status.meta, ...status.shards] : status.shards;
  const leaderless = groups.filter((s) => s.leader === null || !alive.has(s.leader)).map((s) => s.id);
  // A replica counts when its node answers and it follows closely enough to answer for the shard.
  const underReplicated = groups
    .filter((s) => s.replicas.filter((r) => r.role !== 'stopped' && alive.has(r.node)).length < s.wanted.length)
    .map((s) => s.id);
  const diverged = groups.filter((s) => !s.consistent).map((s) => s.id);
  const replicas = status.shards.flatMap((s) => s.replicas);
  const leaderData = status.shards.map((s) => s.replicas.find((r) => r.node === s.leader)?.data ?? s.replicas[0]?.data);
  const down = members.length - alive.size;
  const state =
    leaderless.length > 0 || diverged.length > 0 ? 'critical' : underReplicated.length > 0 || down > 0 ? 'warn' : 'ok';
  const words =
    leaderless.length > 0
      ? `${leaderless.length} of ${groups.length} groups have no leader`
      : diverged.length > 0
        ? `${diverged.length} shards have replicas that differ`
        : down > 0
          ? `${down} of ${members.length} nodes do not answer; every shard has a leader`
          : underReplicated.length > 0
            ? `${underReplicated.length} shards lack a replica`
            : 'all nodes answer, every shard is whole';
  return {
    reachable: alive.size,
    members: members.length,
    leaderless,
    underReplicated,
    diverged,
    maxLag: Math.max(0, ...replicas.map((r) => r.lag)),
    series: leaderData.reduce((sum, d) => sum + (d?.series ?? 0), 0),
    bytes: replicas.reduce((sum, r) => sum + (r.data ? r.data.segment_bytes + r.data.log_bytes : 0), 0),
    state,
    words,
  };
}

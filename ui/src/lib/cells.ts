// What a node is to a shard, in words, signs and colours that the matrix and the ring share.

import type { ClusterNode, ClusterStatus, Replica, Shard } from '../api/cluster';
import type { Only } from '../routes';
import { movesOf } from './balance';

/** Entries behind the leader from which a replica is shown as late. */
export const LATE = 50;

export type CellState = 'leader' | 'follower' | 'learner' | 'late' | 'stopped' | 'missing' | 'lost' | 'none';

/** What one node is to one shard. */
export function cellState(node: ClusterNode, shard: Shard): { state: CellState; replica: Replica | undefined } {
  const replica = shard.replicas.find((r) => r.node === node.id);
  const wanted = shard.wanted.includes(node.id);
  if (!replica) return { state: wanted ? (node.reachable ? 'missing' : 'lost') : 'none', replica };
  if (!node.reachable) return { state: 'lost', replica };
  if (replica.role === 'stopped') return { state: 'stopped', replica };
  if (shard.leader === node.id) return { state: 'leader', replica };
  if (replica.role === 'learner') return { state: 'learner', replica };
  return { state: replica.lag > LATE ? 'late' : 'follower', replica };
}

export const WORDS: Record<CellState, string> = {
  leader: 'leads',
  follower: 'follows',
  learner: 'learns: copies the data, does not vote yet',
  late: 'follows late',
  stopped: 'has stopped',
  missing: 'should be here and is not yet',
  lost: 'its node does not answer',
  none: 'no replica here, and none wanted',
};

export const MARKS: Record<CellState, string> = {
  leader: '★',
  follower: '',
  learner: '…',
  late: '▲',
  stopped: '■',
  missing: '+',
  lost: '×',
  none: '',
};

/** What a replica is, in a line. */
export function cellName(node: ClusterNode, shard: Shard): string {
  const { state, replica } = cellState(node, shard);
  const behind = replica && replica.lag > 0 ? `, ${replica.lag} entries behind` : '';
  return `${shard.id === 0 ? 'meta group' : `shard ${shard.id}`} on node ${node.id}: ${WORDS[state]}${behind}`;
}

export const ONLY_WORDS: Record<Only, string> = {
  broken: 'Not whole',
  late: 'Late',
  moving: 'Moving',
};

/** Groups of a state, and those and nodes that words name: `3`, `shard 3`, `node 2`, a part of an address. */
export function findCells(
  status: ClusterStatus,
  only: Only | undefined,
  find: string,
): { nodes: ClusterNode[]; groups: Shard[] } {
  const all = status.meta ? [status.meta, ...status.shards] : status.shards;
  const members = status.nodes.filter((node) => node.state !== 'removed');
  const moving = new Set(movesOf(status).map((move) => move.shard));
  const isMeant = (shard: Shard): boolean => {
    if (only === undefined) return true;
    if (only === 'moving') return moving.has(shard.id);
    const states = members.map((node) => cellState(node, shard).state);
    return only === 'late'
      ? states.includes('late')
      : shard.leader === null ||
          !shard.consistent ||
          states.some((s) => s === 'lost' || s === 'stopped' || s === 'missing');
  };
  const text = find.trim().toLowerCase();
  const named = (shard: Shard): boolean =>
    [String(shard.id), `shard ${shard.id}`, ...(shard.id === 0 ? ['meta', 'meta group'] : [])].includes(text);
  const isNode = (node: ClusterNode): boolean =>
    `node ${node.id}` === text || (text.length > 2 && node.addr.toLowerCase().includes(text));
  const groups = all.filter(isMeant);
  if (text === '') return { nodes: members, groups };
  const nodes = members.filter(isNode);
  if (nodes.length > 0) return { nodes, groups };
  return { nodes: members, groups: groups.filter(named) };
}

import { expect, it } from 'vitest';
import type { ClusterNode, ClusterStatus, Replica, Shard } from '../api/cluster';
import { cellName, findCells } from './cells';

const node = (id: number, reachable = true): ClusterNode => ({
  id,
  addr: `10.0.0.${id}:9700`,
  state: 'active',
  reachable,
});
const replica = (on: number, lag = 0): Replica => ({
  node: on,
  replica: on,
  role: 'follower',
  last_log: 10,
  applied: 10,
  lag,
  data: null,
});
const shard = (id: number, more: Partial<Shard> = {}): Shard => ({
  id,
  leader: 1,
  term: 1,
  voters: [1, 2],
  learners: [],
  changing: false,
  wanted: [1, 2],
  replicas: [replica(1), replica(2)],
  consistent: true,
  applied: 10,
  ...more,
});
const status: ClusterStatus = {
  cluster_id: 'x',
  node: 1,
  meta_leader: 1,
  nodes: [node(1), node(2), node(3)],
  meta: shard(0),
  shards: [
    shard(1),
    shard(2, { replicas: [replica(1), replica(2, 900)] }),
    shard(3, { wanted: [1, 3] }),
    shard(12, { leader: null }),
  ],
};

const found = (only: Parameters<typeof findCells>[1], find = '') => {
  const { nodes, groups } = findCells(status, only, find);
  return [nodes.map((one) => one.id), groups.map((one) => one.id)];
};

it('shards are found by their state, by number, by node', () => {
  const all = [1, 2, 3];
  expect(found(undefined)).toEqual([all, [0, 1, 2, 3, 12]]);
  expect(found('late')).toEqual([all, [2]]);
  expect(found('moving')).toEqual([all, [3]]);
  expect(found('broken')).toEqual([all, [3, 12]]);
  expect(found(undefined, '2')).toEqual([all, [2]]);
  expect(found(undefined, 'Shard 12')).toEqual([all, [12]]);
  expect(found(undefined, 'meta')).toEqual([all, [0]]);
  expect(found(undefined, 'node 3')).toEqual([[3], [0, 1, 2, 3, 12]]);
  expect(found('late', '10.0.0.2')).toEqual([[2], [2]]);
  expect(found('late', '3')).toEqual([all, []]);
});

it('a replica is said in words', () => {
  expect(cellName(status.nodes[1]!, status.shards[1]!)).toBe('shard 2 on node 2: follows late, 900 entries behind');
  expect(cellName(status.nodes[2]!, status.shards[2]!)).toBe('shard 3 on node 3: should be here and is not yet');
});

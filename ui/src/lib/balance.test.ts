import { describe, expect, it } from 'vitest';
import type { ClusterNode, ClusterStatus, Replica, Shard } from '../api/cluster';
import { balanceOf, movesOf, ringOf, ringPath, ringPoint } from './balance';

const MB = 1024 * 1024;
const node = (id: number, more: Partial<ClusterNode> = {}): ClusterNode => ({
  id,
  addr: `127.0.0.1:${id}`,
  state: 'active',
  reachable: true,
  ready: true,
  ...more,
});
const replica = (on: number, lag = 0, bytes = MB): Replica => ({
  node: on,
  replica: on,
  role: 'follower',
  last_log: 10,
  applied: 10,
  lag,
  data: {
    flushed: null,
    log_bytes: 0,
    memtable_bytes: 0,
    segment_bytes: bytes,
    segments: 1,
    series: 10,
    digest_index: 1,
    digest: '',
  },
});
const shard = (id: number, leader: number | null, on: number[], more: Partial<Shard> = {}): Shard => ({
  id,
  leader,
  term: 1,
  voters: on,
  learners: [],
  changing: false,
  wanted: on,
  replicas: on.map((n) => replica(n)),
  consistent: true,
  applied: 10,
  ...more,
});
const status = (nodes: ClusterNode[], shards: Shard[]): ClusterStatus => ({
  cluster_id: 'x',
  node: 1,
  meta_leader: 1,
  nodes,
  meta: null,
  shards,
});
const plain = { replicas: String, leads: String, bytes: (n: number) => `${Math.round(n / MB)} MiB`, series: String };

describe('balance', () => {
  it('says nothing of an even cluster', () => {
    const even = balanceOf(
      status(
        [1, 2, 3].map((id) => node(id)),
        [shard(1, 1, [1, 2, 3]), shard(2, 2, [1, 2, 3]), shard(3, 3, [1, 2, 3])],
      ),
      plain,
    );
    expect(even.uneven).toEqual([]);
    expect(even.even).toEqual({ replicas: 3, leads: 1, bytes: 3 * MB, series: 30 });
  });
  it('names who leads too much, and who holds too much', () => {
    const shards = [1, 2, 3, 4, 5, 6].map((id) => shard(id, 1, [1, 2, 3]));
    const led = balanceOf(
      status(
        [1, 2, 3].map((id) => node(id)),
        shards,
      ),
      plain,
    );
    expect(led.uneven).toEqual([
      'node 1 leads 6 shards, an even share is 2',
      'node 2 leads 0 shards, an even share is 2',
      'node 3 leads 0 shards, an even share is 2',
    ]);
    const heavy = shard(1, 1, [1, 2, 3], { replicas: [replica(1, 0, 900 * MB), replica(2), replica(3)] });
    expect(
      balanceOf(
        status(
          [1, 2, 3].map((id) => node(id)),
          [heavy],
        ),
        plain,
      ).uneven[0],
    ).toBe('node 1 holds 900 MiB of segments and logs, an even share is 301 MiB');
  });
  it('expects nothing of nodes that leave or are away', () => {
    const nodes = [
      node(1),
      node(2),
      node(3, { reachable: false }),
      node(4, { state: 'draining' }),
      node(5, { state: 'removed' }),
    ];
    const of = balanceOf(status(nodes, [shard(1, 1, [1, 2, 3]), shard(2, 2, [1, 2, 3])]), plain);
    expect(of.uneven).toEqual([]);
    expect(of.shares.map((share) => share.node.id)).toEqual([1, 2, 3, 4]);
    expect(of.even.replicas).toBe(2);
  });
});

describe('moves', () => {
  const nodes = [1, 2, 3, 4].map((id) => node(id));
  it('are none where all is where it is wanted', () => {
    expect(movesOf(status(nodes, [shard(1, 1, [1, 2, 3])]))).toEqual([]);
    expect(movesOf(status(nodes, [shard(1, null, [1, 2, 3], { voters: [] })]))).toEqual([]);
  });
  it('tell from where, to where, and how far it is', () => {
    const moving = shard(7, 1, [1, 2, 3], { wanted: [1, 2, 4] });
    expect(movesOf(status(nodes, [moving]))).toEqual([
      { shard: 7, from: [3], to: [4], stage: 'waits', lag: 0, bytes: MB },
    ]);
    const copying = { ...moving, learners: [4], replicas: [...moving.replicas, replica(4, 120)] };
    expect(movesOf(status(nodes, [copying]))[0]).toMatchObject({ from: [3], to: [4], stage: 'catches up', lag: 120 });
    const left = { ...moving, voters: [1, 2, 4], replicas: [replica(1), replica(2), replica(4), replica(3)] };
    expect(movesOf(status(nodes, [left]))[0]).toMatchObject({ from: [3], to: [], stage: 'leaves' });
  });
});

describe('the ring', () => {
  it('has an arc a node, as long as what it holds, and all of them once around', () => {
    const arcs = ringOf(
      status(
        [1, 2, 3].map((id) => node(id)),
        [shard(1, 1, [1, 2]), shard(2, 1, [1])],
      ),
    );
    expect(arcs.map((arc) => arc.cells.map((cell) => cell.shard.id))).toEqual([[1, 2], [1], []]);
    const long = arcs.map((arc) => arc.to - arc.from);
    expect(long[0]).toBeCloseTo(2 * long[1]!);
    expect(long[2]).toBeCloseTo(long[1]!);
    for (const [i, arc] of arcs.entries()) expect(arc.from).toBeGreaterThan(arcs[i - 1]?.to ?? 0);
    expect(arcs.at(-1)!.to).toBeLessThan(1);
  });
  it('begins at the top and goes by the clock', () => {
    expect(ringPoint(0, 100)[1]).toBeCloseTo(-100);
    expect(ringPoint(0.25, 100)[0]).toBeCloseTo(100);
    expect(ringPath(0, 0.25, 50, 100)).toBe(
      'M0.00,-100.00A100,100 0 0 1 100.00,-0.00L50.00,-0.00A50,50 0 0 0 0.00,-50.00Z',
    );
  });
});

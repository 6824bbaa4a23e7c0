// What is made of the server's counts of spans: heat, rate and errors, the map.

import { describe, expect, it } from 'vitest';
import type { Dependency, TraceSeries } from '../api/traces';
import { setsOf } from '../components/traces/Compare';
import { callsOf } from '../components/traces/ServiceMap';
import { grouped, layered } from './layers';
import { byService, entryKind, frameOfTraces, redQueries, redRows } from './red';
import { boxText, heatTotal, parseBox, traceHeat } from './traceheat';

describe('heat', () => {
  const series: TraceSeries[] = [
    {
      labels: { __bucket: 1024e-9 },
      values: [
        [100, 3],
        [110, 0],
      ],
    },
    { labels: { __bucket: 8192e-9 }, values: [[110, 5]] },
    { labels: { __bucket: 'NaN' }, values: [[100, 9]] },
  ];
  const heat = traceHeat(series, 100_000, 120_000, 10_000);

  it('has rows without holes, by powers of two', () => {
    expect(heat.rows.map((row) => Math.round(row.upper * 1e9))).toEqual([1024, 2048, 4096, 8192]);
    expect(heat.rows.map((row) => row.counts)).toEqual([
      [3, null],
      [null, null],
      [null, null],
      [null, 5],
    ]);
    expect([heat.max, heatTotal(heat), heatTotal(heat, (column) => column === 1)]).toEqual([5, 8, 5]);
    expect(heat.times).toEqual([110_000, 120_000]);
    expect(traceHeat([], 0, 10_000, 1000).rows).toEqual([]);
  });

  it('a part of it is an address', () => {
    const box = { from: 100_000, to: 110_000, lowerNs: 1024, upperNs: 8192 };
    expect(parseBox(boxText(box))).toEqual(box);
    for (const wrong of [undefined, '1-2', '2-1,1-2', '1-2,2-2', 'x']) expect(parseBox(wrong)).toBeNull();
    expect(setsOf('{ .a }', box)).toEqual({
      selection: '{ .a } | { duration >= 1.024us && duration <= 8.192us }',
      baseline: '{ .a } | { (duration < 1.024us || duration > 8.192us) }',
    });
  });
});

describe('rate, errors, duration', () => {
  const labels = (service: string | null, kind: string, more = {}) => ({
    'resource.service.name': service,
    kind,
    ...more,
  });
  const answers = {
    rate: [
      {
        labels: labels('web', 'server'),
        values: [
          [0, 2],
          [10, 4],
        ],
      },
      {
        labels: labels('web', 'client'),
        values: [
          [0, 50],
          [10, 50],
        ],
      },
      {
        labels: labels(null, 'internal'),
        values: [
          [0, 1],
          [10, 0],
        ],
      },
      {
        labels: labels('gone', 'server'),
        values: [
          [0, 0],
          [10, 0],
        ],
      },
    ] as TraceSeries[],
    errors: [
      {
        labels: labels('web', 'server'),
        values: [
          [0, 1],
          [10, 0],
        ],
      },
    ] as TraceSeries[],
    quantiles: [{ labels: labels('web', 'server', { p: 0.95 }), values: [[0, 0.25]] }] as TraceSeries[],
  };
  const rows = redRows(answers, 'resource.service.name', 20, 10);

  it('are rows by field and kind', () => {
    expect(rows.map((row) => [row.key, row.kind, row.spans, row.rate])).toEqual([
      ['web', 'server', 60, 3],
      ['web', 'client', 1000, 50],
      ['', 'internal', 10, 0.5],
    ]);
    expect(rows[0]!.errors).toBeCloseTo(10 / 60);
    expect(rows[0]!.quantiles).toEqual([null, 0.25, null]);
  });

  it('a service is what it is asked', () => {
    expect(byService(rows).map((row) => [row.key, row.kind])).toEqual([
      ['web', 'server'],
      ['', 'internal'],
    ]);
    expect(
      entryKind([
        { kind: 'client', spans: 9 },
        { kind: 'consumer', spans: 1 },
      ]),
    ).toBe('consumer');
    expect(
      entryKind([
        { kind: 'client', spans: 9 },
        { kind: 'internal', spans: 10 },
      ]),
    ).toBe('internal');
    expect(entryKind([])).toBeUndefined();
  });

  it('ask about one service or all', () => {
    expect(redQueries('a"b', ['name']).errors).toBe(
      '{ resource.service.name = "a\\"b" && status = error } | rate() by (name)',
    );
    expect(redQueries(undefined, []).rate).toBe('{ } | rate()');
  });

  it('are charts, with gaps where nothing is known', () => {
    const frame = frameOfTraces(answers.quantiles, 0, 20_000, 10_000, (of) => `p${of.p}`);
    expect(frame.times).toEqual([0, 10_000]);
    expect(frame.series[0]!.values).toEqual([0.25, null]);
    expect(frame.series[0]!.name).toBe('p0.95');
  });
});

describe('a map', () => {
  const sizes = { width: 100, height: 40, across: 50, down: 10 };
  const edge = (from: string, to: string) => ({ from, to });

  it('goes from callers to called, and boxes of a layer do not meet', () => {
    const names = ['a', 'b', 'c', 'd', 'e'];
    const edges = [edge('a', 'b'), edge('a', 'c'), edge('b', 'd'), edge('c', 'd'), edge('a', 'd'), edge('e', 'd')];
    const { nodes, lines, width } = layered(names, edges, sizes);
    const x = (name: string) => nodes.get(name)!.x;
    expect([x('a'), x('b'), x('c'), x('d')]).toEqual([50, 200, 200, 350]);
    // Who is called by nobody stands beside whom it calls.
    expect(x('e')).toBe(200);
    expect(width).toBe(400);
    // The long edge passes a place of its own.
    expect(lines[4]!.map((point) => point.x)).toEqual([50, 200, 350]);
    const ys = ['b', 'c', 'e'].map((name) => nodes.get(name)!.y).sort((p, q) => p - q);
    expect(ys[1]! - ys[0]!).toBeGreaterThanOrEqual(49.9);
    expect(ys[2]! - ys[1]!).toBeGreaterThanOrEqual(49.9);
  });

  it('circles and calls to oneself are drawn, too', () => {
    const { nodes, lines } = layered(
      ['a', 'b', 'c'],
      [edge('a', 'b'), edge('b', 'c'), edge('c', 'a'), edge('b', 'b')],
      sizes,
    );
    expect(new Set([...nodes.values()].map((at) => at.x)).size).toBe(3);
    expect(lines[2]![0]).toEqual(nodes.get('c'));
    expect(lines[2]!.at(-1)).toEqual(nodes.get('a'));
  });

  it('any graph is laid out, and long chains do not recurse', () => {
    const names = Array.from({ length: 300 }, (_, i) => `s${i}`);
    let seed = 3;
    const random = () => {
      seed = (seed * 1103515245 + 12345) & 0x7fffffff;
      return seed;
    };
    const edges = Array.from({ length: 600 }, () => edge(names[random() % 300]!, names[random() % 300]!));
    const placed = layered(names, edges, sizes);
    expect([...placed.nodes.values()].every((at) => Number.isFinite(at.x) && Number.isFinite(at.y))).toBe(true);
    const chain = Array.from({ length: 5000 }, (_, i) => `c${i}`);
    const long = layered(
      chain,
      chain.slice(1).map((name, i) => edge(chain[i]!, name)),
      sizes,
    );
    expect(long.nodes.get('c4999')!.x).toBe(4999 * 150 + 50);
    expect(layered([], [], sizes).nodes.size).toBe(0);
  });

  it('many services are put together by their names, then the lightest', () => {
    const names = ['shop-a', 'shop-b', 'pay', 'ship.x', 'ship.y', 'zoo'];
    expect([...grouped(names, () => 1, 6).members.keys()]).toEqual(names);
    expect([...grouped(names, () => 1, 4).members.keys()]).toEqual(['shop*', 'pay', 'ship*', 'zoo']);
    const weights: Record<string, number> = { zoo: 100, pay: 50 };
    const few = grouped(names, (name) => weights[name] ?? 1, 3);
    expect([...few.members.keys()]).toEqual(['zoo', 'pay', '(others)']);
    expect(few.group.get('ship.x')).toBe('(others)');
    const call = (parent: string, child: string, callCount: number, averageDurationNs: number): Dependency => ({
      parent,
      child,
      callCount,
      errorCount: 1,
      averageDurationNs,
    });
    const calls = callsOf(
      [call('pay', 'ship.x', 1, 10), call('pay', 'ship.y', 3, 30), call('ship.x', 'ship.y', 9, 1)],
      few.group,
    );
    expect(
      calls.map(({ from, to, callCount, errorCount, averageDurationNs }) => [
        from,
        to,
        callCount,
        errorCount,
        averageDurationNs,
      ]),
    ).toEqual([['pay', '(others)', 4, 2, 25]]);
  });
});

import { describe, expect, it } from 'vitest';
import type { Span, Trace } from '../api/traces';
import { operationPairs } from './comparetraces';
import { lanesOf } from './lanes';
import {
  ancestors,
  around,
  axisOf,
  beside,
  callsWithin,
  finder,
  gapsOf,
  keptFor,
  mayGrow,
  parseWindow,
  positions,
  rowsOf,
  selfNs,
  ticksOf,
  tickText,
  viewOf,
  windowText,
} from './trace';
import { traceIdOf } from './traceid';

const BASE = 1_700_000_000_000_000_000n;

/** A trace of `[depth, begins, ends]`, from the top down. */
function traceOf(rows: [number, number, number, Partial<Span>?][]): Trace {
  const way: number[] = [];
  const spans = rows.map(([depth, from, to, more], i): Span => {
    way[depth] = i;
    return {
      spanId: String(i + 1).padStart(16, '0'),
      parentSpanId: '',
      parent: depth === 0 ? null : way[depth - 1]!,
      depth,
      orphan: false,
      service: 'web',
      name: `span ${i}`,
      kind: 'internal',
      status: 'unset',
      statusMessage: '',
      startTimeUnixNano: String(BASE + BigInt(from)),
      endTimeUnixNano: String(BASE + BigInt(to)),
      durationNs: to - from,
      criticalNs: 0,
      traceState: '',
      flags: 0,
      attributes: {},
      events: [],
      links: [],
      stream: 0,
      dropped: { attributes: 0, events: 0, links: 0 },
      ...more,
    };
  });
  return {
    traceId: '1'.padStart(32, '0'),
    rootService: 'web',
    rootName: 'span 0',
    start: '',
    startTimeUnixNano: String(BASE),
    durationNs: 0,
    spanCount: spans.length,
    errorCount: 0,
    services: [],
    spans,
    streams: [{ resource: { host: 'A1' }, scope: { name: '', version: '', attributes: {} } }],
    criticalPath: [{ span: 1, startTimeUnixNano: String(BASE + 10n), endTimeUnixNano: String(BASE + 40n) }],
  };
}

const SMALL = traceOf([
  [0, 0, 1000],
  [1, 10, 500, { service: 'db', status: 'error', attributes: { 'http.status': 500, who: 'Ann B' } }],
  [2, 20, 100, { service: 'db' }],
  [1, 400, 700],
  [0, 5, 2000, { orphan: true, service: 'queue' }],
]);

describe('a trace', () => {
  it('may grow a while after one of its spans has ended, by a clock that can be right', () => {
    const base = Number(BASE / 1_000_000n);
    expect(mayGrow(SMALL, base + 29_000)).toBe(true);
    expect(mayGrow(SMALL, base + 31_000)).toBe(false);
    expect(mayGrow(SMALL, base - 31_000)).toBe(false);
  });
});

describe('a view', () => {
  const view = viewOf(SMALL);
  it('knows sizes, children, errors and times', () => {
    expect([...view.size]).toEqual([4, 2, 1, 1, 1]);
    expect([...view.children]).toEqual([2, 1, 0, 0, 0]);
    expect([...view.errorsBelow]).toEqual([1, 0, 0, 0, 0]);
    expect(view.totalNs).toBe(2000);
    expect([view.begin[3], view.end[3], view.depth]).toEqual([400, 700, 3]);
    expect(view.errors).toEqual([1]);
    expect(view.critical.get(1)).toEqual([[10, 40]]);
    expect(view.services.map((one) => [one.name, one.spans, one.errors])).toEqual([
      ['db', 2, 1],
      ['web', 2, 0],
      ['queue', 1, 0],
    ]);
    expect(ancestors(view, 2)).toEqual([1, 0]);
  });

  it('counts own time without that of children, which may overlap', () => {
    expect(selfNs(view, 0)).toBe(1000 - 690);
    expect(selfNs(view, 2)).toBe(80);
    // A child may begin before and end behind its parent.
    expect(
      selfNs(
        viewOf(
          traceOf([
            [0, 100, 200],
            [1, 50, 150],
            [1, 180, 900],
          ]),
        ),
        0,
      ),
    ).toBe(30);
    // Or lie beside it, where clocks differ.
    const beside = viewOf(
      traceOf([
        [0, 100, 200],
        [1, 10, 50],
        [1, 700, 900],
      ]),
    );
    expect(selfNs(beside, 0)).toBe(100);
  });

  it('shows what is open, and what is wanted with the way to it', () => {
    expect(rowsOf(view, () => true, null)).toEqual([0, 1, 2, 3, 4]);
    expect(rowsOf(view, () => false, null)).toEqual([0, 4]);
    expect(rowsOf(view, (at) => at === 0, null)).toEqual([0, 1, 3, 4]);
    const found = finder(SMALL)('db span')!;
    expect(positions(found)).toEqual([1, 2]);
    expect(rowsOf(view, () => true, keptFor(view, found))).toEqual([0, 1, 2]);
  });

  it('finds by any part of a span, all words, whatever the case', () => {
    const find = finder(SMALL);
    expect(find('  ')).toBeNull();
    expect(positions(find('HTTP.status=500')!)).toEqual([1]);
    expect(positions(find('who=ann b')!)).toEqual([1]);
    expect(positions(find('queue')!)).toEqual([4]);
    expect(positions(find('host=a1')!)).toHaveLength(5);
    expect(positions(find('error nothing')!)).toEqual([]);
  });

  it('a span whose time a double can not hold is placed all the same', () => {
    const long = viewOf(
      traceOf([
        [0, 0, 10],
        [1, 0, 5, { durationNs: 2n ** 60n }],
      ]),
    );
    expect(long.totalNs).toBe(2 ** 60);
  });
});

describe('lanes', () => {
  it('are below the parent, and spans do not lie over each other', () => {
    const view = viewOf(
      traceOf([
        [0, 0, 100],
        [1, 0, 50],
        [2, 0, 40],
        [1, 20, 80],
        [1, 60, 90],
        [0, 200, 300],
      ]),
    );
    const { lane, count } = lanesOf(view);
    expect([...lane]).toEqual([0, 1, 2, 3, 1, 0]);
    expect(count).toBe(4);
  });

  it('of any trace keep apart what runs at once', () => {
    let seed = 5;
    const random = (below: number) => {
      seed = (seed * 1103515245 + 12345) & 0x7fffffff;
      return (seed >> 8) % below;
    };
    let depth = 0;
    const view = viewOf(
      traceOf(
        Array.from({ length: 400 }, (_, i) => {
          depth = i === 0 ? 0 : random(depth + 2);
          const from = random(1000);
          return [depth, from, from + random(300)];
        }),
      ),
    );
    const { lane } = lanesOf(view);
    for (let a = 0; a < 400; a++) {
      const parent = view.trace.spans[a]!.parent;
      if (parent !== null) expect(lane[a]).toBeGreaterThan(lane[parent]!);
      for (let b = a + 1; b < 400; b++) {
        if (lane[a] !== lane[b]) continue;
        const apart = view.end[a]! <= view.begin[b]! || view.end[b]! <= view.begin[a]!;
        expect(apart).toBe(true);
      }
    }
  });
});

it('calls between the services of a trace are counted', () => {
  const rows: [number, number, number, Partial<Span>?][] = [
    [0, 0, 100],
    [1, 0, 50, { service: 'db' }],
    [2, 0, 40, { service: 'db' }],
    [1, 60, 90, { service: 'db', status: 'error' }],
  ];
  expect(callsWithin(viewOf(traceOf(rows)))).toEqual([
    { parent: 'web', child: 'db', callCount: 2, errorCount: 1, averageDurationNs: 40 },
  ]);
});

it('the next one goes round', () => {
  expect([beside([2, 5, 9], 2, 1), beside([2, 5, 9], 9, 1), beside([2, 5, 9], 0, -1)]).toEqual([5, 2, 9]);
  expect([beside([2, 5, 9], 6, -1), beside([2, 5, 9], 5, -1), beside([], 0, 1)]).toEqual([5, 2, undefined]);
});

describe('an axis', () => {
  const view = viewOf(
    traceOf([
      [0, 0, 100],
      [0, 9000, 9100],
      [0, 9100, 10_000],
    ]),
  );
  const gaps = gapsOf(view);

  it('folds stretches in which nothing runs', () => {
    expect(gaps).toEqual([{ from: 100, to: 9000 }]);
    expect(gapsOf(viewOf(SMALL))).toEqual([]);
    // However long others are, and only those that are long.
    const rows = [0, 30, 1000, 90_000].map((from): [number, number, number] => [0, from, from + 20]);
    expect(gapsOf(viewOf(traceOf(rows)))).toEqual([
      { from: 50, to: 1000 },
      { from: 1020, to: 90_000 },
    ]);
    const many = viewOf(traceOf(Array.from({ length: 40 }, (_, i) => [0, i * 1000, i * 1000 + 1])));
    expect(gapsOf(many)).toHaveLength(15);
    expect(axisOf({ from: 0, to: many.totalNs }, gapsOf(many)).x(many.totalNs)).toBeCloseTo(1);
    const axis = axisOf({ from: 0, to: 10_000 }, gaps);
    expect([axis.x(0), axis.x(10_000)]).toEqual([0, 1]);
    expect(axis.x(9000) - axis.x(100)).toBeCloseTo(0.02);
    expect(axis.x(100)).toBeCloseTo(0.98 * (100 / 1100));
    for (const ns of [0, 50, 100, 4000, 9000, 9500, 10_000]) expect(axis.ns(axis.x(ns))).toBeCloseTo(ns, 5);
    // A gap that reaches out of what is shown stays as long as it is.
    expect(axisOf({ from: 50, to: 5000 }, gaps).x(2525)).toBeCloseTo(0.5);
  });

  it('has round ticks, none in a fold', () => {
    expect(ticksOf(axisOf({ from: 0, to: 1000 }, []), 5)).toEqual({ ticks: [0, 200, 400, 600, 800], step: 200 });
    expect(ticksOf(axisOf({ from: 0, to: 10_000 }, gaps), 5).ticks).toEqual([0, 9000, 9500]);
    expect(ticksOf(axisOf({ from: 0, to: 0 }, []), 5).ticks.length).toBeLessThan(10);
    expect([tickText(0, 10), tickText(5e8, 5e8), tickText(1.5e9, 5e8), tickText(2e9, 5e8)]).toEqual([
      '0',
      '500 ms',
      '1.5 s',
      '2.0 s',
    ]);
    expect([tickText(302.01e9, 1e7), tickText(1200, 200), tickText(7200e9, 6e11)]).toEqual([
      '302.01 s',
      '1.2 µs',
      '2 h',
    ]);
  });

  it('is in the address as it is shown', () => {
    expect(parseWindow(windowText({ from: 10.4, to: 90 }), 100)).toEqual({ from: 10, to: 90 });
    for (const wrong of [undefined, '', '9-1', 'a-b', '5-', '200-300'])
      expect(parseWindow(wrong, 100)).toEqual({ from: 0, to: 100 });
  });
});

it.each([
  ['0AF7651916cd43dd8448eb211c80319c', '0af7651916cd43dd8448eb211c80319c'],
  [' ab ', 'ab'],
  ['0af76519-16cd-43dd-8448-eb211c80319c', '0af7651916cd43dd8448eb211c80319c'],
])('%s is a trace id', (text, id) => expect(traceIdOf(text)).toEqual({ id }));

it('a traceparent names trace and span, and words are no ids', () => {
  expect(traceIdOf('00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01')).toEqual({
    id: '0af7651916cd43dd8448eb211c80319c',
    span: 'b7ad6b7169203331',
  });
  for (const text of ['', '{ }', 'xyz', '0000', 'a'.repeat(33), '0x1']) expect(traceIdOf(text)).toBeNull();
  expect(traceIdOf('cafe', 8)).toBeNull();
});

it('other signals are looked at with some room', () => {
  const { from, to } = around(BASE, 2e9);
  expect([from, to]).toEqual([1_700_000_000_000 - 60_000, 1_700_000_002_000 + 60_000]);
});

describe('two traces', () => {
  it('are told apart by what operations take themselves', () => {
    const here = viewOf(
      traceOf([
        [0, 0, 100, { name: 'get' }],
        [1, 10, 90, { name: 'query', service: 'db', status: 'error' }],
        [1, 90, 95, { name: 'log' }],
      ]),
    );
    const there = viewOf(
      traceOf([
        [0, 0, 60, { name: 'get' }],
        [1, 10, 20, { name: 'query', service: 'db' }],
        [1, 20, 30, { name: 'query', service: 'db' }],
        [1, 30, 50, { name: 'render' }],
      ]),
    );
    const pairs = operationPairs(here, there);
    expect(pairs.map((pair) => [pair.service, pair.name, pair.here.selfNs, pair.there.selfNs])).toEqual([
      ['db', 'query', 80, 20],
      ['web', 'render', 0, 20],
      ['web', 'log', 5, 0],
      ['web', 'get', 15, 20],
    ]);
    expect(pairs[0]).toMatchObject({
      here: { spans: 1, errors: 1, totalNs: 80 },
      there: { spans: 2, errors: 0, totalNs: 20 },
    });
    expect(operationPairs(here, here).every((pair) => pair.here.selfNs === pair.there.selfNs)).toBe(true);
  });
});

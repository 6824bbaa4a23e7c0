import { act, renderHook } from '@testing-library/react';
import { describe, expect, it, vi } from 'vitest';
import type { LogField, LogQuestion, TopValues } from '../api/logs';
import { useDrawn } from '../state/drawn';
import { differing, ranked, telling } from './compare';
import { type Asking, comparable, compareLogs, type LogComparison, MOST_FIELDS, spanBefore } from './comparelogs';
import { compareSeries } from './compareseries';
import { between, edgesOf } from './edges';
import type { Frame, FrameSeries } from './frame';
import type { Labels } from './labels';
import { middleOf, parsePart, partText, snapped } from './part';

describe('a part of the time', () => {
  it('is an address, clipped to what is shown', () => {
    const range = { from: 1000, to: 2000 };
    expect(parsePart(partText({ from: 1100.4, to: 1300 }), range)).toEqual({ from: 1100, to: 1300 });
    expect(parsePart('900-1200', range)).toEqual({ from: 1000, to: 1200 });
    for (const wrong of [undefined, '', 'x', '1-', '1300-1200', '100-900', '2000-3000', '1e3-2e3'])
      expect(parsePart(wrong, range)).toBeNull();
    expect(middleOf({ from: 0, to: 900 })).toEqual({ from: 300, to: 600 });
    expect(snapped({ from: 1001, to: 1999 }, 500)).toEqual({ from: 1000, to: 2000 });
  });

  it.each([
    [{ from: 104, to: 126 }, [0, 3]],
    [{ from: 111, to: 112 }, [1, 2]],
    [{ from: 0, to: 10 }, [0, 1]],
    [{ from: 139, to: 141 }, [3, 4]],
    [{ from: 500, to: 900 }, [3, 4]],
  ])('has edges on the grid: %j', (part, wanted) => {
    const grid = { from: 100, step: 10, count: 4 };
    expect(edgesOf(part, grid)).toEqual(wanted);
    const held = between(edgesOf(part, grid), grid);
    expect(held.to).toBeGreaterThan(held.from);
  });
});

describe('differences', () => {
  it('are of shares, the largest first', () => {
    const level = differing(
      'level',
      [
        ['error', 30, 10],
        ['info', 10, 190],
      ],
      40,
      200,
    );
    expect(level.score).toBeCloseTo(0.7);
    expect(level.values.map((value) => [value.value, value.own, value.other])).toEqual([
      ['error', 0.75, 0.05],
      ['info', 0.25, 0.95],
    ]);
    const alike = differing(
      'zone',
      [
        ['a', 20, 100],
        ['b', 20, 100],
      ],
      40,
      200,
    );
    const user = differing('user', [['x', 20, 0]], 40, 200);
    expect(ranked([alike, user, level]).map((field) => field.name)).toEqual(['level', 'user']);
    expect(telling(alike).map((value) => value.value)).toEqual(['a']);
    expect(ranked([differing('none', [], 40, 200)])).toEqual([]);
  });
});

const series = (labels: Labels, values: (number | null)[], more: Partial<FrameSeries> = {}): FrameSeries => ({
  labels,
  id: JSON.stringify(labels),
  name: '',
  values,
  query: 0,
  ...more,
});

describe('series', () => {
  const times = [0, 10, 20, 30, 40, 50];
  const part = { from: 20, to: 30 };

  it('are compared by the labels in which they differ', () => {
    const found = compareSeries(
      [
        series({ job: 'a', zone: 'x', all: 'same' }, [10, 10, 90, 90, 10, 10]),
        series({ job: 'b', zone: 'x', all: 'same' }, [10, 10, 10, 10, 10, 10]),
        series({ job: 'b', all: 'same' }, [20, 20, 20, 20, 20, 20]),
      ],
      times,
      part,
    );
    expect(found).toMatchObject({ series: 3, inside: 2, outside: 4, looked: 6, selection: 120, baseline: 40 });
    expect(found.fields.map((field) => field.name)).toEqual(['job', 'zone']);
    const [job, zone] = found.fields;
    expect(job!.score).toBeCloseTo(0.5);
    expect(job!.values.map((value) => [value.value, value.selection, value.baseline, value.own])).toEqual([
      ['a', 90, 10, 0.75],
      ['b', 30, 30, 0.25],
    ]);
    // Without the label is a value, too.
    expect(zone!.values.map((value) => value.value)).toEqual(['x', '']);
  });

  it('count a step without a value as nothing, and leave out what has no share', () => {
    const found = compareSeries(
      [
        series({ job: 'a' }, [null, null, 8, null, null, null]),
        series({ job: 'b' }, [4, 4, 4, 4, Number.NaN, Number.POSITIVE_INFINITY]),
        series({ job: 'c' }, [-1, -1, -1, -1, -1, -1]),
        series({ job: 'd' }, [-2, -2, -2, -2, -2, -2], { negated: true }),
      ],
      times,
      part,
    );
    expect(found).toMatchObject({ negative: 6, strange: 2 });
    expect([found.selection, found.baseline]).toEqual([4 + 4 + 2, 2 + 2]);
    const job = found.fields[0]!;
    expect(job.values.find((value) => value.value === 'a')).toMatchObject({ own: 0.4, other: 0 });
    expect(job.values.find((value) => value.value === 'c')).toMatchObject({ own: 0, other: 0 });
  });

  it('say where there is nothing to compare', () => {
    const one = [series({ job: 'a' }, [0, 0, 1, 1, 0, 0])];
    expect(compareSeries(one, times, part)).toMatchObject({ selection: 1, baseline: 0, fields: [] });
    expect(compareSeries(one, times, { from: 21, to: 29 })).toMatchObject({ inside: 0, fields: [] });
    expect(compareSeries(one, times, { from: 0, to: 50 })).toMatchObject({ outside: 0, fields: [] });
    expect(compareSeries([], times, part)).toMatchObject({ series: 0, selection: 0, baseline: 0, fields: [] });
  });

  it('are many: work has its limits, and what is left out is told', () => {
    const many = Array.from({ length: 50 }, (_, i) =>
      series({ id: String(i), half: i % 2 ? 'a' : 'b' }, [i, i, i * i, i, i, i]),
    );
    const found = compareSeries(many, times, part, { numbers: 100, series: 20, labels: 1 });
    expect(found).toMatchObject({ inside: 2, outside: 4, looked: 2, moreSeries: 30, moreLabels: 1 });
    expect(found.fields.map((field) => field.name)).toEqual(['half']);
    const values = Array.from({ length: 1001 }, (_, i) => series({ id: String(i) }, [1, 1, 1, 1, 1, 1]));
    expect(compareSeries(values, times, part).leftOut).toEqual(['id']);
    // A large answer: four million numbers.
    const begun = performance.now();
    const wide = Array.from({ length: 4000 }, (_, i) =>
      series({ pod: `pod-${i % 900}`, zone: `z${i % 3}`, job: `j${i % 40}` }, new Array<number>(1000).fill(i)),
    );
    const large = compareSeries(
      wide,
      Array.from({ length: 1000 }, (_, i) => i * 10),
      part,
    );
    expect(large.looked).toBe(2 + 499);
    expect(performance.now() - begun).toBeLessThan(10_000);
  });
});

describe('what a chart draws', () => {
  const frame = (...jobs: string[]): Frame => ({ times: [0], series: jobs.map((job) => series({ job }, [1])) });
  const names = (list: FrameSeries[]) => list.map((s) => s.labels.job);

  it('is the first so many, or those with a value', () => {
    const { result, rerender } = renderHook(({ of }) => useDrawn(of, 2), {
      initialProps: { of: frame('a', 'b', 'c') },
    });
    expect(names(result.current.shown.series)).toEqual(['a', 'b']);
    act(() => result.current.setOnly({ query: 0, name: 'job', value: 'c' }));
    expect(names(result.current.shown.series)).toEqual(['c']);
    // Where there is room, the others are hidden and keep their places.
    rerender({ of: frame('a', 'c') });
    expect(names(result.current.shown.series)).toEqual(['a', 'c']);
    expect([...result.current.hidden]).toEqual([JSON.stringify({ job: 'a' })]);
    // Another answer without the value is drawn whole; a legend has the last word.
    rerender({ of: frame('a', 'b') });
    expect(result.current.hidden.size).toBe(0);
    rerender({ of: frame('a', 'c') });
    act(() => result.current.setHidden(new Set(['x'])));
    expect([result.current.only, [...result.current.hidden]]).toEqual([null, ['x']]);
  });
});

const field = (name: string, count = 10): LogField => ({ name, place: 'attributes', types: ['string'], count });
const top = (counts: Record<string, number>, name = 'x', distinct?: number): TopValues => ({
  total: Object.values(counts).reduce((a, b) => a + b, 0),
  distinct: distinct ?? Object.keys(counts).length,
  values: Object.entries(counts).map(([value, count]) => ({ fields: { [name]: value }, count })),
});

describe('fields of logs', () => {
  const question: LogQuestion = { query: 'q', from: 0, to: 1000 };
  const part = { from: 400, to: 500 };
  const isPart = (asked: LogQuestion) => asked.from === part.from && asked.to === part.to;
  const quiet = () => {};
  const run = (ask: Asking, onMore: (known: LogComparison) => void = quiet, abort = new AbortController()) =>
    compareLogs(question, part, ask, abort.signal, onMore);

  it('are compared in the order of what most records have', () => {
    expect(
      comparable([
        field('b', 5),
        field('body', 99),
        field('a', 5),
        field('trace_id', 9),
        field('service.name'),
        field('c', 50),
        field('level'),
        field('a', 4),
      ]),
    ).toEqual(['level', 'service.name', 'c', 'a', 'b']);
  });

  it('are compared with the rest: the whole less the part', async () => {
    const asked: string[] = [];
    const told: number[] = [];
    const found = await run(
      {
        fields: async () => [field('level'), field('zone')],
        top: async (of, name) => {
          asked.push(`${name} ${of.from}-${of.to}`);
          if (name === 'zone') return isPart(of) ? top({ '': 2, x: 2 }) : top({ x: 60, '': 44 });
          return isPart(of) ? top({ error: 3, info: 1 }) : top({ error: 3, info: 101 });
        },
      },
      (known) => told.push(known.done),
    );
    expect(found).toMatchObject({ against: 'rest', selection: 4, baseline: 100, done: 2, wanted: 2, failed: [] });
    expect(found.fields.map((one) => one.name)).toEqual(['level', 'zone']);
    expect(found.fields[0]!.values[0]).toMatchObject({
      value: 'error',
      selection: 3,
      baseline: 0,
      own: 0.75,
      other: 0,
    });
    expect(found.fields[1]!.values[0]).toMatchObject({ value: '', selection: 2, baseline: 42 });
    expect(told).toEqual([1, 2]);
    // Two to count all, and two a field.
    expect(asked).toHaveLength(6);
  });

  it('are compared with the time before where nothing else is there', async () => {
    const found = await run({
      fields: async (of) => {
        expect(of.from).toBe(0);
        return [field('level')];
      },
      top: async (of) => (of.from === spanBefore(part).from ? top({ info: 8 }) : top({ error: 4 })),
    });
    expect(spanBefore(part)).toEqual({ from: 300, to: 400 });
    expect(found).toMatchObject({ against: 'before', selection: 4, baseline: 8 });
    expect(found.fields[0]!.score).toBe(1);
    const nothing = await run({ fields: async () => [field('level')], top: async () => top({}) });
    expect(nothing).toMatchObject({ selection: 0, baseline: 0, wanted: 0 });
  });

  it('are so many and no more, and what is not in it is told', async () => {
    const ask = vi.fn(async (of: LogQuestion, name: string) => {
      if (name === 'f3') throw new Error('a shard does not answer');
      if (name === 'f4') return top({ a: 50 }, name, 1001);
      return isPart(of) ? top({ a: 1, b: 1 }) : top({ a: 50, b: 2 });
    });
    const found = await run({
      fields: async () => Array.from({ length: 40 }, (_, i) => field(`f${i}`, 100 - i)),
      top: ask,
    });
    expect(found.wanted).toBe(MOST_FIELDS);
    expect(found.done).toBe(MOST_FIELDS);
    expect(found.more).toEqual(Array.from({ length: 10 }, (_, i) => `f${30 + i}`));
    expect(found.failed).toEqual([{ name: 'f3', why: 'a shard does not answer' }]);
    expect(found.leftOut).toEqual(['f4']);
    expect(found.fields).toHaveLength(MOST_FIELDS - 2);
    expect(ask.mock.calls.length).toBeLessThanOrEqual(2 + 2 * MOST_FIELDS);
  });

  it('end when nobody wants them, a few under way at once until then', async () => {
    const abort = new AbortController();
    let [running, most, asked] = [0, 0, 0];
    const found = run(
      {
        fields: async () => Array.from({ length: 20 }, (_, i) => field(`f${i}`)),
        top: async (of, name) => {
          if (name === 'level') return isPart(of) ? top({ a: 1 }) : top({ a: 2 });
          asked += 1;
          running += 1;
          most = Math.max(most, running);
          await Promise.resolve();
          running -= 1;
          abort.signal.throwIfAborted();
          return isPart(of) ? top({ a: 1 }) : top({ a: 2 });
        },
      },
      (known) => known.done === 3 && abort.abort(),
      abort,
    );
    await expect(found).rejects.toThrow();
    expect(most).toBeLessThanOrEqual(3);
    expect(asked).toBeLessThan(16);
  });

  it('fail as a whole where the records can not be counted', async () => {
    const top = async () => {
      throw new Error('no leader');
    };
    await expect(run({ fields: async () => [], top })).rejects.toThrow('no leader');
  });
});

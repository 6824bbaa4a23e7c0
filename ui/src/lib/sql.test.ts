import { describe, expect, it } from 'vitest';
import { shortType } from '../api/sql';
import { errorPosition } from '../components/states';
import { chartOf, drawn } from './sqlchart';
import { longest, planOf, planSeconds, plansOf } from './sqlplan';
import { cellText, csvOf, identifier, jsonRows, sortKey } from './sqltable';

const table = (columns: string, rows: Parameters<typeof csvOf>[0]['rows']) => ({
  columns: columns.split(' ').map((c) => ({ name: c.split(':')[0]!, type: c.split(':')[1]! })),
  rows,
});

describe('tables', () => {
  it('are exported so that they can be read again', () => {
    const text = csvOf(
      table('a:text b:bigint c:map', [
        ['x,"y"\nz', 9007199254740993n, { k: 'v' }],
        [null, 1, null],
      ]),
    );
    expect(text).toBe('a,b,c\r\n"x,""y""\nz",9007199254740993,"{""k"":""v""}"\r\n,1,');
    expect(csvOf(table('a:text', [['x\ty']]), '\t')).toBe('a\r\n"x\ty"');
  });
  it('sort numbers as numbers, and NULL first', () => {
    expect(sortKey(10, 'bigint')).toBe(10);
    expect(sortKey(10n, 'bigint')).toBe(10);
    expect(sortKey('NaN', 'double')).toBeNaN();
    expect(sortKey(null, 'double')).toBe(Number.NEGATIVE_INFINITY);
    expect(sortKey('b', 'text')).toBe('b');
    expect(cellText([1, null])).toBe('[1,null]');
  });
});

describe('rows as JSON', () => {
  it('are a list of objects', () => {
    const text = jsonRows(
      table('a:text b:bigint c:map', [
        ['x', 12n, { k: 'v' }],
        [null, 1, null],
      ]),
    );
    expect(text).toBe('[\n{"a":"x","b":12,"c":{"k":"v"}},\n{"a":null,"b":1,"c":null}\n]\n');
    expect(jsonRows(table('a:text', []))).toBe('[]\n');
  });
});

describe('charts', () => {
  it('are along names where there is no time, and along what is chosen', () => {
    const rows = table('name:text zone:text n:bigint m:double', [
      ['a', 'x', 1, 0.5],
      ['b', 'x', 2, 1.5],
      ['a', 'y', 3, null],
      ['a', 'y', 4, 2.5],
    ]);
    const usual = drawn(rows);
    expect([usual?.along, usual?.names, usual?.covered]).toEqual(['names', ['a', 'b'], 1]);
    expect(usual?.frame.series.map((s) => [s.name, s.values])).toEqual([
      ['x · n', [1, 2]],
      ['x · m', [0.5, 1.5]],
      ['y · n', [4, null]],
      ['y · m', [2.5, null]],
    ]);
    const chosen = drawn(rows, { x: 'n', y: ['m', 'gone'], by: [] });
    expect([chosen?.along, chosen?.from, chosen?.to]).toEqual(['number', 1, 4]);
    expect(chosen?.frame).toMatchObject({ times: [1, 2, 4], series: [{ name: 'm', values: [0.5, 1.5, 2.5] }] });
    // Nothing is drawn along itself.
    expect(drawn(rows, { x: 'n', y: ['n'] })).toBeNull();
    expect(drawn(table('a:double', [[1]]), { x: 'a' })).toBeNull();
  });

  it('are of a time, numbers, and a series for each text', () => {
    const chart = chartOf(
      table('t:timestamp host:text v:double', [
        ['2026-01-01T00:01:00Z', 'b', 3],
        ['2026-01-01T00:00:00Z', 'a', 1],
        ['2026-01-01T00:01:00Z', 'a', 2],
      ]),
    );
    expect(chart?.frame.series.map((s) => [s.name, s.values])).toEqual([
      ['b', [null, 3]],
      ['a', [1, 2]],
    ]);
    expect((chart?.to ?? 0) - (chart?.from ?? 0)).toBe(60_000);
    expect(chart?.sparse).toBe(false);
    expect(chart?.unit).toBeUndefined();
  });
  it('name several numbers by their columns', () => {
    const chart = chartOf(table('t:timestamp a:double b:bigint', [['2026-01-01T00:00:00Z', 1, 2]]));
    expect(chartOf(table('t:timestamp max_bytes:bigint', [['2026-01-01T00:00:00Z', 1]]))?.unit).toBe('bytes');
    expect(chart?.frame.series.map((s) => s.name)).toEqual(['a', 'b']);
  });
  it('are not of tables without time or numbers', () => {
    expect(chartOf(table('t:timestamp a:text', [['2026-01-01T00:00:00Z', 'x']]))).toBeNull();
    expect(chartOf(table('a:double', [[1]]))).toBeNull();
    expect(chartOf(table('t:timestamp a:double', [[null, 1]]))).toBeNull();
  });
});

describe('plans', () => {
  const TEXT =
    'SortExec: TopK(fetch=3), expr=[a@1 DESC], metrics=[output_rows=3, elapsed_compute=87.16µs]\n' +
    '  Projection\n' +
    '    ClusterScan: table=metrics, groups=[name@0], shards=[1: sent 23 rows, 1502 bytes; read 316 samples of 50 ' +
    'series; pruned 0 of 0 segments; 0.428 ms | 2: sent 1 rows, 9 bytes; read 2 samples of 3 series; pruned 0 of 1 ' +
    'segments; 2.5 ms], metrics=[output_rows=341, elapsed_compute=1ns]\n' +
    '  OtherExec: x\n';
  it('become trees', () => {
    const [root, ...more] = planOf(TEXT);
    expect(more).toEqual([]);
    expect(root?.details).toBe('TopK(fetch=3), expr=[a@1 DESC]');
    expect(root?.metrics).toEqual({ output_rows: '3', elapsed_compute: '87.16µs' });
    expect(root?.parts.map((p) => p.name)).toEqual(['Projection', 'OtherExec']);
    const scan = root?.parts[0]?.parts[0];
    expect(scan?.details).toBe('table=metrics, groups=[name@0]');
    expect(scan?.shards.map((s) => [s.shard, s.rows, s.samples, s.series, s.seconds])).toEqual([
      ['1', 23, 316, 50, 0.000428],
      ['2', 1, 2, 3, 0.0025],
    ]);
    expect(longest(planOf(TEXT))).toBeCloseTo(87.16e-6);
  });
  it('are told from other answers', () => {
    expect(plansOf(table('a:text', [['x']]))).toBeNull();
    expect(
      plansOf(table('plan_type:text plan:text', [['logical_plan', 'A\n  B: c']]))?.[0]?.roots[0]?.parts[0],
    ).toEqual({
      name: 'B',
      details: 'c',
      metrics: {},
      shards: [],
      parts: [],
    });
  });
  it.each([
    ['520ns', 520e-9],
    ['48.13ms', 0.04813],
    ['1.5s', 1.5],
    ['x', 0],
  ])('time %s', (text, wanted) => expect(planSeconds(text)).toBeCloseTo(wanted, 12));
});

it('names are quoted where they need it', () => {
  expect(['up', 'job:requests:rate5m', 'CPU', 'a"b'].map(identifier)).toEqual([
    'up',
    '"job:requests:rate5m"',
    '"CPU"',
    '"a""b"',
  ]);
});

it('places of errors are found', () => {
  expect(errorPosition('there is no table "x" (line 2, column 15). Hint')).toEqual({ line: 2, column: 15 });
  expect(errorPosition('invalid parameter "query": 1:4: the query ends')).toEqual({ line: 1, column: 4 });
  expect(errorPosition('there are 2 statements')).toBeNull();
});

it('types have short names', () => {
  expect(['Utf8', 'Timestamp(ms, "+00:00")', 'Float64', 'Map("entries")', 'Int64'].map(shortType)).toEqual([
    'text',
    'timestamp',
    'double',
    'map',
    'bigint',
  ]);
});

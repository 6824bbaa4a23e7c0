import { describe, expect, it } from 'vitest';
import { stacked } from '../components/Chart';
import { toggled } from '../components/Legend';
import { ColumnsError, decodeColumns } from './columns';
import { frameOf, reduce } from './frame';
import { heatOf } from './heatmap';
import { defaultQuery, families } from './metric';

describe('columns', () => {
  const encode = (header: object, values: bigint[]): ArrayBuffer => {
    let text = JSON.stringify(header);
    while (text.length % 8 !== 0) text += ' ';
    const bytes = new Uint8Array(8 + text.length + values.length * 8);
    const view = new DataView(bytes.buffer);
    bytes.set(new TextEncoder().encode('PHC1'));
    view.setUint32(4, text.length, true);
    bytes.set(new TextEncoder().encode(text), 8);
    values.forEach((v, i) => view.setBigUint64(8 + text.length + i * 8, v, true));
    return bytes.buffer;
  };
  const header = { start: 0, step: 10, steps: 3, series: [{ job: 'a' }] };
  const one = 0x3ff0_0000_0000_0000n;
  it('tells gaps from NaN', () => {
    const columns = decodeColumns(encode(header, [one, 0x7fff_ffff_ffff_ffffn, 0x7ff8_0000_0000_0000n]));
    expect(columns.series[0]!.values).toEqual([1, null, Number.NaN]);
  });
  it('refuses what is cut off or too long', () => {
    const whole = encode(header, [one, one, one]);
    for (let cut = 0; cut < whole.byteLength; cut++) expect(() => decodeColumns(whole.slice(0, cut))).toThrow();
    expect(() => decodeColumns(encode(header, [one, one, one, one]))).toThrow(ColumnsError);
  });
});

describe('frames', () => {
  it('leaves gaps where a series has no point', () => {
    const result = [
      {
        metric: { job: 'a' },
        values: [
          [10, '1'],
          [30, 'NaN'],
          [40, '+Inf'],
        ] as [number, string][],
      },
    ];
    const frame = frameOf([{ result, query: 0 }], 10_000, 50_000, 10_000);
    expect(frame.times).toEqual([10_000, 20_000, 30_000, 40_000, 50_000]);
    expect(frame.series[0]!.values).toEqual([1, null, Number.NaN, Number.POSITIVE_INFINITY, null]);
  });
  it('reduces what is there', () => {
    expect(reduce([null, 1, Number.NaN, 3, null])).toMatchObject({
      first: 1,
      last: 3,
      min: 1,
      max: 3,
      mean: 2,
      sum: 4,
      count: 2,
    });
    expect(reduce([null])).toMatchObject({ last: null, count: 0 });
  });
  it('stacks over gaps', () => {
    expect(
      stacked(
        [
          [1, null, 2],
          [1, 1, 2],
        ],
        false,
      ),
    ).toEqual([
      [1, null, 2],
      [2, 1, 4],
    ]);
    expect(
      stacked(
        [
          [1, null],
          [3, 0],
        ],
        true,
      ),
    ).toEqual([
      [25, null],
      [100, 0],
    ]);
  });
});

describe('heatmaps', () => {
  it('makes counts of a classic histogram, and none below zero', () => {
    const series = (le: string, ...values: string[]) => ({
      metric: { le },
      values: values.map((v, i) => [i * 10, v] as [number, string]),
    });
    const heat = heatOf([series('1', '2', '5'), series('+Inf', '6', '4'), series('0.5', '1', '1')], 0, 10_000, 10_000)!;
    expect(heat.rows.map((r) => [r.lower, r.upper])).toEqual([
      [0, 0.5],
      [0.5, 1],
      [1, Number.POSITIVE_INFINITY],
    ]);
    expect(heat.rows.map((r) => r.counts)).toEqual([
      [1, 1],
      [1, 4],
      [4, 0],
    ]);
    expect(heat.max).toBe(4);
  });
  it('adds the buckets of native histograms', () => {
    const point = (at: number, buckets: [number, string, string, string][]) =>
      [at, { count: '1', sum: '1', buckets }] as [number, never];
    const heat = heatOf(
      [
        { metric: { job: 'a' }, histograms: [point(0, [[0, '1', '2', '3']])] },
        {
          metric: { job: 'b' },
          histograms: [
            point(0, [
              [0, '1', '2', '4'],
              [0, '2', '4', '1'],
            ]),
          ],
        },
      ],
      0,
      10_000,
      10_000,
    )!;
    expect(heat.kind).toBe('native');
    expect(heat.rows.map((r) => r.counts)).toEqual([
      [7, null],
      [1, null],
    ]);
  });
  it('is none of other series', () => expect(heatOf([{ metric: { job: 'a' }, values: [] }], 0, 1, 1)).toBeNull());
});

describe('metrics', () => {
  const meta = {
    lat: [{ type: 'histogram', help: 'Latency.', unit: '' }],
    up: [{ type: 'gauge', help: 'Up.', unit: '' }],
  };
  it('a classic histogram is one family', () => {
    const found = families(['lat_bucket', 'lat_count', 'lat_sum', 'requests_total', 'up', 'other_count'], meta);
    expect(found.map((f) => [f.name, f.kind])).toEqual([
      ['lat', 'histogram'],
      ['requests_total', 'counter'],
      ['up', 'gauge'],
      ['other_count', 'counter'],
    ]);
    expect(found[0]!.help).toBe('Latency.');
  });
  it('asks by kind', () => {
    const query = (name: string, ...by: string[]) =>
      defaultQuery(
        families(name === 'lat' ? ['lat_bucket', 'lat_count'] : [name], meta).find((f) => f.name === name)!,
        '5m',
        by,
      );
    expect(query('up')).toBe('avg (up)');
    expect(query('lat', 'a.b')).toBe('histogram_quantile(0.95, sum by (le, "a.b") (rate(lat_bucket[5m])))');
    expect(defaultQuery({ name: 'my.counter', kind: 'counter', help: '', unit: '', classic: false }, '1m')).toBe(
      'sum (rate({"my.counter"}[1m]))',
    );
  });
});

it('a click shows one series, a second one all', () => {
  const ids = ['a', 'b', 'c'];
  const alone = toggled(ids, new Set(), 'b', false);
  expect([...alone]).toEqual(['a', 'c']);
  expect([...toggled(ids, alone, 'b', false)]).toEqual([]);
  expect([...toggled(ids, new Set(['a']), 'c', true)]).toEqual(['a', 'c']);
  expect([...toggled(ids, new Set(['a']), 'a', true)]).toEqual([]);
});

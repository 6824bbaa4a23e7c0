import { describe, expect, it } from 'vitest';
import type { MatrixSeries } from '../api/prometheus';
import { atMoment, byPoint, bySeries, byTime, curlOf, promqlInSql, shardTable } from './inside';

const RESULT: MatrixSeries[] = [
  {
    metric: { __name__: 'up', job: 'a' },
    values: [
      [60, '1'],
      [120, '+Inf'],
    ],
  },
  { metric: { __name__: 'up', zone: 'x' }, values: [[120, '3']] },
  { metric: { __name__: 'h' }, histograms: [[60, { count: '4', sum: '2.5' }]] },
];

describe('an answer as a table', () => {
  it('by time has a column a series, and two of a native histogram', () => {
    const table = byTime(RESULT);
    expect(table.columns.map((c) => c.name)).toEqual(['time', 'up{job="a"}', 'up{zone="x"}', 'h (count)', 'h (sum)']);
    expect(table.rows).toEqual([
      ['1970-01-01T00:01:00.000Z', 1, null, 4, 2.5],
      ['1970-01-01T00:02:00.000Z', 'Infinity', 3, null, null],
    ]);
    expect(byTime(RESULT, 1).columns).toHaveLength(2);
  });

  it('by series has what its values come to', () => {
    const [first, second] = bySeries(RESULT.slice(1)).rows;
    expect(first).toEqual(['up{zone="x"}', 3, 3, 3, 3, 1]);
    expect(second?.[0]).toBe('h (count)');
  });

  it('by point is as SQL has it', () => {
    const table = byPoint(RESULT.slice(0, 2));
    expect(table.columns.map((c) => c.name)).toEqual(['time', 'name', 'job', 'zone', 'value']);
    expect(table.rows[2]).toEqual(['1970-01-01T00:02:00.000Z', 'up', null, 'x', 3]);
    expect(byPoint([{ metric: { job: 'a' }, values: [] }]).columns.map((c) => c.name)).toEqual([
      'time',
      'job',
      'value',
    ]);
  });

  it('at a moment has a column a label', () => {
    const table = atMoment({
      resultType: 'vector',
      result: [
        { metric: { __name__: 'up', job: 'a' }, value: [60, '1'] },
        { metric: { job: 'b' }, value: [60, 'NaN'] },
      ],
    });
    expect(table.columns.map((c) => [c.name, c.type])).toEqual([
      ['time', 'timestamp'],
      ['__name__', 'text'],
      ['job', 'text'],
      ['value', 'double'],
    ]);
    expect(table.rows[1]).toEqual(['1970-01-01T00:01:00.000Z', null, 'b', 'NaN']);
    expect(atMoment({ resultType: 'string', result: [60, 'x'] }).rows).toEqual([['1970-01-01T00:01:00.000Z', 'x']]);
  });
});

describe('what else is inside', () => {
  it('adds up the fragments of each shard', () => {
    const shard = (n: number, seconds: number) => ({ shard: n, series: 1, samples: 2, rows: 3, bytes: 4, seconds });
    const fragment = { expression: 'up', place: 'shards', level: 0, steps: 1, uses: 1, seconds: 1 };
    const table = shardTable([
      { ...fragment, shards: [shard(2, 0.5), shard(1, 0.25)] },
      { ...fragment, shards: [shard(2, 0.5)] },
    ]);
    expect(table.rows).toEqual([
      [1, 1, 1, 2, 3, 4, 0.25],
      [2, 2, 2, 4, 6, 8, 1],
    ]);
  });

  it('is asked from a shell as it is from here, whatever is in it', () => {
    expect(curlOf('http://x/api', [['query', `up{a="it's"}`]], 'team a')).toBe(
      `curl -sG 'http://x/api' \\\n  -H 'X-Scope-OrgID: team a' \\\n  --data-urlencode 'query=up{a="it'\\''s"}'`,
    );
  });

  it('is asked in SQL, too', () => {
    expect(promqlInSql(`up{a='b'}`, { from: 0, to: 60_000, step: 15_000 })).toBe(
      `SELECT * FROM promql('up{a=''b''}', '1970-01-01T00:00:00.000Z', '1970-01-01T00:01:00.000Z', '15000ms')`,
    );
    expect(promqlInSql('up', { time: 0 })).toBe(`SELECT * FROM promql('up', '1970-01-01T00:00:00.000Z')`);
  });
});

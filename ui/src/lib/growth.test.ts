import { expect, it } from 'vitest';
import { changeText, countQuery, countsOf, grown, METRICS_COMPARED } from './growth';

it('growth comes first, what did not change is left out', () => {
  const now = new Map([
    ['a', 10],
    ['b', 5],
    ['c', 7],
    ['new', 3],
  ]);
  const then = new Map([
    ['a', 10],
    ['b', 9],
    ['c', 2],
    ['gone', 4],
  ]);
  const rows = grown(now, then);
  expect(rows.map((row) => row.name)).toEqual(['c', 'new', 'b', 'gone']);
  expect(rows.map((row) => changeText(row, String))).toEqual(['+5, +250 %', '+3, new', '−4, −44 %', '−4, −100 %']);
  expect(changeText({ name: 'x', now: 1010, before: 1000 }, String)).toBe('+10, +1.0 %');
});

it('counts are asked of names as they are, and of not too many', () => {
  expect(countQuery(['a.b', 'c'])).toBe('count by (__name__) ({__name__=~"a\\\\.b|c"})');
  expect(countQuery(Array.from({ length: 200 }, (_, i) => `m${i}`)).split('|')).toHaveLength(METRICS_COMPARED);
  expect(countsOf({ resultType: 'vector', result: [{ metric: { __name__: 'a' }, value: [0, '3'] }] }).get('a')).toBe(3);
  expect(countsOf({ resultType: 'scalar', result: [0, '1'] }).size).toBe(0);
});

import { expect, it } from 'vitest';
import { assignLooks } from './colour';
import { shortNames } from './frame';
import { legendText, quote, seriesName, withMatcher } from './labels';

it('writes selectors that PromQL reads', () => {
  expect(seriesName({ __name__: 'up', job: 'a"b', path: 'c\\d\n' })).toBe('up{job="a\\"b", path="c\\\\d\\n"}');
  expect(seriesName({ __name__: 'my.metric', 'a.b': 'x' })).toBe('{"my.metric", "a.b"="x"}');
  expect(seriesName({})).toBe('{}');
  expect(quote('<b>')).toBe('"<b>"');
});

it('names series by what differs', () => {
  const all = [
    { __name__: 'up', job: 'a', instance: '1' },
    { __name__: 'up', job: 'a', instance: '2' },
  ];
  expect(shortNames(all)).toEqual(['1', '2']);
  expect(shortNames(all, '{{job}}/{{ instance }}')).toEqual(['a/1', 'a/2']);
  expect(shortNames([...all, { __name__: 'up', job: 'b', instance: '1' }])[2]).toBe('{instance="1", job="b"}');
  expect(legendText('{{nothing}}', {})).toBe('');
});

it('adds a matcher to a selector and to nothing else', () => {
  expect(withMatcher('up', 'job', '=', 'a')).toBe('up{job="a"}');
  expect(withMatcher('up{x="1"}', 'job', '!=', 'a')).toBe('up{x="1", job!="a"}');
  expect(withMatcher('rate(up[5m])', 'job', '=', 'a')).toBeNull();
});

it('a series keeps its colour, and none is used twice before all are', () => {
  const names = Array.from({ length: 24 }, (_, i) => `series ${i}`);
  const looks = assignLooks(names);
  for (let round = 0; round < 3; round++) {
    expect(new Set(looks.slice(round * 8, round * 8 + 8).map((l) => l.colour)).size).toBe(8);
  }
  expect(new Set(looks.map((l) => `${l.colour}:${l.dash}`)).size).toBe(24);
  expect(assignLooks([names[5]!])[0]!.colour).toBe(assignLooks([names[5]!, 'other'])[0]!.colour);
});

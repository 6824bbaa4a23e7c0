import { describe, expect, it } from 'vitest';
import type { MatrixSeries } from '../api/prometheus';
import { compareHeat } from './compareheat';
import { heatBoxText, parseHeatBox } from './part';

/** Cumulative counts of a histogram with the bounds 1, 2 and +Inf, at the steps 10 s, 20 s, 30 s. */
const histogram = (labels: Record<string, string>, ...bounds: number[][]): MatrixSeries[] =>
  bounds.map((counts, i) => ({
    metric: { ...labels, le: ['1', '2', '+Inf'][i]! },
    values: counts.map((count, at): [number, string] => [(at + 1) * 10, String(count)]),
  }));

const RESULT = [
  ...histogram({ host: 'quick' }, [10, 10, 10], [10, 10, 10], [10, 10, 10]),
  ...histogram({ host: 'slow' }, [10, 0, 10], [10, 0, 10], [10, 8, 10]),
];
const compare = (box: Parameters<typeof compareHeat>[1]) => compareHeat(RESULT, box, 10_000, 30_000, 10_000);

describe('a part of a heatmap', () => {
  it('is compared with the other buckets of its time', () => {
    const data = compare({ from: 10_000, to: 20_000, lower: 2, upper: Number.POSITIVE_INFINITY });
    expect([data.series, data.against, data.selection, data.baseline]).toEqual([2, 'buckets', 8, 10]);
    expect(data.fields[0]).toMatchObject({
      name: 'host',
      score: 1,
      values: [
        { value: 'slow', own: 1, other: 0 },
        { value: 'quick', own: 0, other: 1 },
      ],
    });
  });

  it('with all buckets is compared with the other times', () => {
    const box = { lower: Number.NEGATIVE_INFINITY, upper: Number.POSITIVE_INFINITY };
    const data = compare({ from: 10_000, to: 20_000, ...box });
    expect([data.against, data.selection, data.baseline]).toEqual(['times', 18, 40]);
    expect(data.fields.map((field) => field.name)).toEqual(['host']);
    expect(compare({ from: 0, to: 30_000, ...box }).fields).toEqual([]);
  });

  it('without counts tells nothing', () => {
    const data = compare({ from: 0, to: 10_000, lower: 1, upper: 2 });
    expect([data.selection, data.fields]).toEqual([0, []]);
  });

  it('is an address', () => {
    const range = { from: 0, to: 1000 };
    const box = { from: 100, to: 300, lower: 0.005, upper: Number.POSITIVE_INFINITY };
    expect(heatBoxText(box)).toBe('100-300,0.005..Infinity');
    expect(parseHeatBox(heatBoxText(box), range)).toEqual(box);
    expect(parseHeatBox('100-300,-Infinity..0', range)).toMatchObject({ lower: Number.NEGATIVE_INFINITY, upper: 0 });
    for (const wrong of [undefined, '', '100-300', '100-300,1', '100-300,..', '100-300,2..1', '300-100,1..2', 'x,1..2'])
      expect(parseHeatBox(wrong, range)).toBeNull();
  });
});

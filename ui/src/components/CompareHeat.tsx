// What tells a chosen part of a heatmap from the rest, by the labels of its histograms: worked out here, from the counts
// that are drawn.

import { useMemo } from 'react';
import type { MatrixSeries } from '../api/prometheus';
import { compareHeat } from '../lib/compareheat';
import type { HeatBox } from '../lib/part';
import { formatMoment, type Range } from '../lib/time';
import { formatValue } from '../lib/units';
import { Comparison, Differences, LabelRemarks } from './Compare';
import { Empty } from './states';

export function CompareHeat({
  series,
  box,
  said,
  span,
  step,
  zone,
  only,
  onOnly,
  onClose,
}: {
  /** All of the answer, also what is not drawn. */
  series: MatrixSeries[];
  box: HeatBox;
  /** The buckets of the part. */
  said: string;
  span: Range;
  step: number;
  zone: string;
  /** The label's value whose histograms alone are drawn. */
  only: { name: string; value: string } | null;
  onOnly: (only: { name: string; value: string } | null) => void;
  onClose: () => void;
}) {
  const data = useMemo(
    () => compareHeat(series, box, span.from, span.to, step),
    [series, box, span.from, span.to, step],
  );
  const isLong = span.to - span.from > 86_400_000;
  const moment = (ms: number): string => formatMoment(ms, zone).slice(isLong ? 5 : 11);
  const count = (value: number): string => formatValue(value, 'short');
  return (
    <Comparison
      about={
        <>
          {said}, {moment(box.from)} to {moment(box.to)}:{' '}
          <b className="compare-chosen">{count(data.selection)} counted</b> against <b>{count(data.baseline)}</b> in the
          other {data.against} of the same {data.against === 'buckets' ? 'time' : 'buckets'}
        </>
      }
      onClose={onClose}
    >
      {data.selection === 0 || data.baseline === 0 ? (
        <Empty
          title={data.selection === 0 ? 'Nothing is counted in this part' : 'There is nothing else to compare with'}
        >
          {data.selection === 0 ? 'Choose a part with colour in it.' : 'Leave some buckets, or some of the time.'}
        </Empty>
      ) : data.series === 1 ? (
        <Empty title="There is one histogram only">
          To see what makes the difference, keep more labels: <code>sum by (le, label) (…)</code>
        </Empty>
      ) : data.fields.length === 0 ? (
        <Empty title="Nothing tells them apart">Every label is spread alike over both.</Empty>
      ) : (
        <Differences
          fields={data.fields}
          none="without it"
          says={(value) => `${count(value.selection)} chosen, ${count(value.baseline)} others`}
          click="Draw only the histograms of"
          onValue={({ name }, value) => onOnly(only?.name === name && only.value === value ? null : { name, value })}
          pressed={only}
        />
      )}
      <ul className="compare-remarks">
        <LabelRemarks data={data} what="histograms" />
      </ul>
    </Comparison>
  );
}

// Which labels of a chart's series account for the difference between a chosen part of its time and the rest: worked out
// here, from the numbers that are drawn.

import { useDeferredValue, useEffect, useMemo, useRef } from 'react';
import { compareSeries } from '../lib/compareseries';
import type { Frame } from '../lib/frame';
import { visible } from '../lib/logrow';
import { formatMoment, type Range } from '../lib/time';
import { formatCount, formatValue } from '../lib/units';
import type { Only } from '../state/drawn';
import { Comparison, Differences, LabelRemarks } from './Compare';
import { Empty } from './states';
import { Segmented } from './ui';

export function CompareSeries({
  frame,
  part,
  query,
  names,
  unit,
  zone,
  onQuery,
  only,
  onOnly,
  onClose,
}: {
  /** All series of the answer, also those that are not drawn. */
  frame: Frame;
  part: Range;
  /** Position of the query whose series are compared: those of several have no total in common. */
  query: number;
  names: string[];
  unit?: string;
  zone: string;
  onQuery: (query: number) => void;
  /** The series that alone are drawn. */
  only: Only | null;
  onOnly: (only: Only | null) => void;
  onClose: () => void;
}) {
  const queries = useMemo(() => [...new Set(frame.series.map((s) => s.query))].sort((a, b) => a - b), [frame]);
  const chosen = queries.includes(query) ? query : (queries[0] ?? 0);
  const { from, to } = part;
  const asked = useDeferredValue(useMemo(() => ({ frame, from, to, chosen }), [frame, from, to, chosen]));
  const data = useMemo(
    () =>
      compareSeries(
        asked.frame.series.filter((s) => s.query === asked.chosen),
        asked.frame.times,
        { from: asked.from, to: asked.to },
      ),
    [asked],
  );
  const isLong = (frame.times.at(-1) ?? 0) - (frame.times[0] ?? 0) > 86_400_000;
  const moment = (ms: number): string => formatMoment(ms, zone).slice(isLong ? 5 : 11);
  const number = (value: number): string => formatValue(value, unit);
  // Without the comparison there is nothing that says why some are not drawn.
  const draw = useRef(onOnly);
  draw.current = onOnly;
  useEffect(() => () => draw.current(null), []);
  const total = data.selection > 0 && data.baseline > 0;
  return (
    <Comparison
      about={
        <>
          {moment(from)} to {moment(to)}: <b className="compare-chosen">{number(data.selection)} on average</b>, all{' '}
          {formatCount(data.series)} series together, against <b>{number(data.baseline)}</b> in the rest of the range
        </>
      }
      tools={
        queries.length > 1 && (
          <Segmented
            label="Query that is compared"
            value={String(chosen)}
            choices={queries.map((at) => ({ id: String(at), label: visible(names[at] ?? String(at + 1)) }))}
            onChange={(id) => onQuery(Number(id))}
          />
        )
      }
      onClose={onClose}
    >
      {data.inside === 0 || data.outside === 0 ? (
        <Empty title={data.inside === 0 ? 'No step of the chart lies in this part' : 'The part is the whole chart'}>
          {data.inside === 0 ? 'Choose a longer one, or a shorter step.' : 'Leave some of it to compare with.'}
        </Empty>
      ) : !total ? (
        <Empty title={`There is nothing above zero in ${data.selection > 0 ? 'the rest' : 'this part'}`}>
          Shares are of what is above zero: there have to be such numbers in the part and beside it.
        </Empty>
      ) : data.series === 1 ? (
        <Empty title="There is one series only">
          To see what makes the difference, ask for more of them: <code>sum by (label) (…)</code>
        </Empty>
      ) : data.fields.length === 0 ? (
        <Empty title="Nothing tells them apart">Every label is spread alike over both.</Empty>
      ) : (
        <Differences
          fields={data.fields}
          none="without it"
          says={(value) => `on average ${number(value.selection)} chosen, ${number(value.baseline)} in the rest`}
          click="Draw only the series of"
          onValue={({ name }, value) =>
            onOnly(only?.name === name && only.value === value ? null : { query: chosen, name, value })
          }
          pressed={only}
          dimmed={asked.frame !== frame || asked.from !== from || asked.to !== to}
        />
      )}
      <ul className="compare-remarks">
        {data.negative > 0 && (
          <li className="cap-note">{formatCount(data.negative)} numbers below zero are left out: shares have none.</li>
        )}
        {data.strange > 0 && (
          <li className="cap-note">{formatCount(data.strange)} numbers that are NaN or infinite are left out.</li>
        )}
        {data.looked < data.inside + data.outside && (
          <li className="cap-note">
            It is much: {formatCount(data.looked)} of {formatCount(data.inside + data.outside)} steps were looked at,
            evenly apart.
          </li>
        )}
        <LabelRemarks data={data} what="series" />
      </ul>
    </Comparison>
  );
}

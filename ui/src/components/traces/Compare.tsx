// What tells a chosen part from the rest: attributes, the most telling first, with the shares of their values in both.

import { useQuery } from '@tanstack/react-query';
import { GitCompare, X } from 'lucide-react';
import { useState } from 'react';
import { type ComparedField, compareTraces } from '../../api/traces';
import { visible } from '../../lib/logrow';
import { formatMoment } from '../../lib/time';
import type { TraceBox } from '../../lib/traceheat';
import { durationText, withConditions } from '../../lib/traceql';
import { formatCount, formatValue } from '../../lib/units';
import { currentTenant } from '../../state/prefs';
import { Empty, ErrorBox, Skeleton } from '../states';
import { Button, CopyButton, IconButton } from '../ui';

const FIELDS = 12;
const VALUES = 4;
/** Differences of shares up to this are noise. */
const TELLING = 0.005;

/** Spans of a part of the picture, and those of the same time beside it. */
export function setsOf(query: string, box: TraceBox): { selection: string; baseline: string } {
  const [lower, upper] = [durationText(box.lowerNs), durationText(box.upperNs)];
  return {
    selection: withConditions(query, [`duration >= ${lower}`, `duration <= ${upper}`]),
    baseline: withConditions(query, [`(duration < ${lower} || duration > ${upper})`]),
  };
}

export function Compare({
  query,
  box,
  utc,
  onNarrow,
  onClose,
}: {
  query: string;
  box: TraceBox;
  utc: boolean;
  onNarrow: (field: ComparedField, value: string) => void;
  onClose: () => void;
}) {
  const [all, setAll] = useState(false);
  const sets = setsOf(query, box);
  const found = useQuery({
    queryKey: ['trace-compare', currentTenant(), sets, box.from, box.to],
    queryFn: ({ signal }) => compareTraces({ ...sets, from: box.from, to: box.to }, signal),
  });
  const data = found.data?.data;
  const telling = data?.fields.filter((field) => field.score > TELLING) ?? [];
  const day = box.to - box.from > 86_400_000;
  const moment = (ms: number): string => formatMoment(ms, utc).slice(day ? 5 : 11);
  return (
    <section className="compare" aria-label="Comparison" data-testid="compare">
      <header className="compare-head">
        <GitCompare size={15} aria-hidden />
        <h2>What tells them apart</h2>
        <span className="muted tab-num">
          {formatValue(box.lowerNs, 'ns')} to {formatValue(box.upperNs, 'ns')}, {moment(box.from)} to {moment(box.to)}
          {data && (
            <>
              : <b className="compare-chosen">{formatCount(data.selection)} spans chosen</b> against{' '}
              <b>{formatCount(data.baseline)} others</b> of the same search and time
            </>
          )}
        </span>
        <span className="spring" />
        <CopyButton text={`${sets.selection}\n${sets.baseline}`} label="Copy both queries" />
        <IconButton icon={X} label="Close the comparison" onClick={onClose} />
      </header>
      {found.error ? (
        <ErrorBox error={found.error} onRetry={() => void found.refetch()} />
      ) : !data ? (
        <Skeleton rows={8} />
      ) : data.selection === 0 || data.baseline === 0 ? (
        <Empty title={data.selection === 0 ? 'No span lies in this part' : 'There is nothing else in this time'}>
          {data.selection === 0
            ? 'Spans may have gone past their retention since the part was chosen.'
            : 'The part takes in every duration of its time: choose a lower part, with others below or above it.'}
        </Empty>
      ) : telling.length === 0 ? (
        <Empty title="Nothing tells them apart">Every attribute is spread alike over both.</Empty>
      ) : (
        <>
          <div className={`compare-fields ${found.isPlaceholderData ? 'is-dimmed' : ''}`}>
            {telling.slice(0, all ? undefined : FIELDS).map((field) => (
              <Field
                key={`${field.scope} ${field.field}`}
                field={field}
                selection={data.selection}
                baseline={data.baseline}
                onNarrow={onNarrow}
              />
            ))}
          </div>
          {telling.length > FIELDS && !all && (
            <Button onClick={() => setAll(true)}>{telling.length - FIELDS} more attributes</Button>
          )}
          {data.leftOut.length > 0 && (
            <p className="cap-note">
              Not compared, for they have more than 1 000 values:{' '}
              {data.leftOut
                .map((one) => (one.scope === 'intrinsic' ? one.field : `${one.scope}.${one.field}`))
                .join(', ')}
            </p>
          )}
        </>
      )}
    </section>
  );
}

function Field({
  field,
  selection,
  baseline,
  onNarrow,
}: {
  field: ComparedField;
  selection: number;
  baseline: number;
  onNarrow: (field: ComparedField, value: string) => void;
}) {
  // Values that are spread alike tell nothing.
  const told = field.values.filter((value, i) => i === 0 || Math.abs(value.difference) > TELLING).slice(0, VALUES);
  return (
    <div className="compare-field">
      <h3>
        <bdi className="clip">
          {field.scope !== 'intrinsic' && <span className="muted">{field.scope}.</span>}
          {visible(field.field.slice(0, 200))}
        </bdi>
        <span className="tab-num" title="The largest difference of shares among its values">
          {formatValue(field.score, 'percentunit', 0)}
        </span>
      </h3>
      <ul>
        {told.map((value) => {
          const [own, other] = [value.selection / selection, value.baseline / baseline];
          const text = value.value === '' ? '(empty)' : visible(value.value.slice(0, 300));
          return (
            <li key={value.value}>
              <button
                type="button"
                title={`Only ${text}: ${formatCount(value.selection)} chosen, ${formatCount(value.baseline)} others`}
                onClick={() => onNarrow(field, value.value)}
              >
                <bdi className="clip">{text}</bdi>
                <span className="compare-bars" aria-hidden>
                  <span className="is-chosen" style={{ width: `${own * 100}%` }} />
                  <span style={{ width: `${other * 100}%` }} />
                </span>
                <span className="tab-num small">
                  <span className="compare-chosen">{formatValue(own, 'percentunit', 0)}</span>
                  <span className="muted"> {formatValue(other, 'percentunit', 0)}</span>
                </span>
              </button>
            </li>
          );
        })}
      </ul>
    </div>
  );
}

// What tells the spans of a chosen part of the picture from the others of the same search and time, by the server.

import { useQuery } from '@tanstack/react-query';
import { type ComparedField, compareTraces } from '../../api/traces';
import { type Differing, ranked } from '../../lib/compare';
import { formatMoment } from '../../lib/time';
import type { TraceBox } from '../../lib/traceheat';
import { durationText, withConditions } from '../../lib/traceql';
import { formatCount, formatValue } from '../../lib/units';
import { currentTenant } from '../../state/prefs';
import { Comparison, Differences } from '../Compare';
import { Empty, ErrorBox, Skeleton } from '../states';
import { CopyButton } from '../ui';

/** Spans of a part of the picture, and those of the same time beside it. */
export function setsOf(query: string, box: TraceBox): { selection: string; baseline: string } {
  const [lower, upper] = [durationText(box.lowerNs), durationText(box.upperNs)];
  return {
    selection: withConditions(query, [`duration >= ${lower}`, `duration <= ${upper}`]),
    baseline: withConditions(query, [`(duration < ${lower} || duration > ${upper})`]),
  };
}

/** A field as the server compared it. */
const shared = (field: ComparedField, selection: number, baseline: number): Differing => ({
  scope: field.scope === 'intrinsic' ? undefined : field.scope,
  name: field.field,
  score: field.score,
  values: field.values.map((value) => ({
    value: value.value,
    selection: value.selection,
    baseline: value.baseline,
    own: value.selection / selection,
    other: value.baseline / baseline,
  })),
});

export function Compare({
  query,
  box,
  zone,
  onNarrow,
  onClose,
}: {
  query: string;
  box: TraceBox;
  zone: string;
  onNarrow: (scope: string | undefined, field: string, value: string) => void;
  onClose: () => void;
}) {
  const sets = setsOf(query, box);
  const found = useQuery({
    queryKey: ['trace-compare', currentTenant(), sets, box.from, box.to],
    queryFn: ({ signal }) => compareTraces({ ...sets, from: box.from, to: box.to }, signal),
  });
  const data = found.data?.data;
  const fields = data ? ranked(data.fields.map((field) => shared(field, data.selection, data.baseline))) : [];
  const day = box.to - box.from > 86_400_000;
  const moment = (ms: number): string => formatMoment(ms, zone).slice(day ? 5 : 11);
  return (
    <Comparison
      about={
        <>
          {formatValue(box.lowerNs, 'ns')} to {formatValue(box.upperNs, 'ns')}, {moment(box.from)} to {moment(box.to)}
          {data && (
            <>
              : <b className="compare-chosen">{formatCount(data.selection)} spans chosen</b> against{' '}
              <b>{formatCount(data.baseline)} others</b> of the same search and time
            </>
          )}
        </>
      }
      tools={<CopyButton text={`${sets.selection}\n${sets.baseline}`} label="Copy both queries" />}
      onClose={onClose}
    >
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
      ) : fields.length === 0 ? (
        <Empty title="Nothing tells them apart">Every attribute is spread alike over both.</Empty>
      ) : (
        <>
          <Differences
            fields={fields}
            none="(empty)"
            says={(value) => `${formatCount(value.selection)} chosen, ${formatCount(value.baseline)} others`}
            click="Only"
            onValue={(field, value) => onNarrow(field.scope, field.name, value)}
            dimmed={found.isPlaceholderData}
          />
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
    </Comparison>
  );
}

// What tells the records of a chosen time from the others of the same search: fields, by their values' shares in both.

import { useQuery, useQueryClient } from '@tanstack/react-query';
import { RefreshCw } from 'lucide-react';
import { type LogQuestion, logFields, topValues } from '../../api/logs';
import { compareLogs, type LogComparison, MOST_FIELDS } from '../../lib/comparelogs';
import { formatMoment, type Range } from '../../lib/time';
import { formatCount } from '../../lib/units';
import { currentTenant } from '../../state/prefs';
import { Comparison, Differences, namesText } from '../Compare';
import { Empty, ErrorBox, Skeleton } from '../states';
import { Button } from '../ui';
import type { Narrow } from './Facets';

export function Compare({
  question,
  part,
  zone,
  onNarrow,
  onClose,
}: {
  question: LogQuestion;
  part: Range;
  zone: string;
  onNarrow: Narrow;
  onClose: () => void;
}) {
  const client = useQueryClient();
  const { from, to } = part;
  const queryKey = ['log-compare', currentTenant(), question, from, to];
  const found = useQuery({
    queryKey,
    // Many questions: they are asked once, and again when somebody wants it. They end with the panel.
    staleTime: Number.POSITIVE_INFINITY,
    placeholderData: undefined,
    queryFn: ({ signal }) =>
      compareLogs(
        question,
        { from, to },
        {
          fields: async (asked) => (await logFields(asked, signal)).data.fields,
          top: async (asked, field, limit) => (await topValues(asked, field, limit, signal)).data,
        },
        signal,
        (known) => client.setQueryData(queryKey, known),
      ),
  });
  const { data } = found;
  const again = () => void client.resetQueries({ queryKey });
  const isLong = question.to - question.from > 86_400_000;
  const moment = (ms: number): string => formatMoment(ms, zone).slice(isLong ? 5 : 11);
  return (
    <Comparison
      about={
        <>
          {moment(from)} to {moment(to)}
          {data && (
            <>
              : <b className="compare-chosen">{formatCount(data.selection)} records chosen</b> against{' '}
              {data.against === 'rest' ? (
                <>
                  <b>{formatCount(data.baseline)} others</b> of {moment(question.from)} to {moment(question.to)}
                </>
              ) : (
                <>
                  <b>{formatCount(data.baseline)}</b> of as long a time before, for there are no others in the range
                </>
              )}
            </>
          )}
        </>
      }
      onClose={onClose}
    >
      {found.error ? (
        <ErrorBox error={found.error} query={question.query} onRetry={again} />
      ) : !data ? (
        <Skeleton rows={8} />
      ) : data.selection === 0 || data.baseline === 0 ? (
        <Empty title={data.selection === 0 ? 'No record lies in this part' : 'There is nothing to compare it with'}>
          {data.selection === 0
            ? 'Choose a part of the time with bars in it.'
            : 'All records lie in the part, and there are none in as long a time before it.'}
        </Empty>
      ) : (
        <>
          {data.fields.length > 0 ? (
            <Differences
              fields={data.fields}
              none="empty, or without it"
              says={(value) => `${formatCount(value.selection)} chosen, ${formatCount(value.baseline)} others`}
              click="Only"
              // The server counts records without a field as those whose field is empty.
              onValue={(field, value) => onNarrow(field.name, value === '' ? null : value)}
            />
          ) : (
            data.done === data.wanted && (
              <Empty title="Nothing tells them apart">
                {data.failed.length === 0
                  ? 'Every field that was compared is spread alike over both.'
                  : 'Of the fields that could be compared, every one is spread alike over both.'}
              </Empty>
            )
          )}
          <Remarks data={data} onAgain={again} />
        </>
      )}
    </Comparison>
  );
}

/** How far it is, and what is not in it. */
function Remarks({ data, onAgain }: { data: LogComparison; onAgain: () => void }) {
  const first = data.failed[0];
  return (
    <>
      <p className="compare-progress muted small tab-num" role="status">
        {data.done < data.wanted
          ? `${data.done} of ${data.wanted} fields are compared…`
          : `${data.wanted - data.failed.length - data.leftOut.length} fields compared`}
      </p>
      {first && (
        <p className="cap-note warn" role="alert">
          ▲ Could not be compared: {namesText(data.failed.map((one) => one.name))}. {first.why.slice(0, 300)}{' '}
          <Button look="ghost" icon={RefreshCw} onClick={onAgain}>
            Try again
          </Button>
        </p>
      )}
      {data.leftOut.length > 0 && (
        <p className="cap-note">Not compared, for they have more than 1 000 values: {namesText(data.leftOut)}</p>
      )}
      {data.more.length > 0 && (
        <p className="cap-note">
          Not compared, for {MOST_FIELDS} fields that more records have come first: {namesText(data.more)}
        </p>
      )}
    </>
  );
}

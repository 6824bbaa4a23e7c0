// Why a query gives nothing.

import { useQuery } from '@tanstack/react-query';
import { labelValues, queryInstant } from '../api/prometheus';
import { formatMoment } from '../lib/time';
import { useRange } from '../state/clock';
import { Empty } from './states';
import { Button } from './ui';

/** Why there is nothing: no such metric, or none in this range and where it was seen. */
export function NoData({ queries }: { queries: string[] }) {
  const { range, zoom, zone } = useRange();
  const name = /^\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(?:\{[^}]*\})?\s*$/.exec(queries[0] ?? '')?.[1];
  const exists = useQuery({
    queryKey: ['exists', name],
    enabled: name !== undefined && queries.length === 1,
    queryFn: async ({ signal }) => {
      const any = await labelValues('__name__', { match: [`{__name__="${name}"}`], limit: 1 }, signal);
      if (any.data.length === 0) return { known: false, last: null };
      const last = await queryInstant({ query: `max(timestamp(last_over_time(${name}[30d])))` }, signal);
      const value = last.data.resultType === 'vector' ? last.data.result[0]?.value?.[1] : undefined;
      return { known: true, last: value === undefined ? null : Number(value) * 1000 };
    },
  });
  if (exists.data && !exists.data.known) {
    return (
      <Empty title={`There is no metric ${name}`}>
        No series has this name, at any time. The metric browser finds names by any part of them.
      </Empty>
    );
  }
  if (exists.data?.last && (exists.data.last < range.from || exists.data.last > range.to)) {
    const last = exists.data.last;
    const half = (range.to - range.from) / 2;
    return (
      <Empty
        title="Nothing in this time range"
        actions={<Button onClick={() => zoom({ from: last - half, to: last + half })}>Go there</Button>}
      >
        The newest sample of {name} is of {formatMoment(last, zone)}.
      </Empty>
    );
  }
  return (
    <Empty title="The query gives nothing in this range">
      The expression is valid; its selectors, filters or comparisons leave no series between the two ends.
    </Empty>
  );
}

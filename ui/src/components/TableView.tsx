// Answers at one moment, as tables.

import { ScanSearch } from 'lucide-react';
import { lazy, Suspense, useState } from 'react';
import { rowsOf, type TableRow } from '../lib/frame';
import { seriesName } from '../lib/labels';
import { formatMoment } from '../lib/time';
import { formatValue } from '../lib/units';
import { usePageKeys } from '../state/keys';
import { useInstantQueries } from '../state/queries';
import { type ColumnDef, DataTable } from './DataTable';
import { SeriesText } from './LabelChips';
import { NoData } from './NoData';
import { PartialTag, StatsLine } from './QueryInfo';
import { ErrorBox, RemarkList, Skeleton } from './states';
import { Button, CopyButton, Panel } from './ui';

const Inspect = lazy(() => import('./Inspect'));

export default function TableView({
  queries,
  time,
  zone,
  limit,
}: {
  queries: string[];
  time: number;
  zone: string;
  limit: number;
}) {
  const results = useInstantQueries(queries, time, limit);
  const [inside, setInside] = useState(false);
  usePageKeys([
    { keys: 'i', label: 'Inspect: data, statistics, the query as it was sent', run: () => setInside(true) },
  ]);
  return (
    <>
      {results.map((result, i) => {
        const query = queries[i]!;
        if (result.error)
          return <ErrorBox key={i} error={result.error} query={query} onRetry={() => void result.refetch()} />;
        if (!result.data) return <Skeleton key={i} height={200} />;
        const { data, warnings, infos, elapsedMs, bytes } = result.data;
        const rows = rowsOf(data);
        const columns: ColumnDef<TableRow>[] = [
          {
            id: 'series',
            title: `Series at ${formatMoment(time, zone)}`,
            width: 'minmax(320px, 1fr)',
            sort: (row) => seriesName(row.labels),
            cell: (row) => <SeriesText labels={row.labels} />,
          },
          {
            id: 'value',
            title: 'Value',
            width: '200px',
            numeric: true,
            sort: (row) => row.value ?? Number.NEGATIVE_INFINITY,
            cell: (row) =>
              row.text !== undefined ? (
                <bdi title={row.text}>{row.text.slice(0, 200)}</bdi>
              ) : (
                <span title={String(row.value)}>{formatValue(row.value, 'none')}</span>
              ),
          },
          {
            id: 'copy',
            title: 'Copy',
            width: '44px',
            cell: (row) => <CopyButton text={seriesName(row.labels)} label="Copy the selector" />,
          },
        ];
        return (
          <div key={i} className="table-result">
            <RemarkList warnings={warnings} infos={infos} />
            <Panel
              className="result"
              actions={
                <>
                  <PartialTag answers={[result.data]} />
                  <Button look="ghost" icon={ScanSearch} onClick={() => setInside(true)}>
                    Inspect
                  </Button>
                </>
              }
            >
              {rows.length === 0 ? (
                <NoData queries={[query]} />
              ) : (
                <DataTable
                  rows={rows}
                  columns={columns}
                  rowKey={(row, at) => `${at}:${seriesName(row.labels)}`}
                  height={Math.min(rows.length * 34 + 40, Math.max(300, window.innerHeight - 340))}
                  label={query}
                />
              )}
            </Panel>
            <StatsLine elapsedMs={elapsedMs} bytes={bytes} stats={data.stats} series={rows.length} />
          </div>
        );
      })}
      <Suspense>
        {inside && (
          <Inspect
            title={queries.length === 1 ? 'the query' : `${queries.length} queries`}
            parts={queries.map((query, i) => ({
              name: String.fromCharCode(65 + i),
              text: query,
              asked: { instant: { query, time, limit } },
              answer: results[i]?.data,
              error: results[i]?.error,
            }))}
            zone={zone}
            onClose={() => setInside(false)}
          />
        )}
      </Suspense>
    </>
  );
}

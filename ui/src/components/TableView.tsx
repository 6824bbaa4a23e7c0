// Answers at one moment, as tables.

import { rowsOf, type TableRow } from '../lib/frame';
import { seriesName } from '../lib/labels';
import { formatMoment } from '../lib/time';
import { formatValue } from '../lib/units';
import { useInstantQueries } from '../state/queries';
import { type ColumnDef, DataTable } from './DataTable';
import { SeriesText } from './LabelChips';
import { NoData } from './NoData';
import { StatsLine } from './QueryInfo';
import { ErrorBox, RemarkList, Skeleton } from './states';
import { CopyButton, Panel } from './ui';

export default function TableView({ queries, time, utc }: { queries: string[]; time: number; utc: boolean }) {
  const results = useInstantQueries(queries, time);
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
            title: `Series at ${formatMoment(time, utc)}`,
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
            <Panel className="result">
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
    </>
  );
}

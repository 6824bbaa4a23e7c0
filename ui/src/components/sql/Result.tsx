// What a statement gave: a table, a chart where rows have a time, a tree where it is a plan.

import { Download } from 'lucide-react';
import { lazy, Suspense, useMemo, useState } from 'react';
import type { Answer } from '../../api/client';
import type { SqlTable, SqlValue } from '../../api/sql';
import { plansOf } from '../../lib/sqlplan';
import { cellText, chartOf, csvOf, isNumeric, sortKey } from '../../lib/sqltable';
import { formatMoment } from '../../lib/time';
import { formatBytes, formatCount, formatValue } from '../../lib/units';
import { type ColumnDef, DataTable } from '../DataTable';
import { Empty, RemarkList, Skeleton } from '../states';
import { Button, CopyButton, Segmented } from '../ui';

const ResultChart = lazy(() => import('./ResultChart'));
const PlanView = lazy(() => import('./PlanView'));

/** Characters of a cell that are in the page; the rest is copied and exported. */
const SHOWN = 400;
/** Rows that go to the clipboard. */
const COPIED = 20_000;

function Cell({ value, type, utc }: { value: SqlValue; type: string; utc: boolean }) {
  if (value === null) return <span className="muted">NULL</span>;
  const text = cellText(value);
  if (type === 'timestamp') {
    const at = Date.parse(text);
    return (
      <span className="tab-num" title={text}>
        {Number.isNaN(at) ? text : formatMoment(at, utc, true)}
      </span>
    );
  }
  return (
    <bdi
      className={`mono ${isNumeric(type) ? 'tab-num' : ''}`}
      title={text.length > 24 ? text.slice(0, 2000) : undefined}
    >
      {text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text}
    </bdi>
  );
}

/** Wide enough for most of what stands in a column. */
function widthOf(table: SqlTable, at: number): string {
  const { name, type } = table.columns[at]!;
  let most = name.length + type.length / 2 + 3;
  for (const row of table.rows.slice(0, 200)) most = Math.max(most, cellText(row[at] ?? null).length);
  return `minmax(${Math.round(Math.min(Math.max(most * 7.4 + 20, 70), 420))}px, ${isNumeric(type) ? '0.4fr' : '1fr'})`;
}

export function Result({ answer, utc, name }: { answer: Answer<SqlTable>; utc: boolean; name: string }) {
  const { data: table, elapsedMs, bytes, warnings, infos } = answer;
  const plans = useMemo(() => plansOf(table), [table]);
  const chart = useMemo(() => (plans ? null : chartOf(table)), [table, plans]);
  const [view, setView] = useState<'table' | 'other'>('table');
  const columns = useMemo<ColumnDef<SqlValue[]>[]>(
    () =>
      table.columns.map((column, i) => ({
        id: String(i),
        title: column.name,
        hint: column.type,
        width: widthOf(table, i),
        numeric: isNumeric(column.type),
        sort: (row) => sortKey(row[i] ?? null, column.type),
        cell: (row) => <Cell value={row[i] ?? null} type={column.type} utc={utc} />,
      })),
    [table, utc],
  );
  const download = () => {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob([csvOf(table)], { type: 'text/csv' }));
    link.download = `${name}.csv`;
    link.click();
    URL.revokeObjectURL(link.href);
  };
  return (
    <div className="sql-result">
      <RemarkList warnings={warnings} infos={infos} />
      <div className="sql-result-bar">
        {chart && (
          <Segmented
            label="Shown as"
            value={view}
            choices={[
              { id: 'table', label: 'Table' },
              { id: 'other', label: 'Chart' },
            ]}
            onChange={(id) => setView(id as typeof view)}
          />
        )}
        <span className="stats-line tab-num" data-testid="sql-stats">
          {!plans && (
            <span>
              <b>{formatCount(table.rows.length)}</b> {table.rows.length === 1 ? 'row' : 'rows'}
            </span>
          )}
          <span>
            <b>{formatValue(elapsedMs / 1000, 's')}</b> in all
          </span>
          <span>
            <b>{formatBytes(bytes)}</b> answered
          </span>
        </span>
        <span className="spring" />
        {!plans && table.rows.length > 0 && (
          <>
            <CopyButton
              text={csvOf({ ...table, rows: table.rows.slice(0, COPIED) }, '\t')}
              label={`Copy${table.rows.length > COPIED ? ` the first ${formatCount(COPIED)} rows` : ''}, with tabs between`}
            />
            <Button look="ghost" icon={Download} onClick={download}>
              CSV
            </Button>
          </>
        )}
      </div>
      <Suspense fallback={<Skeleton height={200} rows={6} />}>
        {plans ? (
          <PlanView plans={plans} />
        ) : chart && view === 'other' ? (
          <ResultChart chart={chart} utc={utc} label={name} />
        ) : table.rows.length === 0 ? (
          <Empty title="No rows">The statement is valid; nothing meets it.</Empty>
        ) : (
          <DataTable
            rows={table.rows}
            columns={columns}
            rowKey={(_, at) => at}
            height={Math.min(table.rows.length * 34 + 40, 420)}
            label={`Rows of ${name}`}
          />
        )}
      </Suspense>
    </div>
  );
}

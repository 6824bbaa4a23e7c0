// What a statement gave: a table, a chart of it, a tree where it is a plan.

import { lazy, Suspense, useMemo } from 'react';
import type { Answer } from '../../api/client';
import type { SqlTable } from '../../api/sql';
import type { ChartSpec } from '../../lib/notebook';
import { plansOf } from '../../lib/sqlplan';
import { csvOf, isNumeric } from '../../lib/sqltable';
import { formatBytes, formatCount, formatValue } from '../../lib/units';
import { Empty, RemarkList, Skeleton } from '../states';
import { CopyButton, Segmented } from '../ui';
import { Downloads } from './Downloads';
import { Grid } from './Grid';

/** Rows that go to the clipboard. */
const COPIED = 20_000;

const ResultChart = lazy(() => import('./ResultChart'));
const PlanView = lazy(() => import('./PlanView'));

export function Result({
  answer,
  statement,
  zone,
  name,
  isChart,
  chart,
  onView,
  onChart,
}: {
  answer: Answer<SqlTable>;
  /** As it was run. */
  statement: string;
  zone: string;
  name: string;
  isChart: boolean;
  chart: ChartSpec | undefined;
  onView: (isChart: boolean) => void;
  onChart: (chart: ChartSpec) => void;
}) {
  const { data: table, elapsedMs, bytes, warnings, infos } = answer;
  const plans = useMemo(() => plansOf(table), [table]);
  const isDrawable =
    !plans && table.rows.length > 0 && table.columns.length > 1 && table.columns.some((c) => isNumeric(c.type));
  return (
    <div className="sql-result">
      <RemarkList warnings={warnings} infos={infos} />
      <div className="sql-result-bar">
        {isDrawable && (
          <Segmented
            label="Shown as"
            value={isChart ? 'chart' : 'table'}
            choices={[
              { id: 'table', label: 'Table' },
              { id: 'chart', label: 'Chart' },
            ]}
            onChange={(id) => onView(id === 'chart')}
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
            <Downloads table={() => table} name={name} statement={statement} />
          </>
        )}
      </div>
      <Suspense fallback={<Skeleton height={200} rows={6} />}>
        {plans ? (
          <PlanView plans={plans} />
        ) : isDrawable && isChart ? (
          <ResultChart table={table} spec={chart} zone={zone} label={name} onSpec={onChart} />
        ) : table.rows.length === 0 ? (
          <Empty title="No rows">The statement is valid; nothing meets it.</Empty>
        ) : (
          <Grid table={table} zone={zone} label={`Rows of ${name}`} />
        )}
      </Suspense>
    </div>
  );
}

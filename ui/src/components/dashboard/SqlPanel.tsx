// The answer of a statement of SQL: a table, or, where rows have a time, series along it.

import { useCallback, useMemo } from 'react';
import { runSql, type SqlTable } from '../../api/sql';
import { askedText } from '../../lib/dashboard/asked';
import { lookOf, showValue, thresholdColour } from '../../lib/dashboard/model';
import { builtins, interpolate } from '../../lib/dashboard/variables';
import { chartOf, type SqlChart } from '../../lib/sqlchart';
import { cellText, isNumeric } from '../../lib/sqltable';
import { niceStep } from '../../lib/time';
import { usePanelQueries } from '../../state/panels';
import { currentTenant } from '../../state/prefs';
import { Cell, type CellProps, Grid } from '../sql/Grid';
import { Empty } from '../states';
import { Linked } from './Links';
import { PanelStates } from './PanelStates';
import { panelRange, type ShownPanel, styledSeries, TimeSeries } from './PanelView';
import '../../style/sql.css';

export default function SqlPanel({ panel, context, height, width, isSeen }: ShownPanel) {
  const range = panelRange(panel, context.range, context.scope, context.zone);
  const query = panel.queries.find((q) => !q.hidden && q.expr.trim() !== '');
  const step = niceStep(range, Math.max(60, Math.min(width / 6, 400)));
  const scope = { ...builtins(range, step), ...context.scope };
  const text = query && askedText('sql', query.expr, scope, { range, step }, context.rewrite);
  const asked = usePanelQueries<SqlTable>(
    text === undefined
      ? []
      : [
          {
            ref: query!.ref,
            text,
            key: ['sql', currentTenant(), text, range.from, range.to],
            run: (signal) => runSql(text, signal),
          },
        ],
    isSeen,
  );
  const table = asked[0]?.answer?.data;
  const chart = useMemo(() => (table && panel.options.chart ? chartOf(table) : null), [table, panel.options.chart]);
  const drawn = chart?.frame.series.length ?? 0;
  return (
    <PanelStates
      panel={panel}
      title={interpolate(panel.title, context.scope, 'text')}
      height={height}
      isSeen={isSeen}
      asked={asked}
      notes={chart && chart.series > drawn ? [`${drawn} of ${chart.series} series are drawn`] : undefined}
      reportAs={context.reportAs}
    >
      {!table || table.rows.length === 0 ? (
        <Empty title="No rows">The statement is valid; nothing meets it in this range.</Empty>
      ) : panel.options.chart ? (
        <SqlSeries
          chart={chart}
          panel={panel}
          context={context}
          height={height}
          span={range}
          step={step}
          dimmed={asked[0]?.isOld === true}
        />
      ) : (
        <SqlRows table={table} panel={panel} context={context} height={height} />
      )}
    </PanelStates>
  );
}

function SqlSeries({
  chart,
  panel,
  context,
  height,
  span,
  step,
  dimmed,
}: Pick<ShownPanel, 'panel' | 'context' | 'height'> & {
  chart: SqlChart | null;
  span: { from: number; to: number };
  step: number;
  dimmed: boolean;
}) {
  const frame = useMemo(
    () => chart && { times: chart.frame.times, series: styledSeries(chart.frame.series, panel.options, ['A']) },
    [chart, panel.options],
  );
  if (!chart || !frame)
    return (
      <Empty title="These rows make no series">
        A column with a time and one with numbers make them, such as{' '}
        <code>SELECT $__timeGroup(time, $__interval) AS time, avg(value) …</code>
      </Empty>
    );
  const shown = { ...panel, options: { draw: chart.sparse ? ('points' as const) : undefined, ...panel.options } };
  return (
    <TimeSeries
      panel={shown}
      whole={frame}
      refs={['A']}
      unit={chart.unit}
      context={{ ...context, onPart: undefined, chosen: undefined }}
      height={height}
      range={span}
      span={span}
      step={step}
      dimmed={dimmed}
    />
  );
}

function SqlRows({
  table,
  panel,
  context,
  height,
}: Pick<ShownPanel, 'panel' | 'context' | 'height'> & { table: SqlTable }) {
  const { options } = panel;
  const cell = useCallback(
    (of: CellProps) => {
      const look = lookOf(options, of.name);
      const plain = <Cell {...of} />;
      const value = of.value === null ? null : Number(of.value);
      const styled =
        isNumeric(of.type) &&
        (look.unit || look.mappings || look.decimals !== undefined || options.colourBy === 'background');
      const said = styled ? showValue(value, look) : null;
      const colour = said?.colour ?? (options.colourBy === 'background' ? thresholdColour(value, look) : undefined);
      const content = said ? <span style={colour ? { color: colour } : undefined}>{said.text}</span> : plain;
      if (!look.links || of.value === null) return content;
      return (
        <Linked
          links={look.links}
          context={context.linked}
          value={{
            raw: isNumeric(of.type) ? value : cellText(of.value),
            text: said?.text ?? cellText(of.value),
            name: of.name,
            fields: table.columns.map((c, i): [string, string] => [c.name, cellText(of.row[i] ?? null)]),
          }}
        >
          {content}
        </Linked>
      );
    },
    [options, context.linked, table],
  );
  return <Grid table={table} zone={context.zone} label={panel.title || 'Rows'} most={height} cell={cell} />;
}

// Traces on a dashboard: a table of those that TraceQL finds; each opens.

import { Link, useNavigate } from '@tanstack/react-router';
import { ChartNoAxesGantt } from 'lucide-react';
import { useMemo } from 'react';
import { type FoundTrace, searchTraces } from '../../api/traces';
import { askedText } from '../../lib/dashboard/asked';
import { builtins, interpolate } from '../../lib/dashboard/variables';
import { niceStep } from '../../lib/time';
import { serviceColours } from '../../lib/trace';
import { asksNumbers } from '../../lib/traceql';
import { formatCount } from '../../lib/units';
import { usePanelQueries } from '../../state/panels';
import { currentTenant } from '../../state/prefs';
import { DataTable } from '../DataTable';
import { Empty } from '../states';
import { columnsOf, openTrace } from '../traces/columns';
import { PanelStates } from './PanelStates';
import { panelRange, type ShownPanel } from './PanelView';
import '../../style/traces.css';

export const TRACES = 50;
const MOST_TRACES = 1000;

export default function TracesPanel({ panel, context, height, isSeen }: ShownPanel) {
  const { options } = panel;
  const { zone } = context;
  const navigate = useNavigate();
  const range = panelRange(panel, context.range, context.scope, zone);
  const step = niceStep(range, 300);
  const scope = { ...builtins(range, step), ...context.scope };
  const limit = Math.min(Math.max(Math.round(options.limit ?? TRACES), 1), MOST_TRACES);
  const order = options.slowestFirst ? 'slowest' : 'newest';
  const span = { from: Math.floor(range.from), to: Math.ceil(range.to) };
  const query = panel.queries.find((q) => !q.hidden);
  const text = query
    ? askedText('traceql', query.expr, scope, { range, step }, context.rewrite).trim() || '{ }'
    : undefined;
  const asked = usePanelQueries<{ traces: FoundTrace[]; more: boolean }>(
    text === undefined
      ? []
      : [
          {
            ref: query!.ref,
            text,
            key: ['traces', currentTenant(), text, span.from, span.to, order, limit],
            run: async (signal) => {
              if (asksNumbers(text))
                throw new Error('This query gives numbers, not traces: choose the kind Time series.');
              const answer = await searchTraces({ query: text, ...span }, { order, limit }, signal);
              const { traces, cursor } = answer.data;
              return { ...answer, data: { traces, more: cursor !== null && traces.length >= limit } };
            },
          },
        ],
    isSeen,
  );
  const found = asked[0]?.answer?.data;
  const rows = found?.traces;
  const columns = useMemo(() => {
    const longest = (rows ?? []).reduce((most, row) => Math.max(most, Number(row.durationNs)), 1);
    const colours = serviceColours((rows ?? []).flatMap((row) => row.services.map((one) => one.name)));
    return columnsOf(zone, span.to - span.from > 86_400_000, longest, colours);
  }, [rows, zone, span.from, span.to]);
  return (
    <PanelStates
      panel={panel}
      title={interpolate(panel.title, context.scope, 'text')}
      height={height}
      isSeen={isSeen}
      asked={asked}
      reportAs={context.reportAs}
    >
      {!rows || rows.length === 0 ? (
        <Empty icon={ChartNoAxesGantt} title="No trace matches in this range">
          The search is answered and finds nothing here.
        </Empty>
      ) : (
        <div className={`panel-lines ${asked[0]?.isOld ? 'is-dimmed' : ''}`} data-testid="panel-traces">
          <DataTable
            rows={rows}
            columns={columns}
            rowKey={(row) => row.id}
            height={height - (found?.more ? 24 : 0)}
            label={panel.title || 'Traces'}
            onRow={(row) =>
              openTrace(row, (id, to) => void navigate({ to: '/trace/$id', params: { id }, search: { span: to } }))
            }
          />
          {found?.more && (
            <div className="log-foot">
              the {order} {formatCount(rows.length)}; there are more:{' '}
              <Link
                to="/traces"
                search={
                  {
                    q: text === '{ }' ? undefined : text,
                    order: options.slowestFirst ? 'slowest' : undefined,
                    from: String(span.from),
                    to: String(span.to),
                  } as never
                }
              >
                all of them in Traces
              </Link>
            </div>
          )}
        </div>
      )}
    </PanelStates>
  );
}

// One span, whole: its times, attributes, events, links to other traces, and the log records that were written in it.

import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { Activity, CornerLeftUp, ListFilter, ScrollText, Search, Waypoints, X } from 'lucide-react';
import { type ReactNode, useState } from 'react';
import type { Answer } from '../../api/client';
import type { LogRow, LogValue } from '../../api/logs';
import { traceLogs } from '../../api/traces';
import { quote } from '../../lib/labels';
import { levelOf, lineOf, millisOf, textOf, typeOf, visible } from '../../lib/logrow';
import { filterText } from '../../lib/logsearch';
import { formatMoment, type Range } from '../../lib/time';
import { around, isFailed, selfNs, serviceName, type TraceView } from '../../lib/trace';
import { attribute, equals, quoted } from '../../lib/traceql';
import { formatCount, formatValue } from '../../lib/units';
import { currentTenant } from '../../state/prefs';
import { JsonText } from '../JsonText';
import { LongText } from '../LongText';
import { Empty, ErrorBox, Skeleton } from '../states';
import { CopyButton, IconButton, StatusTag, Tabs } from '../ui';

/** A service's metrics are made of spans every fifteen seconds: rates need some minutes around a moment. */
const METRICS_AROUND = 900_000;
const LINES = 200;

type Scope = 'span' | 'resource' | 'instrumentation' | 'event' | 'link';

/** The log records of a trace. */
export const useTraceLogs = (id: string | undefined) =>
  useQuery({
    queryKey: ['trace-logs', currentTenant(), id],
    enabled: id !== undefined,
    queryFn: ({ signal }) => traceLogs(id!, signal),
    staleTime: 30_000,
  });

export const timeOf = ({ from, to }: Range) => ({ from: String(from), to: String(to) });

export function SpanDrawer({
  view,
  at,
  zone,
  logs,
  onChoose,
  onFind,
  onClose,
}: {
  view: TraceView;
  at: number;
  zone: string;
  logs: { data: Answer<{ rows: LogRow[]; truncated: boolean }> | undefined; error: unknown; refetch: () => unknown };
  onChoose: (at: number) => void;
  onFind: (text: string) => void;
  onClose: () => void;
}) {
  const [tab, setTab] = useState('attributes');
  const { trace } = view;
  const span = trace.spans[at]!;
  const stream = trace.streams[span.stream];
  const startNs = BigInt(span.startTimeUnixNano);
  const duration = Number(span.durationNs);
  const own = logs.data?.data.rows.filter((row) => row.spanId === span.spanId) ?? [];
  const time = timeOf(around(startNs, duration));
  const wide = timeOf(around(startNs, duration, METRICS_AROUND));
  const service = quote(span.service);
  const metrics = [
    `sum by (span_name) (rate(traces_spanmetrics_calls_total{service=${service}}[5m]))`,
    `histogram_quantile(0.95, sum by (le, span_name) (rate(traces_spanmetrics_latency_bucket{service=${service}}[5m])))`,
  ];
  const like = `{ resource.service.name = ${quoted(span.service)} && name = ${quoted(span.name)} }`;
  const share = view.totalNs > 0 ? duration / view.totalNs : 1;
  return (
    <aside className="side-drawer log-record span-drawer" aria-label="Span" data-testid="span-drawer">
      <header className="dialog-head">
        <div className="span-title">
          <h2 className="dialog-title">
            <bdi>{visible(span.name.slice(0, 500)) || '(no name)'}</bdi>
          </h2>
          <span className="span-of">
            <span
              className="wf-key"
              style={{ background: `var(--series-${view.services[view.service[at]!]!.colour + 1})` }}
            />
            <bdi>{visible(serviceName(span.service).slice(0, 200))}</bdi>
          </span>
        </div>
        {span.parent !== null && (
          <IconButton icon={CornerLeftUp} label="To the span above" onClick={() => onChoose(span.parent!)} />
        )}
        <CopyButton text={span.spanId} label="Copy the id of the span" />
        <IconButton icon={X} label="Close (Esc)" onClick={onClose} />
      </header>
      <dl className="span-facts">
        <Fact name="Duration">
          <b>{formatValue(duration, 'ns')}</b>
          <span className="muted"> {formatValue(share, 'percentunit')}</span>
        </Fact>
        <Fact name="Own time" title="In which none of its children ran">
          {formatValue(selfNs(view, at), 'ns')}
        </Fact>
        <Fact name="Critical" title="Its part of the critical path: what the end of the trace waited for">
          {formatValue(Number(span.criticalNs), 'ns')}
        </Fact>
        <Fact name="Begins" title={formatMoment(Number(startNs / 1_000_000n), zone, true)}>
          +{formatValue(view.begin[at]!, 'ns')}
        </Fact>
        <Fact name="Kind">{span.kind}</Fact>
        <Fact name="Status">
          <StatusTag tone={isFailed(span) ? 'critical' : span.status === 'ok' ? 'ok' : 'none'}>{span.status}</StatusTag>
        </Fact>
      </dl>
      {span.statusMessage !== '' && (
        <p className="span-message" tabIndex={0}>
          <LongText text={span.statusMessage} />
        </p>
      )}
      {span.orphan && (
        <p className="span-message is-warn">
          ▲ Its parent <code>{span.parentSpanId}</code> is not in the trace: it was not sent, or has not arrived yet.
        </p>
      )}
      <nav className="span-links" aria-label="Other signals">
        <Link
          to="/logs"
          search={{
            q: `${filterText('trace_id', trace.traceId)} ${filterText('span_id', span.spanId)}`,
            ...time,
          }}
        >
          <ScrollText size={13} aria-hidden /> Logs of the span
        </Link>
        {span.service !== '' && (
          <>
            <Link to="/services" search={{ service: span.service, ...wide }}>
              <Waypoints size={13} aria-hidden /> The service then
            </Link>
            <Link to="/explore" search={{ q: metrics, ...wide }}>
              <Activity size={13} aria-hidden /> Its metrics then
            </Link>
          </>
        )}
        <Link to="/traces" search={{ q: like, ...wide }}>
          <Search size={13} aria-hidden /> Traces like this
        </Link>
      </nav>
      <Tabs
        label="View of the span"
        value={tab}
        choices={[
          { id: 'attributes', label: 'Attributes' },
          { id: 'events', label: `Events ${span.events.length}` },
          { id: 'links', label: `Links ${span.links.length}` },
          { id: 'logs', label: logs.data ? `Logs ${own.length}` : 'Logs' },
          { id: 'json', label: 'JSON' },
        ]}
        onChange={setTab}
      />
      <div className="record-body" key={`${at} ${tab}`}>
        {tab === 'attributes' ? (
          <>
            <Attributes
              title="Span"
              scope="span"
              values={span.attributes}
              onFind={onFind}
              none="It has no attributes."
            />
            <Attributes title="Resource" scope="resource" values={stream?.resource ?? {}} onFind={onFind} />
            <Attributes
              title="Scope"
              scope="instrumentation"
              values={{
                ...(stream?.scope.name ? { name: stream.scope.name } : {}),
                ...(stream?.scope.version ? { version: stream.scope.version } : {}),
                ...stream?.scope.attributes,
              }}
            />
            <Attributes
              title="Ids"
              values={{
                span: span.spanId,
                ...(span.parentSpanId ? { parent: span.parentSpanId } : {}),
                trace: trace.traceId,
                ...(span.traceState ? { 'trace state': span.traceState } : {}),
                start: span.startTimeUnixNano,
                end: span.endTimeUnixNano,
              }}
            />
            <Dropped of={span.dropped} />
          </>
        ) : tab === 'events' ? (
          span.events.length === 0 ? (
            <Empty title="It has no events" />
          ) : (
            span.events.map((event, i) => (
              <section key={i} className="span-event">
                <h3>
                  <span className="tab-num">+{formatValue(Number(BigInt(event.timeUnixNano) - startNs), 'ns')}</span>{' '}
                  <bdi>{visible(event.name.slice(0, 500)) || '(no name)'}</bdi>
                </h3>
                <Attributes scope="event" values={event.attributes} onFind={onFind} />
              </section>
            ))
          )
        ) : tab === 'links' ? (
          span.links.length === 0 ? (
            <Empty title="It links to no other span" />
          ) : (
            span.links.map((link, i) => (
              <section key={i} className="span-event">
                <h3>
                  {link.traceId === trace.traceId ? 'This trace, span ' : 'Trace '}
                  <Link to="/trace/$id" params={{ id: link.traceId }} search={{ span: link.spanId || undefined }}>
                    <code>{link.traceId === trace.traceId ? link.spanId : link.traceId}</code>
                  </Link>
                </h3>
                {link.traceState !== '' && <LongText text={link.traceState} />}
                <Attributes scope="link" values={link.attributes} onFind={onFind} />
              </section>
            ))
          )
        ) : tab === 'logs' ? (
          <SpanLogs view={view} own={own} logs={logs} zone={zone} />
        ) : (
          <JsonText json={jsonOf({ ...span, resource: stream?.resource, scope: stream?.scope })} />
        )}
      </div>
    </aside>
  );
}

function Fact({ name, title, children }: { name: string; title?: string; children: ReactNode }) {
  return (
    <div title={title}>
      <dt>{name}</dt>
      <dd className="tab-num">{children}</dd>
    </div>
  );
}

const jsonOf = (value: object): string => textOf(value as LogValue, 2);

function Dropped({ of }: { of: { attributes: number; events: number; links: number } }) {
  const lost = Object.entries(of).filter(([, count]) => count > 0);
  if (lost.length === 0) return null;
  return (
    <p className="warn small">
      ▲ Its sender left out {lost.map(([what, count]) => `${formatCount(count)} ${what}`).join(', ')}.
    </p>
  );
}

function Attributes({
  title,
  scope,
  values,
  onFind,
  none,
}: {
  title?: string;
  /** Where they stand, for searches; without it they are not searched for. */
  scope?: Scope;
  values: Record<string, LogValue>;
  onFind?: (text: string) => void;
  none?: string;
}) {
  const rows = Object.entries(values);
  if (rows.length === 0 && !none) return null;
  return (
    <section>
      {title && <h3>{title}</h3>}
      {rows.length === 0 ? (
        <p className="muted small">{none}</p>
      ) : (
        <dl className="record-fields">
          {rows.map(([name, value]) => {
            const text = textOf(value);
            const condition = scope && onFind && text.length <= 500 ? equals(attribute(scope, name), value) : null;
            return (
              <div key={name}>
                <dt>
                  <bdi>{visible(name.slice(0, 500))}</bdi> <span className="kind">{typeOf(value)}</span>
                </dt>
                <dd>
                  <LongText text={text} />
                  <span className="record-tools">
                    {onFind && text.length <= 500 && !/\s/.test(name + text) && (
                      <IconButton
                        icon={ListFilter}
                        label={`Find ${name} = this in the trace`}
                        onClick={() => onFind(`${name}=${text}`)}
                      />
                    )}
                    {condition && (
                      <Link
                        className="icon-btn"
                        to="/traces"
                        search={{ q: `{ ${condition} }` }}
                        aria-label={`Traces with ${name} = this`}
                        title={`Traces with ${name} = this`}
                      >
                        <Search size={15} aria-hidden />
                      </Link>
                    )}
                    <CopyButton text={text} label={`Copy ${name}`} />
                  </span>
                </dd>
              </div>
            );
          })}
        </dl>
      )}
    </section>
  );
}

function SpanLogs({
  view,
  own,
  logs,
  zone,
}: {
  view: TraceView;
  own: LogRow[];
  logs: { data: Answer<{ rows: LogRow[]; truncated: boolean }> | undefined; error: unknown; refetch: () => unknown };
  zone: string;
}) {
  const [all, setAll] = useState(false);
  if (logs.error) return <ErrorBox error={logs.error} onRetry={() => void logs.refetch()} />;
  if (!logs.data) return <Skeleton rows={6} />;
  const { rows, truncated } = logs.data.data;
  const shown = all ? rows : own;
  const time = timeOf(around(view.startNs, view.totalNs));
  return (
    <>
      <label className="check">
        <input type="checkbox" checked={all} onChange={(event) => setAll(event.target.checked)} />
        Of the whole trace ({formatCount(rows.length)}
        {truncated ? ', the first ones' : ''})
      </label>
      {shown.length === 0 ? (
        <Empty icon={ScrollText} title={all ? 'No log record names this trace' : 'No log record names this span'}>
          Records are found by the trace and span ids that loggers write with them.
        </Empty>
      ) : (
        <ol className="around" data-testid="span-logs">
          {shown.slice(0, LINES).map((row, i) => (
            <li key={i}>
              <span className={`log-mark lv-${levelOf(row.level)}`} aria-hidden />
              <span className="log-time tab-num">{formatMoment(millisOf(row), zone, true).slice(11)}</span>
              <bdi className="log-body">{lineOf(row, true)}</bdi>
            </li>
          ))}
        </ol>
      )}
      {rows.length > 0 && (
        <p>
          <Link to="/logs" search={{ q: filterText('trace_id', view.trace.traceId), ...time }}>
            {shown.length > LINES ? `${formatCount(shown.length - LINES)} more: all` : 'All'} logs of the trace
          </Link>
        </p>
      )}
    </>
  );
}

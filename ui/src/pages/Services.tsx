// Services: rate, errors and duration of each, the map of their calls, and a page for one of them. All numbers are of
// spans, counted by the server in the time that is chosen.

import { useQuery } from '@tanstack/react-query';
import { Link, useNavigate, useSearch } from '@tanstack/react-router';
import { Activity, ChartNoAxesGantt, ScrollText, Search, Table2, TriangleAlert, Waypoints } from 'lucide-react';
import { useCallback, useMemo } from 'react';
import { listDependencies, traceMetrics } from '../api/traces';
import { Chart } from '../components/Chart';
import { type ColumnDef, DataTable } from '../components/DataTable';
import { FilteredOut } from '../components/Filtered';
import { PageHead } from '../components/Shell';
import { Empty, ErrorBox, Skeleton } from '../components/states';
import { useServices } from '../components/traces/SearchForm';
import { CallTable, ErrorShare, ServiceLink, ServiceMap } from '../components/traces/ServiceMap';
import { Input, Panel, Segmented, Tabs } from '../components/ui';
import { assignLooks, token } from '../lib/colour';
import { quote } from '../lib/labels';
import { visible } from '../lib/logrow';
import { filterText } from '../lib/logsearch';
import { byService, entryKind, frameOfTraces, QUANTILES, type Red, redQueries, redRows } from '../lib/red';
import { niceStep } from '../lib/time';
import { serviceColours } from '../lib/trace';
import { formatCount, formatValue } from '../lib/units';
import type { ServicesSearch } from '../routes';
import { useRange } from '../state/clock';
import { currentTenant } from '../state/prefs';
import { useTheme } from '../state/theme';
import '../style/logs.css';
import '../style/traces.css';

const SERVICE = 'resource.service.name';
/** Bars of a trend, steps of a chart. */
const TREND = 30;
const STEPS = 120;

/** The time of a page in whole steps of its charts. */
function useSteps(points: number) {
  const { range } = useRange();
  const step = niceStep(range, points);
  const from = Math.floor(range.from / step) * step;
  const to = Math.max(from + step, Math.ceil(range.to));
  return useMemo(() => ({ from, to, step, seconds: (to - from) / 1000 }), [from, to, step]);
}

/** Rate and errors in steps, quantiles of all of the time, by some fields and the kind. */
function useRed(service: string | undefined, by: string[], points: number, whole: boolean) {
  const time = useSteps(points);
  const { from, to, step } = time;
  return {
    ...time,
    ...useQuery({
      queryKey: ['timed', 'red', currentTenant(), service, by, from, to, step, whole],
      queryFn: async ({ signal }) => {
        const queries = redQueries(service, by);
        const ask = (query: string, width: number) => traceMetrics({ query, from, to }, width, signal);
        const [rate, errors, quantiles] = await Promise.all([
          ask(queries.rate, step),
          ask(queries.errors, step),
          ask(queries.quantiles, whole ? to - from : step),
        ]);
        return { rate: rate.data.series, errors: errors.data.series, quantiles: quantiles.data.series };
      },
    }),
  };
}

export default function Services() {
  const { service } = useSearch({ from: '/services' });
  return service === undefined ? <AllServices /> : <OneService key={service} service={service} />;
}

function useChange() {
  const navigate = useNavigate({ from: '/services' });
  return useCallback(
    (part: Partial<ServicesSearch>, replace = false) =>
      void navigate({ search: (old) => ({ ...old, ...part }), replace, resetScroll: false }),
    [navigate],
  );
}

function AllServices() {
  const search = useSearch({ from: '/services' });
  const change = useChange();
  const isMap = search.view === 'map';
  const clear = () => change({ find: undefined }, true);
  return (
    <div className="page services">
      <PageHead title="Services" time />
      <div className="log-bar">
        <Tabs
          label="View"
          value={isMap ? 'map' : 'table'}
          choices={[
            { id: 'table', label: 'Table', icon: Table2 },
            { id: 'map', label: 'Map', icon: Waypoints },
          ]}
          onChange={(id) => change({ view: id === 'map' ? 'map' : undefined })}
        />
        <span className="spring" />
        <div className="search-box">
          <Search size={14} aria-hidden />
          <Input
            aria-label="Find a service"
            placeholder={isMap ? 'A service and its neighbours' : 'Find a service'}
            value={search.find ?? ''}
            onChange={(event) => change({ find: event.target.value || undefined }, true)}
          />
        </div>
      </div>
      {isMap ? (
        <MapView find={search.find ?? ''} onClear={clear} />
      ) : (
        <TableView find={search.find ?? ''} onClear={clear} />
      )}
    </div>
  );
}

function TableView({ find, onClear }: { find: string; onClear: () => void }) {
  const navigate = useNavigate();
  const red = useRed(undefined, [SERVICE, 'kind'], TREND, true);
  const { seconds, step, data } = red;
  const rows = useMemo(
    () => (data ? byService(redRows(data, SERVICE, seconds, step / 1000)) : []),
    [data, seconds, step],
  );
  const isMeant = meant(find);
  const shown = rows.filter((row) => isMeant(row.key));
  const columns = useMemo(() => {
    const colours = serviceColours(rows.map((row) => row.key));
    return redColumns('service', (row) => (
      <span className="trace-root-link">
        <span className="wf-key" style={{ background: `var(--series-${(colours.get(row.key) ?? 0) + 1})` }} />
        <ServiceLink name={row.key} />
      </span>
    ));
  }, [rows]);
  if (red.error) return <ErrorBox error={red.error} onRetry={() => void red.refetch()} />;
  if (!data) return <Skeleton height={300} rows={10} />;
  if (rows.length === 0) return <NoServices />;
  if (shown.length === 0)
    return <FilteredOut what="services" of={rows.length} filters={[{ name: 'the words', value: find, onClear }]} />;
  return (
    <div className={`trace-list ${red.isPlaceholderData ? 'is-dimmed' : ''}`}>
      <DataTable
        rows={shown}
        columns={columns}
        rowKey={(row) => row.key}
        initialSort={{ id: 'rate', down: true }}
        label="Services"
        onRow={(row) => row.key !== '' && void navigate({ to: '/services', search: { service: row.key } })}
      />
    </div>
  );
}

function NoServices() {
  const { setRange } = useRange();
  return (
    <Empty
      icon={Waypoints}
      title="No service has sent spans in this time"
      actions={
        <button type="button" className="btn btn-plain" onClick={() => setRange({ from: 'now-7d', to: 'now' })}>
          Look at the last 7 days
        </button>
      }
    >
      Services are named by the attribute <code>service.name</code> of their resource. Home shows how to send traces.
    </Empty>
  );
}

/** The columns of rate, errors and duration. */
function redColumns(what: string, name: (row: Red) => React.ReactNode): ColumnDef<Red>[] {
  return [
    { id: 'name', title: what, width: 'minmax(200px, 2fr)', sort: (row) => row.key, cell: name },
    {
      id: 'kind',
      title: 'spans of kind',
      width: '110px',
      sort: (row) => row.kind,
      cell: (row) => <span className="muted">{row.kind}</span>,
    },
    {
      id: 'trend',
      title: 'rate, and what failed',
      width: '170px',
      cell: (row) => <Trend row={row} />,
    },
    {
      id: 'rate',
      title: 'rate',
      width: '100px',
      numeric: true,
      sort: (row) => row.rate,
      cell: (row) => <span title={`${formatCount(row.spans)} spans`}>{formatValue(row.rate)}/s</span>,
    },
    {
      id: 'errors',
      title: 'failed',
      width: '110px',
      numeric: true,
      sort: (row) => row.errors,
      cell: (row) => <ErrorShare share={row.errors} />,
    },
    ...QUANTILES.map(
      (quantile, i): ColumnDef<Red> => ({
        id: `p${quantile}`,
        title: `p${quantile * 100}`,
        width: '95px',
        numeric: true,
        sort: (row) => row.quantiles[i] ?? -1,
        cell: (row) => formatValue(row.quantiles[i], 's'),
      }),
    ),
  ];
}

/** Which line is which. */
function Keys({ names }: { names: string[] }) {
  const looks = assignLooks(names);
  return (
    <span className="red-keys small tab-num">
      {names.map((name, i) => (
        <span key={name}>
          <span className="wf-key" style={{ background: `var(--series-${looks[i]!.colour + 1})` }} />
          {name.replace(/^0:/, '')}
        </span>
      ))}
    </span>
  );
}

function Trend({ row }: { row: Red }) {
  const most = Math.max(...row.trend, 1e-12);
  return (
    <svg
      className="trend red-trend"
      viewBox={`0 0 ${row.trend.length} 1`}
      preserveAspectRatio="none"
      aria-hidden="true"
    >
      {row.trend.map((rate, i) => {
        const failed = Math.min(rate, row.failed[i] ?? 0) / most;
        const height = rate / most;
        return rate === 0 ? null : (
          <g key={i}>
            <rect x={i + 0.1} width={0.8} y={1 - height} height={height} />
            {failed > 0 && <rect className="has-errors" x={i + 0.1} width={0.8} y={1 - failed} height={failed} />}
          </g>
        );
      })}
    </svg>
  );
}

/** Whether a name has all words that are looked for. */
function meant(find: string): (name: string) => boolean {
  const words = find.toLowerCase().split(/\s+/).filter(Boolean);
  return (name) => words.every((word) => name.toLowerCase().includes(word));
}

function MapView({ find, onClear }: { find: string; onClear: () => void }) {
  const { from, to, seconds } = useSteps(TREND);
  const found = useQuery({
    queryKey: ['timed', 'dependencies', currentTenant(), from, to],
    queryFn: ({ signal }) => listDependencies({ from, to }, signal),
  });
  const services = useServices({ from, to });
  if (found.error) return <ErrorBox error={found.error} onRetry={() => void found.refetch()} />;
  if (!found.data || services.isPending) return <Skeleton height={300} rows={10} />;
  const all = found.data.data.dependencies;
  const isMeant = meant(find);
  const dependencies = all.filter((one) => isMeant(one.parent) || isMeant(one.child));
  const linked = new Set(all.flatMap((one) => [one.parent, one.child]));
  const alone = (services.data?.data.services ?? [])
    .map((one) => one.name)
    .filter((name) => !linked.has(name) && isMeant(name));
  if (
    dependencies.length === 0 &&
    alone.length === 0 &&
    find.trim() !== '' &&
    (services.data?.data.services ?? []).length > 0
  )
    return (
      <FilteredOut
        what="services"
        of={services.data?.data.services.length}
        filters={[{ name: 'the words', value: find, onClear }]}
      />
    );
  if (all.length === 0)
    return alone.length === 0 ? (
      <NoServices />
    ) : (
      <Empty icon={Waypoints} title="No service calls another in this time">
        A call is a span whose parent is of another service. There {alone.length === 1 ? 'is' : 'are'}{' '}
        {formatCount(alone.length)} {alone.length === 1 ? 'service' : 'services'} with spans.
      </Empty>
    );
  return <ServiceMap dependencies={dependencies} alone={alone} seconds={seconds} />;
}

function OneService({ service }: { service: string }) {
  const search = useSearch({ from: '/services' });
  const navigate = useNavigate();
  const change = useChange();
  const { zone, zoom, range, text } = useRange();
  const red = useRed(service, ['kind'], STEPS, false);
  const operations = useRed(service, ['name', 'kind'], TREND, true);
  const calls = useQuery({
    queryKey: ['timed', 'dependencies', currentTenant(), red.from, red.to],
    queryFn: ({ signal }) => listDependencies({ from: red.from, to: red.to }, signal),
  });
  const { data, from, to, step, seconds } = red;
  const kinds = useMemo(
    () =>
      data
        ? redRows(data, 'kind', seconds, step / 1000)
            .map((row) => ({ kind: row.kind, spans: row.spans }))
            .sort((a, b) => b.spans - a.spans)
        : [],
    [data, seconds, step],
  );
  const kind = kinds.some((one) => one.kind === search.kind) ? search.kind : entryKind(kinds);
  const frames = useMemo(() => {
    if (!data || kind === undefined) return null;
    const own = (series: typeof data.rate) => series.filter((one) => String(one.labels.kind) === kind);
    const rate = frameOfTraces(own(data.rate), from, to, step, () => 'spans a second');
    const failed = frameOfTraces(own(data.errors), from, to, step, () => 'failed');
    const all = rate.series[0]?.values ?? [];
    const errors = {
      ...rate,
      series: rate.series.map((one) => ({
        ...one,
        id: '0:failed',
        name: 'share that failed',
        values: all.map((value, i) => (value ? (failed.series[0]?.values[i] ?? 0) / value : null)),
      })),
    };
    const quantiles = frameOfTraces(own(data.quantiles), from, to, step, (labels) => `p${Number(labels.p) * 100}`);
    return { rate, errors, quantiles };
  }, [data, kind, from, to, step]);
  const rows = useMemo(
    () =>
      operations.data
        ? redRows(operations.data, 'name', operations.seconds, operations.step / 1000).filter(
            (row) => row.kind === kind,
          )
        : [],
    [operations.data, operations.seconds, operations.step, kind],
  );
  const time = { from: text.from, to: text.to };
  const columns = useMemo(
    () =>
      redColumns('operation', (row) => (
        <Link
          to="/traces"
          search={{ service, operation: row.key, kind: row.kind, from: text.from, to: text.to }}
          onClick={(event) => event.stopPropagation()}
        >
          <bdi>{visible(row.key.slice(0, 300)) || '(no name)'}</bdi>
        </Link>
      )),
    [service, text.from, text.to],
  );
  const of = quote(service);
  const metrics = [
    `sum by (span_name) (rate(traces_spanmetrics_calls_total{service=${of}}[5m]))`,
    `histogram_quantile(0.95, sum by (le, span_name) (rate(traces_spanmetrics_latency_bucket{service=${of}}[5m])))`,
  ];
  const dependencies = calls.data?.data.dependencies ?? [];
  const near = dependencies.filter((one) => one.parent === service || one.child === service);
  const theme = useTheme();
  // biome-ignore lint/correctness/useExhaustiveDependencies: the theme stands for the colours of the tokens
  const critical = useMemo(() => [token('critical')], [theme]);
  const charts = frames && [
    { title: 'Rate', note: 'spans a second', frame: frames.rate, unit: 'short', colours: undefined },
    {
      title: 'Errors',
      note: 'share of spans that failed',
      frame: frames.errors,
      unit: 'percentunit',
      colours: critical,
    },
    { title: 'Duration', note: 'quantiles', frame: frames.quantiles, unit: 's', colours: undefined },
  ];
  return (
    <div className="page services">
      <PageHead title={visible(service.slice(0, 120))} parent={<Link to="/services">Services</Link>} time />
      <div className="log-bar">
        {kinds.length > 0 && kind !== undefined && (
          <Segmented
            label="Kind of spans"
            value={kind}
            choices={kinds.map((one) => ({ id: one.kind, label: `${one.kind} ${formatCount(one.spans)}` }))}
            onChange={(id) => change({ kind: id })}
          />
        )}
        <span className="spring" />
        <Link className="btn btn-plain" to="/traces" search={{ service, ...time }}>
          <ChartNoAxesGantt size={14} aria-hidden /> Traces
        </Link>
        <Link className="btn btn-plain" to="/traces" search={{ service, status: 'error', ...time }}>
          <TriangleAlert size={14} aria-hidden /> Failed ones
        </Link>
        <Link className="btn btn-plain" to="/logs" search={{ q: filterText('service.name', service), ...time }}>
          <ScrollText size={14} aria-hidden /> Logs
        </Link>
        <Link className="btn btn-plain" to="/explore" search={{ q: metrics, ...time }}>
          <Activity size={14} aria-hidden /> Metrics
        </Link>
      </div>
      {red.error ? (
        <ErrorBox error={red.error} onRetry={() => void red.refetch()} />
      ) : !charts ? (
        data ? (
          <Empty icon={Waypoints} title={`${visible(service.slice(0, 120))} has sent no spans in this time`}>
            <Link to="/services">All services</Link> of this time, or another time by the picker above.
          </Empty>
        ) : (
          <Skeleton height={220} rows={5} />
        )
      ) : (
        <>
          <div className="red-charts">
            {charts.map(({ title, note, frame, unit, colours }) => (
              <Panel
                key={title}
                title={title}
                note={note}
                actions={frame.series.length > 1 ? <Keys names={frame.series.map((one) => one.id)} /> : undefined}
              >
                <Chart
                  frame={frame}
                  range={range}
                  zone={zone}
                  height={168}
                  unit={unit}
                  min={0}
                  colours={colours}
                  sync="service"
                  onZoom={zoom}
                  dimmed={red.isPlaceholderData}
                  label={`${title} of ${service}`}
                />
              </Panel>
            ))}
          </div>
          <Panel title="Operations" note={`spans of kind ${kind}, by name`} className="service-operations">
            {operations.error ? (
              <ErrorBox error={operations.error} onRetry={() => void operations.refetch()} />
            ) : operations.data ? (
              <DataTable
                rows={rows}
                columns={columns}
                rowKey={(row) => row.key}
                initialSort={{ id: 'rate', down: true }}
                most={440}
                label="Operations"
                onRow={(row) =>
                  void navigate({ to: '/traces', search: { service, operation: row.key, kind: row.kind, ...time } })
                }
              />
            ) : (
              <Skeleton rows={5} />
            )}
          </Panel>
          <Panel
            title="Neighbours"
            note="who calls it, and whom it calls"
            actions={
              <Link to="/services" search={{ view: 'map', ...time }}>
                Map
              </Link>
            }
          >
            {calls.error ? (
              <ErrorBox error={calls.error} onRetry={() => void calls.refetch()} />
            ) : !calls.data ? (
              <Skeleton rows={3} />
            ) : near.length === 0 ? (
              <p className="muted">It calls no other service in this time, and none calls it.</p>
            ) : (
              <CallTable calls={near} seconds={seconds} />
            )}
          </Panel>
        </>
      )}
    </div>
  );
}

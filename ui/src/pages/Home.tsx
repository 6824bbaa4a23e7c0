// The first page: how the cluster is, how much arrives, and how to send more.

import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import {
  Activity,
  ChartNoAxesGantt,
  DatabaseZap,
  LayoutDashboard,
  Network,
  ScrollText,
  Search,
  Star,
  Waypoints,
} from 'lucide-react';
import { lazy, Suspense, useState } from 'react';
import { address } from '../api/client';
import { type ClusterStatus, health } from '../api/cluster';
import { listDashboards } from '../api/dashboards';
import { searchLogs } from '../api/logs';
import { buildInfo, slowQueries, tsdb } from '../api/status';
import { LiveChart } from '../components/LiveChart';
import { PageHead } from '../components/Shell';
import { ErrorBox, Skeleton } from '../components/states';
import { CopyButton, Panel, Segmented, StatusTag } from '../components/ui';
import { BUILTIN } from '../dashboards';
import { formatBytes, formatCount, formatValue } from '../lib/units';
import { useLiveCluster } from '../state/live';
import { currentTenant, usePrefs } from '../state/prefs';
import { useSystemMetrics } from '../state/system';
import '../style/home.css';

const HomeServices = lazy(() => import('../components/HomeServices'));

/** What the cluster does now, as it measures itself. */
const CHARTS = [
  {
    title: 'Received',
    note: 'samples and log records a second',
    query: 'sum(rate(pharos_ingest_rows_total[1m]))',
    none: 'No client has sent anything yet',
  },
  {
    title: 'Writes made durable',
    note: 'log entries a second, all shards',
    query: 'sum(rate(pharos_shard_applied_index[1m]) * on (instance, shard) (pharos_shard_leader == 1))',
  },
  {
    title: 'Queries',
    note: 'answered a second, all nodes',
    query: 'sum(rate(pharos_query_duration_seconds_count[1m]))',
  },
  {
    title: 'Processor',
    note: 'cores in use, by node',
    query: 'sum by (instance) (rate(process_cpu_seconds_total[1m]))',
    template: '{{instance}}',
  },
];

export default function Home() {
  const { status, error } = useLiveCluster();
  const system = useSystemMetrics();
  return (
    <div className="page home">
      <PageHead title="Home" />
      <HealthStrip status={status} error={error} />
      <div className="home-charts">
        {CHARTS.map(({ title, note, ...chart }) => (
          <Panel key={title} title={title} note={note}>
            <LiveChart {...chart} label={`${title}: ${note}`} tenant={system.tenant} unit="short" figure sync="home" />
          </Panel>
        ))}
      </div>
      <Suspense>
        <HomeServices />
      </Suspense>
      <div className="home-low">
        <FirstSteps />
        <div className="home-side">
          <Shortcuts />
          <Explored />
        </div>
        <Largest />
        <Slow />
      </div>
    </div>
  );
}

function HealthStrip({ status, error }: { status: ClusterStatus | null; error: string | null }) {
  const build = useQuery({ queryKey: ['buildinfo'], queryFn: ({ signal }) => buildInfo(signal), staleTime: 300_000 });
  if (!status) {
    return (
      <div className="strip">{error ? <ErrorBox error={new Error(error)} /> : <Skeleton rows={1} height={44} />}</div>
    );
  }
  const h = health(status);
  const cells: { name: string; value: string; tone?: 'ok' | 'warn' | 'critical' }[] = [
    { name: 'nodes', value: `${h.reachable} of ${h.members}`, tone: h.reachable === h.members ? 'ok' : 'warn' },
    { name: 'shards', value: String(status.shards.length) },
    {
      name: 'without leader',
      value: String(h.leaderless.length),
      tone: h.leaderless.length > 0 ? 'critical' : undefined,
    },
    {
      name: 'under-replicated',
      value: String(h.underReplicated.length),
      tone: h.underReplicated.length > 0 ? 'warn' : undefined,
    },
    { name: 'entries behind, at most', value: formatCount(h.maxLag) },
    { name: 'series in the head', value: formatCount(h.series) },
    { name: 'on disk, all copies', value: formatBytes(h.bytes) },
    { name: 'version', value: (build.data?.data.revision ?? '').replace('pharos-', '') || '–' },
  ];
  return (
    <section className={`strip strip-${h.state}`} aria-label="State of the cluster" data-testid="health">
      <Link to="/cluster" className="strip-state">
        <StatusTag tone={h.state}>
          {h.state === 'ok' ? 'Healthy' : h.state === 'warn' ? 'Degraded' : 'Critical'}
        </StatusTag>
        <span>{h.words}</span>
      </Link>
      <dl>
        {cells.map((cell) => (
          <div key={cell.name}>
            <dt>{cell.name}</dt>
            <dd className={`tab-num ${cell.tone && cell.tone !== 'ok' ? cell.tone : ''}`}>{cell.value}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function FirstSteps() {
  const [way, setWay] = useState('prometheus');
  const tenant = currentTenant();
  const base = address('/').replace(/\/$/, '');
  const header = tenant ? `    headers: { X-Scope-OrgID: ${tenant} }\n` : '';
  const asTenant = tenant ? ` --tenant ${tenant}` : '';
  const curlHeader = tenant ? ` -H 'X-Scope-OrgID: ${tenant}'` : '';
  const ways: Record<string, { label: string; what: string; text: string }> = {
    prometheus: {
      label: 'Prometheus',
      what: 'Into prometheus.yml; Prometheus, vmagent and Grafana Alloy speak this protocol.',
      text: `remote_write:\n  - url: ${base}/api/v1/write\n${header}`,
    },
    otlp: {
      label: 'OpenTelemetry',
      what: 'Into the configuration of a Collector, among its exporters and in its pipelines of metrics, logs and traces; SDKs take the same addresses.',
      text: `exporters:\n  otlphttp/pharos:\n    metrics_endpoint: ${base}/v1/metrics\n    logs_endpoint: ${base}/v1/logs\n    traces_endpoint: ${base}/v1/traces\n${tenant ? `    headers:\n      X-Scope-OrgID: ${tenant}\n` : ''}`,
    },
    logs: {
      label: 'Log shippers',
      what: 'Promtail and Alloy take this as an address of Loki; Filebeat, Fluent Bit and Vector take the one of Elasticsearch; lines of JSON come as they are.',
      text: `# Loki's push\nclients:\n  - url: ${base}/loki/api/v1/push\n${tenant ? `    tenant_id: ${tenant}\n` : ''}\n# Elasticsearch's bulk requests\noutput.elasticsearch:\n  hosts: ["${base}"]\n${tenant ? `  headers: { X-Scope-OrgID: ${tenant} }\n` : ''}\n# JSON lines\ncurl -s ${base}/insert/jsonline${curlHeader} \\\n  --data-binary '{"level":"info","message":"hello","service":"shell"}'`,
    },
    grafana: {
      label: 'Grafana',
      what: 'As data sources of the types Prometheus, Loki and Tempo, by provisioning or by hand.',
      text: `apiVersion: 1\ndatasources:\n  - name: Pharos\n    type: prometheus\n    access: proxy\n    url: ${base}\n  - name: Pharos logs\n    type: loki\n    access: proxy\n    url: ${base}\n  - name: Pharos traces\n    type: tempo\n    access: proxy\n    url: ${base}\n`,
    },
    curl: {
      label: 'curl',
      what: 'Asks any node; each answers for the whole cluster.',
      text: `curl -sG ${base}/api/v1/query${curlHeader} \\\n  --data-urlencode 'query=topk(5, count by (__name__) ({__name__!=""}))'`,
    },
    terminal: {
      label: 'Terminal',
      what: 'The binary is its own client.',
      text: `pharos query --url ${base}${asTenant} --explain 'sum by (instance) (rate(process_cpu_seconds_total[1m]))'\npharos logs tail --url ${base}${asTenant} 'level>=warn'\npharos sql --url ${base}${asTenant} -e 'SHOW TABLES'`,
    },
  };
  const shown = ways[way]!;
  const series = useQuery({
    queryKey: ['arrivals', tenant],
    queryFn: ({ signal }) => tsdb(1, signal),
    refetchInterval: 2000,
  });
  const count = series.data?.data.headStats.numSeries;
  const newest = useQuery({
    queryKey: ['log-arrivals', tenant],
    queryFn: ({ signal }) => {
      const now = Date.now();
      return searchLogs({ query: '', from: now - 3_600_000, to: now }, { limit: 1 }, signal);
    },
    refetchInterval: 5000,
  });
  const hasLogs = (newest.data?.data.rows.length ?? 0) > 0;
  return (
    <Panel title="Send and ask" note="with the addresses of this server">
      <Segmented
        label="Way"
        value={way}
        choices={Object.entries(ways).map(([id, { label }]) => ({ id, label }))}
        onChange={setWay}
      />
      <p className="muted first-what">{shown.what}</p>
      <div className="snippet">
        <pre tabIndex={0}>{shown.text}</pre>
        <CopyButton text={shown.text} />
      </div>
      <p className="arrivals" role="status">
        {count === undefined ? (
          <span className="muted">counting…</span>
        ) : count === 0 && !hasLogs ? (
          <>
            <StatusTag tone="none">Waiting</StatusTag> Nothing has arrived for tenant {tenant ?? 'default'} yet. This
            line changes when it does.
          </>
        ) : (
          <>
            <StatusTag tone="ok">Arriving</StatusTag>
            {count > 0 && (
              <span>
                <b className="tab-num">{formatCount(count)}</b> series of tenant {tenant ?? 'default'} are being
                written.
              </span>
            )}
            {hasLogs && (
              <span>
                Logs came in the last hour: <Link to="/logs">search them</Link>.
              </span>
            )}
          </>
        )}
      </p>
    </Panel>
  );
}

/** Where this tenant's series come from. */
function Largest() {
  const status = useQuery({
    queryKey: ['timed', 'largest', currentTenant()],
    queryFn: ({ signal }) => tsdb(8, signal),
    refetchInterval: 15_000,
  });
  const rows = status.data?.data.seriesCountByMetricName ?? [];
  const most = Math.max(1, ...rows.map((r) => r.value));
  return (
    <Panel title="Metrics with the most series" actions={<Link to="/cardinality">Cardinality</Link>}>
      {status.error ? (
        <ErrorBox error={status.error} />
      ) : !status.data ? (
        <Skeleton rows={4} />
      ) : rows.length === 0 ? (
        <p className="muted">This tenant has none yet.</p>
      ) : (
        <table className="bars">
          <thead className="sr-only">
            <tr>
              <th>metric</th>
              <th>series</th>
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <tr key={row.name}>
                <td className="bar-name mono">
                  <span className="bar-fill" style={{ width: `${(row.value / most) * 100}%` }} aria-hidden />
                  <Link to="/browse" search={{ metric: row.name }}>
                    <bdi>{row.name}</bdi>
                  </Link>
                </td>
                <td className="num">{formatCount(row.value)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Panel>
  );
}

/** What took long on this node lately. */
function Slow() {
  const slow = useQuery({ queryKey: ['slow'], queryFn: ({ signal }) => slowQueries(signal), refetchInterval: 15_000 });
  const rows = (slow.data?.data ?? []).filter((row) => row.query !== '').slice(0, 8);
  return (
    <Panel title="Slow queries of this node" actions={<Link to="/admin">All</Link>}>
      {slow.error ? (
        <ErrorBox error={slow.error} />
      ) : !slow.data ? (
        <Skeleton rows={4} />
      ) : rows.length === 0 ? (
        <p className="muted">None since it started.</p>
      ) : (
        <table className="bars">
          <thead className="sr-only">
            <tr>
              <th>query</th>
              <th>took</th>
            </tr>
          </thead>
          <tbody>
            {rows.map((row, i) => (
              <tr key={i}>
                <td className="bar-name mono">
                  <Link to="/explore" search={{ q: [row.query] }}>
                    <bdi>{row.query}</bdi>
                  </Link>
                </td>
                <td className="num">{formatValue(row.seconds, 's')}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Panel>
  );
}

function Shortcuts() {
  const prefs = usePrefs();
  const stored = useQuery({ queryKey: ['dashboards'], queryFn: ({ signal }) => listDashboards(signal) });
  const titles = new Map<string, string>([
    ...BUILTIN.map((b) => [b.uid, b.title] as const),
    ...(stored.data?.data ?? []).map((d) => [d.uid, d.title] as const),
  ]);
  const starred = prefs.starred.filter((uid) => titles.has(uid));
  const recent = prefs.recent.filter((r) => titles.has(r.uid) && !starred.includes(r.uid)).slice(0, 5);
  const others = BUILTIN.filter((b) => !starred.includes(b.uid) && !recent.some((r) => r.uid === b.uid)).slice(0, 6);
  const row = (uid: string, icon: typeof Star) => {
    const Glyph = icon;
    return (
      <li key={uid}>
        <Link to="/dashboards/$uid" params={{ uid }} className="list-link">
          <Glyph size={14} aria-hidden />
          {titles.get(uid)}
        </Link>
      </li>
    );
  };
  return (
    <Panel title="Dashboards" actions={<Link to="/dashboards">All</Link>}>
      <ul className="link-list">
        {starred.map((uid) => row(uid, Star))}
        {recent.map((r) => row(r.uid, LayoutDashboard))}
        {others.map((b) => row(b.uid, LayoutDashboard))}
      </ul>
    </Panel>
  );
}

function Explored() {
  const history = usePrefs((s) => s.history).slice(0, 5);
  return (
    <Panel title="Look around">
      <ul className="link-list">
        <li>
          <Link to="/browse" className="list-link">
            <Search size={14} aria-hidden />
            Browse metrics without a query
          </Link>
        </li>
        <li>
          <Link to="/logs" className="list-link">
            <ScrollText size={14} aria-hidden />
            Search logs
          </Link>
        </li>
        <li>
          <Link to="/traces" className="list-link">
            <ChartNoAxesGantt size={14} aria-hidden />
            Search traces
          </Link>
        </li>
        <li>
          <Link to="/services" className="list-link">
            <Waypoints size={14} aria-hidden />
            See who calls whom
          </Link>
        </li>
        <li>
          <Link to="/sql" className="list-link">
            <DatabaseZap size={14} aria-hidden />
            Ask in SQL
          </Link>
        </li>
        <li>
          <Link to="/cluster" className="list-link">
            <Network size={14} aria-hidden />
            See who leads what, live
          </Link>
        </li>
        {history.map((query) => (
          <li key={query}>
            <Link to="/explore" search={{ q: [query] }} className="list-link">
              <Activity size={14} aria-hidden />
              <code className="clip">{query}</code>
            </Link>
          </li>
        ))}
      </ul>
    </Panel>
  );
}

// What this node runs and how it is set: running and slow queries, settings, features. And the tenants.

import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link, useNavigate, useSearch } from '@tanstack/react-router';
import { Cpu, FileCog, Flag, ListTodo, OctagonX, Users } from 'lucide-react';
import { lazy, Suspense, useState } from 'react';
import {
  type ActiveQuery,
  activeQueries,
  buildInfo,
  config,
  features,
  flags,
  killQuery,
  releaseQuery,
  runtimeInfo,
  type SlowQuery,
  slowQueries,
} from '../api/status';
import { FilteredOut } from '../components/Filtered';
import { Dialog } from '../components/floating';
import { PageHead } from '../components/Shell';
import { ErrorBox, Skeleton } from '../components/states';
import { Button, CopyButton, Input, Panel, StatusTag, Tabs } from '../components/ui';
import { formatAgo } from '../lib/time';
import { formatCount, formatValue } from '../lib/units';
import type { AdminSearch } from '../routes';

const Tenants = lazy(() => import('../components/admin/Tenants'));

export default function Admin() {
  const search = useSearch({ from: '/admin' });
  const navigate = useNavigate({ from: '/admin' });
  const tab = search.tab ?? 'queries';
  return (
    <div className="page admin">
      <PageHead title="Admin" />
      <Tabs
        label="Parts"
        value={tab}
        choices={[
          { id: 'queries', label: 'Queries', icon: ListTodo },
          { id: 'tenants', label: 'Tenants', icon: Users },
          { id: 'node', label: 'This node', icon: Cpu },
          { id: 'config', label: 'Settings file', icon: FileCog },
          { id: 'flags', label: 'All settings', icon: Flag },
        ]}
        onChange={(id) =>
          void navigate({ search: (old) => ({ ...old, tab: id as AdminSearch['tab'], find: undefined }) })
        }
      />
      {tab === 'queries' ? (
        <Queries />
      ) : tab === 'tenants' ? (
        <Suspense fallback={<Skeleton rows={6} />}>
          <Tenants />
        </Suspense>
      ) : tab === 'node' ? (
        <Node />
      ) : tab === 'config' ? (
        <Config />
      ) : (
        <Flags find={search.find ?? ''} />
      )}
    </div>
  );
}

function Queries() {
  const client = useQueryClient();
  const active = useQuery({
    queryKey: ['active'],
    queryFn: ({ signal }) => activeQueries(signal),
    refetchInterval: 1000,
  });
  const slow = useQuery({ queryKey: ['slow'], queryFn: ({ signal }) => slowQueries(signal), refetchInterval: 5000 });
  const [doomed, setDoomed] = useState<ActiveQuery | null>(null);
  const kill = useMutation({
    mutationFn: (id: number) => killQuery(id),
    onSettled: () => {
      setDoomed(null);
      void client.invalidateQueries({ queryKey: ['active'] });
    },
  });
  const release = useMutation({
    mutationFn: (query: string) => releaseQuery(query),
    onSettled: () => void client.invalidateQueries({ queryKey: ['active'] }),
  });
  const running = active.data?.data.active ?? [];
  const quarantined = active.data?.data.quarantined ?? [];
  return (
    <>
      {active.error && <ErrorBox error={active.error} />}
      {kill.error && <ErrorBox error={kill.error} />}
      <Panel title="Running on this node" note={active.data ? `${running.length} now` : ''}>
        {!active.data ? (
          !active.error && <Skeleton rows={3} />
        ) : running.length === 0 ? (
          <p className="muted">No query is running at this moment.</p>
        ) : (
          <table className="facts-table">
            <thead>
              <tr>
                <th className="num">number</th>
                <th>kind</th>
                <th>tenant</th>
                <th>query</th>
                <th className="num">for</th>
                <th>
                  <span className="sr-only">stop</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {running.map((query) => (
                <tr key={query.id}>
                  <td className="num">{query.id}</td>
                  <td>{query.type}</td>
                  <td>
                    <bdi>{query.tenant}</bdi>
                  </td>
                  <td>
                    <QueryText query={query} />
                  </td>
                  <td className="num">{formatValue(query.seconds, 's')}</td>
                  <td>
                    <Button look="danger" icon={OctagonX} onClick={() => setDoomed(query)}>
                      Kill
                    </Button>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </Panel>
      {quarantined.length > 0 && (
        <Panel title="Kept out" note="they were running at crashes of this node">
          {release.error && <ErrorBox error={release.error} />}
          <table className="facts-table">
            <thead>
              <tr>
                <th>tenant</th>
                <th>query</th>
                <th className="num">crashes</th>
                <th>until</th>
                <th>
                  <span className="sr-only">release</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {quarantined.map((row) => (
                <tr key={`${row.tenant}:${row.query}`}>
                  <td>
                    <bdi>{row.tenant}</bdi>
                  </td>
                  <td>
                    <code className="clip">{row.query}</code>
                  </td>
                  <td className="num">{row.crashes}</td>
                  <td>{row.until}</td>
                  <td>
                    <Button onClick={() => release.mutate(row.query)} disabled={release.isPending}>
                      Let it run again
                    </Button>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </Panel>
      )}
      <Panel title="Slow ones" note="since this node started, the newest first">
        {slow.error ? (
          <ErrorBox error={slow.error} />
        ) : !slow.data ? (
          <Skeleton rows={3} />
        ) : slow.data.data.length === 0 ? (
          <p className="muted">
            None took longer than <code>query.log_slower_than</code>.
          </p>
        ) : (
          <table className="facts-table">
            <thead>
              <tr>
                <th>when</th>
                <th>kind</th>
                <th>tenant</th>
                <th>query</th>
                <th className="num">took</th>
                <th className="num">samples</th>
                <th>outcome</th>
              </tr>
            </thead>
            <tbody>
              {slow.data.data.map((query: SlowQuery, i) => (
                <tr key={i}>
                  <td title={query.since}>{formatAgo(Date.parse(query.since), Date.now())}</td>
                  <td>{query.type}</td>
                  <td>
                    <bdi>{query.tenant}</bdi>
                  </td>
                  <td>
                    <QueryText query={query} />
                  </td>
                  <td className="num">{formatValue(query.seconds, 's')}</td>
                  <td className="num">{formatCount(query.samples ?? 0)}</td>
                  <td>
                    <StatusTag tone={query.outcome === 'answered' ? 'ok' : 'warn'}>{query.outcome}</StatusTag>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </Panel>
      <Dialog open={doomed !== null} onClose={() => setDoomed(null)} title={`Kill query ${doomed?.id ?? ''}?`}>
        <p>Its client gets the error "canceled". Nothing else is touched; it may be asked again.</p>
        <pre className="block">{doomed?.query}</pre>
        <div className="dialog-actions">
          <Button onClick={() => setDoomed(null)}>Cancel</Button>
          <Button look="danger" disabled={kill.isPending} onClick={() => doomed && kill.mutate(doomed.id)}>
            Kill
          </Button>
        </div>
      </Dialog>
    </>
  );
}

function QueryText({ query }: { query: Omit<ActiveQuery, 'id'> }) {
  const text = query.query;
  if (text === '') return <span className="muted">–</span>;
  const from = query.start ? String(Date.parse(query.start)) : undefined;
  const to = query.end ? String(Date.parse(query.end)) : undefined;
  const range = from && to && from !== to ? { from, to } : {};
  return (
    <Link to="/explore" search={{ q: [text], ...range }} title="Open in Explore">
      <code className="clip">{text}</code>
    </Link>
  );
}

function Node() {
  const build = useQuery({ queryKey: ['buildinfo'], queryFn: ({ signal }) => buildInfo(signal) });
  const runtime = useQuery({
    queryKey: ['runtimeinfo'],
    queryFn: ({ signal }) => runtimeInfo(signal),
    refetchInterval: 10_000,
  });
  const able = useQuery({ queryKey: ['features'], queryFn: ({ signal }) => features(signal) });
  const error = build.error ?? runtime.error;
  if (error) return <ErrorBox error={error} />;
  if (!build.data || !runtime.data) return <Skeleton rows={6} />;
  const names: [string, unknown][] = [
    ['release', build.data.data.revision],
    ['speaks the API of Prometheus', build.data.data.version],
    ['address for clients', runtime.data.data.hostname],
    ['data directory', runtime.data.data.CWD],
    ['started', runtime.data.data.startTime],
    ['its clock', runtime.data.data.serverTime],
    ['keeps data for', runtime.data.data.storageRetention],
    ['processors', runtime.data.data.GOMAXPROCS],
  ];
  return (
    <div className="two">
      <Panel title="This node">
        <dl className="facts">
          {names
            .filter(([, value]) => value !== undefined && value !== '')
            .map(([name, value]) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd className="mono">
                  <bdi>{String(value)}</bdi>
                </dd>
              </div>
            ))}
        </dl>
      </Panel>
      <Panel title="What it can do">
        {able.data ? (
          <div className="feature-list">
            {Object.entries(able.data.data).map(([group, map]) => (
              <section key={group}>
                <h3>
                  {group.replace(/_/g, ' ')} <span className="muted">{Object.values(map).filter(Boolean).length}</span>
                </h3>
                <ul>
                  {Object.entries(map).map(([name, on]) => (
                    <li key={name} className={on ? '' : 'is-off'} title={on ? 'on' : 'off'}>
                      <code>{name}</code>
                    </li>
                  ))}
                </ul>
              </section>
            ))}
          </div>
        ) : (
          <Skeleton rows={5} />
        )}
      </Panel>
    </div>
  );
}

function Config() {
  const answer = useQuery({ queryKey: ['config'], queryFn: ({ signal }) => config(signal) });
  if (answer.error) return <ErrorBox error={answer.error} onRetry={() => void answer.refetch()} />;
  if (!answer.data) return <Skeleton rows={10} />;
  const { yaml } = answer.data.data;
  return (
    <Panel
      title="The settings in effect"
      note="as a settings file; it names key files and holds no secret"
      actions={<CopyButton text={yaml} words="Copy" />}
    >
      <pre className="block tall" tabIndex={0}>
        {yaml}
      </pre>
    </Panel>
  );
}

function Flags({ find }: { find: string }) {
  const navigate = useNavigate({ from: '/admin' });
  const answer = useQuery({ queryKey: ['flags'], queryFn: ({ signal }) => flags(signal) });
  if (answer.error) return <ErrorBox error={answer.error} onRetry={() => void answer.refetch()} />;
  if (!answer.data) return <Skeleton rows={10} />;
  const words = find.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = Object.entries(answer.data.data).filter(([key, value]) =>
    words.every((w) => `${key} ${value}`.toLowerCase().includes(w)),
  );
  return (
    <Panel
      title="All settings"
      note={`${rows.length} of ${Object.keys(answer.data.data).length}`}
      actions={
        <Input
          placeholder="Filter"
          aria-label="Filter settings"
          value={find}
          onChange={(e) =>
            void navigate({ search: (old) => ({ ...old, find: e.target.value || undefined }), replace: true })
          }
        />
      }
    >
      {rows.length === 0 ? (
        <FilteredOut
          what="settings"
          of={Object.keys(answer.data.data).length}
          filters={[
            {
              name: 'the words',
              value: find,
              onClear: () => void navigate({ search: (old) => ({ ...old, find: undefined }), replace: true }),
            },
          ]}
        />
      ) : (
        <table className="facts-table">
          <thead>
            <tr>
              <th>setting</th>
              <th>value</th>
            </tr>
          </thead>
          <tbody>
            {rows.map(([key, value]) => (
              <tr key={key}>
                <td className="mono">{key}</td>
                <td className="mono">
                  <bdi>{value === '' ? '–' : value}</bdi>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Panel>
  );
}

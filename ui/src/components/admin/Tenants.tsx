// Tenants that are known here, and what they have and send.

import { useQueries, useQuery } from '@tanstack/react-query';
import { Link, useNavigate, useSearch } from '@tanstack/react-router';
import { Plus, Search } from 'lucide-react';
import { type FormEvent, useState } from 'react';
import { type LogVolume, logVolume } from '../../api/loki';
import { activeQueries, flags, slowQueries, tsdb } from '../../api/status';
import { listServices } from '../../api/traces';
import { isTenant, type KnownTenant, knownTenants } from '../../lib/tenants';
import { formatBytes, formatCount, formatValue } from '../../lib/units';
import { currentTenant, usePrefs } from '../../state/prefs';
import { type ColumnDef, DataTable } from '../DataTable';
import { FilteredOut } from '../Filtered';
import { ErrorBox, Skeleton } from '../states';
import { Button, Input, Panel } from '../ui';

const HOUR_MS = 3_600_000;
/** Figures of more tenants than this are asked for when a search has narrowed them. */
const MOST_ASKED = 30;

interface Usage {
  series: number;
  logs: LogVolume;
  spans: number;
}

interface Row extends KnownTenant {
  usage: Usage | undefined;
  error: Error | null;
}

export default function Tenants() {
  const search = useSearch({ from: '/admin' });
  const navigate = useNavigate({ from: '/admin' });
  const prefs = usePrefs();
  const settings = useQuery({ queryKey: ['flags'], queryFn: ({ signal }) => flags(signal) });
  const active = useQuery({ queryKey: ['active'], queryFn: ({ signal }) => activeQueries(signal) });
  const slow = useQuery({ queryKey: ['slow'], queryFn: ({ signal }) => slowQueries(signal) });
  const find = search.find ?? '';
  const setFind = (text: string) =>
    void navigate({ search: (old) => ({ ...old, find: text || undefined }), replace: true });
  const all = settings.data
    ? knownTenants({
        current: currentTenant(),
        met: prefs.tenants,
        flags: settings.data.data,
        queries: [...(active.data?.data.active ?? []), ...(slow.data?.data ?? [])],
      })
    : [];
  const words = find.toLowerCase().split(/\s+/).filter(Boolean);
  const found = all.filter((tenant) => words.every((word) => tenant.name.toLowerCase().includes(word)));
  const asked = found.slice(0, MOST_ASKED);
  const usages = useQueries({
    queries: asked.map(({ name }) => ({
      queryKey: ['tenant-usage', name],
      refetchInterval: 30_000,
      queryFn: async ({ signal }: { signal: AbortSignal }): Promise<Usage> => {
        const to = Date.now();
        const range = { from: to - HOUR_MS, to };
        const [head, logs, services] = await Promise.all([
          tsdb(1, signal, name),
          logVolume(range, name, signal),
          listServices(range, signal, name),
        ]);
        const spans = services.data.services.reduce((sum, service) => sum + service.spanCount, 0);
        return { series: head.data.headStats.numSeries, logs, spans };
      },
    })),
  });
  if (settings.error) return <ErrorBox error={settings.error} onRetry={() => void settings.refetch()} />;
  if (!settings.data) return <Skeleton rows={6} />;
  const rows = found.map(
    (tenant, i): Row => ({ ...tenant, usage: usages[i]?.data, error: (usages[i]?.error as Error | null) ?? null }),
  );
  return (
    <Panel
      title="Tenants"
      note="series that are written to now; logs and spans of the last hour"
      actions={
        <span className="search-box">
          <Search size={14} aria-hidden />
          <Input
            placeholder="Find a tenant"
            aria-label="Find a tenant"
            value={find}
            onChange={(event) => setFind(event.target.value)}
          />
        </span>
      }
    >
      {rows.length === 0 ? (
        <FilteredOut
          what="tenants"
          of={all.length}
          filters={[{ name: 'the words', value: find, onClear: () => setFind('') }]}
        />
      ) : (
        <DataTable
          rows={rows}
          columns={COLUMNS}
          rowKey={(row) => row.name}
          initialSort={{ id: 'series', down: true }}
          most={480}
          label="Tenants"
        />
      )}
      {found.length > asked.length && (
        <p className="cap-note">Figures of the first {MOST_ASKED}: type a part of a name for others.</p>
      )}
      <Add />
    </Panel>
  );
}

/** A figure of a tenant, or why there is none. */
function figure(row: Row, text: (usage: Usage) => string) {
  if (row.usage) return text(row.usage);
  return row.error ? (
    <span className="critical" title={row.error.message}>
      ■ not known
    </span>
  ) : (
    <span className="muted">…</span>
  );
}

const aSecond = (of: number): number => of / (HOUR_MS / 1000);

const COLUMNS: ColumnDef<Row>[] = [
  {
    id: 'name',
    title: 'tenant',
    width: 'minmax(140px, 1fr)',
    sort: (row) => row.name,
    cell: (row) => (
      <Link to="/" search={{ tenant: row.name }} title="Show its data">
        <bdi className="mono">{row.name}</bdi>
      </Link>
    ),
  },
  {
    id: 'from',
    title: 'known from',
    width: 'minmax(120px, 1fr)',
    cell: (row) => <span className="muted">{row.from.join(', ')}</span>,
  },
  {
    id: 'series',
    title: 'series',
    width: '90px',
    numeric: true,
    sort: (row) => row.usage?.series ?? -1,
    cell: (row) => (
      <Link to="/cardinality" search={{ tenant: row.name }}>
        {figure(row, (usage) => formatCount(usage.series))}
      </Link>
    ),
  },
  {
    id: 'logs',
    title: 'log records',
    width: '110px',
    numeric: true,
    sort: (row) => row.usage?.logs.entries ?? -1,
    cell: (row) => (
      <Link to="/logs" search={{ tenant: row.name, from: 'now-1h', to: 'now' }}>
        {figure(row, (usage) => formatCount(usage.logs.entries))}
      </Link>
    ),
  },
  {
    id: 'log-rate',
    title: 'a second',
    width: '90px',
    numeric: true,
    sort: (row) => row.usage?.logs.entries ?? -1,
    cell: (row) => figure(row, (usage) => formatValue(aSecond(usage.logs.entries))),
  },
  {
    id: 'log-bytes',
    title: 'bytes of logs',
    width: '110px',
    numeric: true,
    sort: (row) => row.usage?.logs.bytes ?? -1,
    cell: (row) => figure(row, (usage) => formatBytes(usage.logs.bytes)),
  },
  {
    id: 'spans',
    title: 'spans',
    width: '100px',
    numeric: true,
    sort: (row) => row.usage?.spans ?? -1,
    cell: (row) => (
      <Link to="/services" search={{ tenant: row.name, from: 'now-1h', to: 'now' }}>
        {figure(row, (usage) => formatCount(usage.spans))}
      </Link>
    ),
  },
  {
    id: 'span-rate',
    title: 'a second',
    width: '90px',
    numeric: true,
    sort: (row) => row.usage?.spans ?? -1,
    cell: (row) => figure(row, (usage) => formatValue(aSecond(usage.spans))),
  },
  {
    id: 'features',
    title: 'features',
    width: 'minmax(80px, 0.6fr)',
    cell: (row) => (row.features === '' || row.features === '[]' ? '' : <bdi className="mono">{row.features}</bdi>),
  },
];

/** The server keeps no list of tenants: one that nothing else names is added by its name. */
function Add() {
  const [name, setName] = useState('');
  const met = usePrefs((s) => s.met);
  const isValid = isTenant(name);
  const add = (event: FormEvent) => {
    event.preventDefault();
    if (!isValid) return;
    met(name);
    setName('');
  };
  return (
    <form className="tenant-add" onSubmit={add}>
      <span className="muted">
        A tenant is there once somebody writes for it, and no list is kept: add others by name.
      </span>
      <Input
        aria-label="Name of a tenant"
        placeholder="team-a"
        value={name}
        onChange={(event) => setName(event.target.value)}
        aria-invalid={name !== '' && !isValid}
        spellCheck={false}
      />
      <Button type="submit" icon={Plus} disabled={!isValid}>
        Add
      </Button>
    </form>
  );
}

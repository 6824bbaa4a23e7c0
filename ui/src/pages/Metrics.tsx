// The metric browser: names, what they mean, and a first look at each; then one metric by its labels. It always shows
// the query that it runs.

import { useQuery } from '@tanstack/react-query';
import { Link, useNavigate, useSearch } from '@tanstack/react-router';
import { useVirtualizer } from '@tanstack/react-virtual';
import { ArrowUpRight, Search } from 'lucide-react';
import { useEffect, useMemo, useRef, useState } from 'react';
import { labelNames, labelValues, metadata } from '../api/prometheus';
import { Chart } from '../components/Chart';
import { FilteredOut } from '../components/Filtered';
import { Legend } from '../components/Legend';
import { PageHead } from '../components/Shell';
import { Empty, ErrorBox, RemarkList, Skeleton } from '../components/states';
import { CopyButton, Input, Panel, Select } from '../components/ui';
import { frameOf } from '../lib/frame';
import { escapeRegex, quote } from '../lib/labels';
import { defaultQuery, type Family, families, type MetricKind, unitOf } from '../lib/metric';
import { formatDuration, niceStep, type Range } from '../lib/time';
import { formatValue } from '../lib/units';
import { useRange } from '../state/clock';
import { currentTenant } from '../state/prefs';
import { aligned, useRangeQueries } from '../state/queries';
import '../style/metrics.css';

/** Most names that are asked for; the search narrows. */
const NAMES = 2000;

const KINDS: MetricKind[] = ['counter', 'gauge', 'histogram', 'summary', 'unknown'];

export default function Metrics() {
  const search = useSearch({ from: '/browse' });
  return search.metric ? <OneMetric name={search.metric} by={search.by} /> : <Browser />;
}

function useMetadata() {
  return useQuery({
    queryKey: ['metadata', currentTenant()],
    queryFn: ({ signal }) => metadata(undefined, signal),
    staleTime: 60_000,
  });
}

function rateWindow(range: Range, step: number): string {
  // A rate needs some samples: not less than a minute, not less than a step or two.
  void range;
  return formatDuration(Math.max(60_000, step * 4));
}

function Browser() {
  const search = useSearch({ from: '/browse' });
  const navigate = useNavigate({ from: '/browse' });
  const { range, zone } = useRange();
  const [text, setText] = useState(search.search ?? '');
  useEffect(() => {
    const timer = setTimeout(() => {
      if ((search.search ?? '') !== text) {
        void navigate({ search: (old) => ({ ...old, search: text || undefined }), replace: true });
      }
    }, 200);
    return () => clearTimeout(timer);
  }, [text, search.search, navigate]);

  const words = (search.search ?? '').trim().split(/\s+/).filter(Boolean);
  const names = useQuery({
    queryKey: [
      'timed',
      'names',
      currentTenant(),
      words.join(' '),
      Math.floor(range.from / 60_000),
      Math.floor(range.to / 60_000),
    ],
    queryFn: ({ signal }) => {
      const pattern = words.length === 0 ? null : `.*(?i:${words.map(escapeRegex).join('.*')}).*`;
      const match = pattern === null ? undefined : [`{__name__=~${quote(pattern)}}`];
      return labelValues('__name__', { match, from: range.from, to: range.to, limit: NAMES }, signal);
    },
  });
  const meta = useMetadata();
  const asked = words.join(' ');
  const all = useMemo(() => {
    const words = asked.split(' ').filter(Boolean);
    const known = meta.data?.data ?? {};
    const found = new Set(names.data?.data ?? []);
    // Words may be in the help, too.
    if (words.length > 0) {
      const low = words.map((w) => w.toLowerCase());
      for (const [name, rows] of Object.entries(known)) {
        const help = rows[0]?.help.toLowerCase() ?? '';
        if (low.every((w) => help.includes(w))) {
          for (const member of rows[0]?.type === 'histogram' ? [`${name}_bucket`, `${name}_count`] : [name])
            found.add(member);
        }
      }
    }
    return families([...found].sort(), known);
  }, [names.data, meta.data, asked]);
  const shown = search.type ? all.filter((f) => f.kind === search.type) : all;
  const count = (kind: MetricKind): number => all.filter((f) => f.kind === kind).length;

  return (
    <div className="page metrics">
      <PageHead title="Metrics" time />
      <div className="filter-bar">
        <span className="search-box">
          <Search size={14} aria-hidden />
          <Input
            value={text}
            onChange={(e) => setText(e.target.value)}
            placeholder="Any part of a name or of its description"
            aria-label="Search metrics"
            spellCheck={false}
          />
        </span>
        <div className="segmented" role="group" aria-label="Type">
          <button
            type="button"
            aria-pressed={!search.type}
            onClick={() => void navigate({ search: (old) => ({ ...old, type: undefined }) })}
          >
            all <small>{all.length}</small>
          </button>
          {KINDS.map((kind) => (
            <button
              key={kind}
              type="button"
              aria-pressed={search.type === kind}
              onClick={() => void navigate({ search: (old) => ({ ...old, type: kind }) })}
            >
              {kind} <small>{count(kind)}</small>
            </button>
          ))}
        </div>
        {(names.data?.data.length ?? 0) >= NAMES && (
          <span className="cap-note">the first {NAMES} names; type to narrow</span>
        )}
      </div>
      {names.error ? (
        <ErrorBox error={names.error} onRetry={() => void names.refetch()} />
      ) : !names.data ? (
        <Skeleton rows={8} />
      ) : shown.length === 0 ? (
        words.length > 0 || search.type ? (
          <FilteredOut
            what={words.length > 0 ? 'metrics' : 'metrics of this time range'}
            of={search.type && all.length > 0 ? all.length : undefined}
            filters={[
              {
                name: 'the words',
                value: words.join(' '),
                onClear: () => {
                  setText('');
                  void navigate({ search: (old) => ({ ...old, search: undefined }) });
                },
              },
              {
                name: 'the type',
                value: search.type ?? '',
                onClear: () => void navigate({ search: (old) => ({ ...old, type: undefined }) }),
              },
            ]}
          >
            Metrics without a sample in the time range are not looked through.
          </FilteredOut>
        ) : (
          <Empty title="No metric has samples in this time range">
            Choose a longer range, or <Link to="/">send the first ones</Link>.
          </Empty>
        )
      ) : (
        <CardGrid list={shown} range={range} zone={zone} />
      )}
    </div>
  );
}

const CARD_HEIGHT = 176;
const CARD_WIDTH = 300;

/** Cards in rows; only the rows in sight ask for data. */
function CardGrid({ list, range, zone }: { list: Family[]; range: Range; zone: string }) {
  const scroller = useRef<HTMLDivElement>(null);
  const [columns, setColumns] = useState(4);
  useEffect(() => {
    const element = scroller.current;
    if (!element) return;
    const observer = new ResizeObserver(() => setColumns(Math.max(1, Math.floor(element.clientWidth / CARD_WIDTH))));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  const rows = Math.ceil(list.length / columns);
  const virtual = useVirtualizer({
    count: rows,
    getScrollElement: () => scroller.current,
    estimateSize: () => CARD_HEIGHT + 10,
    overscan: 1,
  });
  return (
    <section className="card-scroll" ref={scroller} tabIndex={0} aria-label="Metrics">
      <div style={{ height: virtual.getTotalSize(), position: 'relative' }}>
        {virtual.getVirtualItems().map((item) => (
          <div
            key={item.key}
            className="card-row"
            style={{
              transform: `translateY(${item.start}px)`,
              gridTemplateColumns: `repeat(${columns}, minmax(0, 1fr))`,
              height: CARD_HEIGHT,
            }}
          >
            {list.slice(item.index * columns, (item.index + 1) * columns).map((family) => (
              <MetricCard key={family.name} family={family} range={range} zone={zone} />
            ))}
          </div>
        ))}
      </div>
    </section>
  );
}

function MetricCard({ family, range, zone }: { family: Family; range: Range; zone: string }) {
  const step = niceStep(range, 80, 5000);
  const query = defaultQuery(family, rateWindow(range, step));
  const span = aligned(range, step);
  const [result] = useRangeQueries([query], range, step, false);
  const frame = useMemo(
    () => (result?.data ? frameOf([{ result: result.data.data.result, query: 0 }], span.from, span.to, step) : null),
    [result?.data, span.from, span.to, step],
  );
  const unit = unitOf(family);
  const last = frame?.series[0]?.values.findLast((v) => v !== null && !Number.isNaN(v));
  return (
    <article className="metric-card">
      <Link
        to="/browse"
        search={(old) => ({ ...old, metric: family.name })}
        className="metric-name mono"
        title={family.name}
      >
        <bdi>{family.name}</bdi>
      </Link>
      <div className="metric-line">
        <span className="kind">{family.kind}</span>
        <span className="metric-value tab-num">{frame ? formatValue(last, unit) : ''}</span>
      </div>
      {result?.error ? (
        <p className="critical small clip2">■ {result.error.message}</p>
      ) : frame && frame.series.length > 0 ? (
        <Chart
          frame={frame}
          range={span}
          zone={zone}
          height={100}
          unit={unit}
          compact
          label={family.name}
          dimmed={result?.isPlaceholderData}
        />
      ) : frame ? (
        <p className="muted small metric-none">no value in this range</p>
      ) : (
        <Skeleton height={100} rows={2} />
      )}
      <p className="metric-help muted" title={family.help}>
        <bdi>{family.help || 'No description came with it.'}</bdi>
      </p>
    </article>
  );
}

function OneMetric({ name, by }: { name: string; by: string | undefined }) {
  const navigate = useNavigate({ from: '/browse' });
  const { range, zone, zoom } = useRange();
  const [emphasised, setEmphasised] = useState<string | null>(null);
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const meta = useMetadata();
  const kinds = useQuery({
    queryKey: ['family', currentTenant(), name],
    queryFn: ({ signal }) =>
      labelValues(
        '__name__',
        { match: [`{__name__=~${quote(`${escapeRegex(name)}(_bucket|_count|_sum)?`)}}`], limit: 10 },
        signal,
      ),
  });
  const family = useMemo(
    () => families(kinds.data?.data ?? [], meta.data?.data ?? {}).find((f) => f.name === name),
    [kinds.data, meta.data, name],
  );
  const selector = family?.classic ? `{__name__=${quote(`${name}_count`)}}` : `{__name__=${quote(name)}}`;
  const labels = useQuery({
    queryKey: ['labels', currentTenant(), selector, Math.floor(range.from / 60_000), Math.floor(range.to / 60_000)],
    enabled: family !== undefined,
    queryFn: ({ signal }) => labelNames({ match: [selector], from: range.from, to: range.to }, signal),
  });
  const keys = (labels.data?.data ?? []).filter((l) => l !== '__name__' && l !== 'le');
  const step = niceStep(range, 400);
  const span = aligned(range, step);
  const query = family ? defaultQuery(family, rateWindow(range, step), by ? [by] : []) : '';
  const [result] = useRangeQueries([query], range, step, false);
  const frame = useMemo(
    () => (result?.data ? frameOf([{ result: result.data.data.result, query: 0 }], span.from, span.to, step) : null),
    [result?.data, span.from, span.to, step],
  );
  if (kinds.error) return <ErrorBox error={kinds.error} onRetry={() => void kinds.refetch()} />;
  const unit = family ? unitOf(family) : undefined;
  return (
    <div className="page metrics">
      <PageHead
        title={name}
        parent={
          <Link to="/browse" search={(old) => ({ ...old, metric: undefined, by: undefined })}>
            Metrics
          </Link>
        }
        time
      />
      {kinds.data && !family ? (
        <Empty title={`There is no metric ${name}`}>
          <Link to="/browse" search={{ search: name }}>
            Search for similar names
          </Link>
        </Empty>
      ) : (
        <>
          <Panel>
            <p className="metric-about">
              <span className="kind">{family?.kind}</span>{' '}
              <bdi>{family?.help || 'No description came with this metric.'}</bdi>
            </p>
            <div className="shown-query">
              <code dir="auto">{query}</code>
              <CopyButton text={query} label="Copy the query" />
              <Link className="btn btn-plain" to="/explore" search={{ q: [query] }}>
                <ArrowUpRight size={14} aria-hidden />
                Open in Explore
              </Link>
              <label className="check">
                Broken down by
                <Select
                  value={by ?? ''}
                  onChange={(e) => void navigate({ search: (old) => ({ ...old, by: e.target.value || undefined }) })}
                >
                  <option value="">nothing</option>
                  {keys.map((key) => (
                    <option key={key} value={key}>
                      {key}
                    </option>
                  ))}
                </Select>
              </label>
            </div>
            {result?.error && <ErrorBox error={result.error} query={query} onRetry={() => void result.refetch()} />}
            {result?.data && <RemarkList warnings={result.data.warnings} infos={result.data.infos} />}
            {frame && frame.series.length > 0 ? (
              <>
                <Chart
                  frame={frame}
                  range={range}
                  zone={zone}
                  height={260}
                  unit={unit}
                  hidden={hidden}
                  emphasised={emphasised}
                  onZoom={zoom}
                  label={query}
                  dimmed={result?.isPlaceholderData}
                />
                <Legend
                  frame={frame}
                  unit={unit}
                  hidden={hidden}
                  onHidden={setHidden}
                  onEmphasise={setEmphasised}
                  tools
                />
              </>
            ) : frame ? (
              <Empty title="No value in this time range" />
            ) : (
              !result?.error && <Skeleton height={260} />
            )}
          </Panel>
          <h2 className="section-title">By each label</h2>
          {keys.length === 0 && labels.data && <p className="muted">Its series differ in no label.</p>}
          <div className="label-grid">
            {family && keys.map((key) => <LabelCard key={key} family={family} label={key} range={range} zone={zone} />)}
          </div>
        </>
      )}
    </div>
  );
}

function LabelCard({ family, label, range, zone }: { family: Family; label: string; range: Range; zone: string }) {
  const step = niceStep(range, 120, 5000);
  const span = aligned(range, step);
  const query = `topk(8, ${defaultQuery(family, rateWindow(range, step), [label])})`;
  const [result] = useRangeQueries([query], range, step, false);
  const values = useQuery({
    queryKey: ['label-values', currentTenant(), family.name, label, Math.floor(range.to / 60_000)],
    queryFn: ({ signal }) =>
      labelValues(
        label,
        {
          match: [`{__name__=${quote(family.classic ? `${family.name}_count` : family.name)}}`],
          from: range.from,
          to: range.to,
          limit: 1000,
        },
        signal,
      ),
  });
  const frame = useMemo(
    () =>
      result?.data
        ? frameOf([{ result: result.data.data.result, query: 0, template: `{{${label}}}` }], span.from, span.to, step)
        : null,
    [result?.data, span.from, span.to, step, label],
  );
  const count = values.data?.data.length;
  return (
    <Panel
      title={<bdi className="mono">{label}</bdi>}
      note={
        count === undefined
          ? ''
          : `${count >= 1000 ? '1000 or more' : count} values${count > 8 ? ', the largest 8 at each step' : ''}`
      }
      actions={
        <Link to="/browse" search={(old) => ({ ...old, by: label })}>
          Break down
        </Link>
      }
    >
      {result?.error ? (
        <ErrorBox error={result.error} />
      ) : frame && frame.series.length > 0 ? (
        <Chart
          frame={frame}
          range={span}
          zone={zone}
          height={130}
          unit={unitOf(family)}
          label={`${family.name} by ${label}`}
        />
      ) : (
        <Skeleton height={130} rows={3} />
      )}
    </Panel>
  );
}

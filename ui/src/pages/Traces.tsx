// Search traces: by form, by TraceQL or by both; how long the spans take that match, exactly counted by the server; the
// traces themselves; and what tells a chosen part of the picture from the rest. All of it is in the address.

import { useInfiniteQuery, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link, useNavigate, useSearch } from '@tanstack/react-router';
import { BookOpen, ChartNoAxesGantt, Code, GitCompare, Search, X } from 'lucide-react';
import { lazy, Suspense, useCallback, useEffect, useMemo, useRef, useState } from 'react';
import { type FoundTrace, searchTraces, traceMetrics } from '../api/traces';
import { type ColumnDef, DataTable } from '../components/DataTable';
import type { HeatBox } from '../components/Heatmap';
import { Chosen } from '../components/Part';
import { PageHead } from '../components/Shell';
import { Empty, ErrorBox, errorPosition, Skeleton, SlowNote } from '../components/states';
import { columnsOf, openTrace } from '../components/traces/columns';
import { SearchForm, useServices } from '../components/traces/SearchForm';
import { Button, CopyButton, IconButton, Segmented } from '../components/ui';
import { visible } from '../lib/logrow';
import { formatMoment, niceStep } from '../lib/time';
import { serviceColours } from '../lib/trace';
import type { TraceForm } from '../lib/traceform';
import { boxText, heatTotal, parseBox, traceHeat } from '../lib/traceheat';
import { traceIdOf } from '../lib/traceid';
import { asksNumbers, conditions, durationText, formQuery } from '../lib/traceql';
import { formatCount, formatValue } from '../lib/units';
import type { TracesSearch } from '../routes';
import { useClock, useRange } from '../state/clock';
import { isTyping, usePageKeys } from '../state/keys';
import { currentTenant } from '../state/prefs';
import '../style/logs.css';
import '../style/traces.css';

const TraceqlEditor = lazy(() => import('../components/TraceqlEditor'));
const Heatmap = lazy(async () => ({ default: (await import('../components/Heatmap')).Heatmap }));
const Compare = lazy(async () => ({ default: (await import('../components/traces/Compare')).Compare }));
const Numbers = lazy(async () => ({ default: (await import('../components/traces/Numbers')).Numbers }));
const TraceqlHelp = lazy(() => import('../components/traces/TraceqlHelp'));

const PAGE = 50;
/** Beyond this a narrower search finds faster than scrolling. */
const MOST_TRACES = 10_000;
const COLUMNS = 120;
const HEAT = 168;

export default function Traces() {
  const search = useSearch({ from: '/traces' });
  const navigate = useNavigate({ from: '/traces' });
  const state = useRange();
  const { zone } = state;
  const client = useQueryClient();
  const [draft, setDraft] = useState(search.q ?? '');
  const [help, setHelp] = useState(false);
  const written = search.q ?? '';
  useEffect(() => setDraft(written), [written]);

  const change = useCallback(
    (part: Partial<TracesSearch>, replace = false) =>
      void navigate({ search: (old) => ({ ...old, ...part }), replace, resetScroll: false }),
    [navigate],
  );
  const run = (text = draft) => {
    const id = traceIdOf(text);
    if (id) {
      void navigate({ to: '/trace/$id', params: { id: id.id }, search: { span: id.span } });
      return;
    }
    useClock.getState().tick();
    change({ q: text.trim() === '' ? undefined : text.trim(), box: undefined, compare: undefined });
  };
  const narrow = useCallback(
    (part: Partial<TraceForm>) => change({ ...(part as Partial<TracesSearch>), box: undefined, compare: undefined }),
    [change],
  );

  // A trace's id that is pasted anywhere on the page is gone to.
  useEffect(() => {
    const onPaste = (event: ClipboardEvent) => {
      const id = isTyping(event.target) ? null : traceIdOf(event.clipboardData?.getData('text') ?? '', 16);
      if (id) void navigate({ to: '/trace/$id', params: { id: id.id }, search: { span: id.span } });
    };
    document.addEventListener('paste', onPaste);
    return () => document.removeEventListener('paste', onPaste);
  }, [navigate]);

  const step = niceStep(state.range, COLUMNS);
  const from = Math.floor(state.range.from / step) * step;
  const to = Math.max(from + step, Math.ceil(state.range.to));
  const query = formQuery(search);
  const question = useMemo(() => ({ query, from, to }), [query, from, to]);
  const order = search.order ?? 'newest';
  const tenant = currentTenant();
  const numbers = asksNumbers(written);

  const found = useInfiniteQuery({
    queryKey: ['timed', 'traces', tenant, question, order],
    enabled: !numbers,
    initialPageParam: undefined as string | undefined,
    queryFn: ({ pageParam, signal }) => searchTraces(question, { order, limit: PAGE, cursor: pageParam }, signal),
    getNextPageParam: (last) => last.data.cursor ?? undefined,
    gcTime: 60_000,
  });
  const counted = useQuery({
    queryKey: ['timed', 'trace-heat', tenant, question, step],
    enabled: !numbers,
    queryFn: ({ signal }) =>
      traceMetrics({ ...question, query: `${query} | histogram_over_time(duration)` }, step, signal),
  });
  const services = useServices({ from, to });
  const names = useMemo(() => (services.data?.data.services ?? []).map((one) => one.name), [services.data]);
  const rows = useMemo(() => found.data?.pages.flatMap((page) => page.data.traces) ?? [], [found.data]);
  const heat = useMemo(
    () => (counted.data ? traceHeat(counted.data.data.series, from, to, step) : null),
    [counted.data, from, to, step],
  );
  const matching = heat ? heatTotal(heat) : null;

  const { hasNextPage, isFetchingNextPage, fetchNextPage } = found;
  const nearEnd = useCallback(() => {
    if (hasNextPage && !isFetchingNextPage && rows.length < MOST_TRACES) void fetchNextPage();
  }, [hasNextPage, isFetchingNextPage, fetchNextPage, rows.length]);
  const began = useRef(performance.now());
  useEffect(() => {
    if (found.isFetching) began.current = performance.now();
  }, [found.isFetching]);

  const box = useMemo(() => parseBox(search.box), [search.box]);
  const inBox =
    heat && box
      ? heatTotal(
          heat,
          (column, row) =>
            heat.times[column]! > box.from &&
            heat.times[column]! - step < box.to &&
            row.upper * 1e9 <= box.upperNs * 1.001 &&
            row.lower * 1e9 >= box.lowerNs * 0.999,
        )
      : 0;
  const zoomIn = () => {
    if (!box) return;
    useClock.getState().tick();
    void navigate({
      search: (old) => ({
        ...old,
        from: String(box.from),
        to: String(box.to),
        dmin: box.lowerNs > 0 ? durationText(box.lowerNs) : undefined,
        dmax: durationText(box.upperNs),
        box: undefined,
        compare: undefined,
      }),
    });
  };
  /** One more condition, in the field of the form that has it. */
  const narrowTo = (scope: string | undefined, field: string, value: string) => {
    const own: Record<string, keyof TraceForm> = { name: 'operation', kind: 'kind', status: 'status' };
    if (scope === undefined && own[field]) narrow({ [own[field]!]: value });
    else if (scope === 'resource' && field === 'service.name') narrow({ service: value });
    else
      narrow({ tags: [...new Set([...(search.tags ?? []), `${scope ?? 'intrinsic'}.${field}=${value}`])].slice(-20) });
  };

  usePageKeys([
    {
      keys: 's',
      label: 'Search traces',
      run: () => document.querySelector<HTMLElement>('.code-editor [contenteditable]')?.focus(),
    },
    {
      keys: 'o',
      label: 'Newest or slowest first',
      run: () => change({ order: order === 'newest' ? 'slowest' : undefined }),
    },
    {
      keys: 'c',
      label: 'Compare what is chosen with the rest',
      run: () => box && change({ compare: !search.compare || undefined }, true),
    },
    {
      keys: 'esc',
      label: 'Nothing chosen',
      run: () => (first ? setFirst(null) : change({ box: undefined, compare: undefined }, true)),
    },
  ]);

  const dated = to - from > 86_400_000;
  const longest = useMemo(() => rows.reduce((most, row) => Math.max(most, Number(row.durationNs)), 1), [rows]);
  const colours = useMemo(
    () => serviceColours([...names, ...rows.flatMap((row) => row.services.map((one) => one.name))]),
    [names, rows],
  );
  /** The first of two traces that are compared. */
  const [first, setFirst] = useState<FoundTrace | null>(null);
  const pick = useCallback(
    (row: FoundTrace) => {
      if (!first) return setFirst(row);
      if (row.traceId === first.traceId) return setFirst(null);
      void navigate({
        to: '/trace/$id',
        params: { id: first.traceId },
        search: { view: 'compare', with: row.traceId },
      });
    },
    [first, navigate],
  );
  const columns = useMemo(
    () => [...columnsOf(zone, dated, longest, colours), compareColumn(first?.traceId, pick)],
    [zone, dated, longest, colours, first, pick],
  );
  const asked = conditions(search).length > 0;
  const narrowed = asked || written !== '';
  const error = numbers ? null : (found.error ?? counted.error);
  const message = error instanceof Error ? error.message : '';
  const problem = useMemo(() => {
    const place = draft === written ? errorPosition(message) : null;
    return place && { ...place, message };
  }, [message, draft, written]);
  return (
    <div className="page traces">
      <PageHead title="Traces" time />
      <SearchForm form={search} range={{ from, to }} services={names} onChange={narrow} />
      <div className="log-query">
        <Suspense fallback={<div className="code-editor is-loading" />}>
          <TraceqlEditor
            value={draft}
            onChange={setDraft}
            onRun={() => run()}
            label="TraceQL, or a trace's id"
            range={() => ({ from, to })}
            problem={problem}
          />
        </Suspense>
        {(draft !== '' || asked) && (
          <IconButton
            icon={X}
            label="Empty the search"
            onClick={() => {
              setDraft('');
              void navigate({ search: (old) => ({ from: old.from, to: old.to, order: old.order }) });
            }}
          />
        )}
        <Button look="primary" icon={Search} onClick={() => run()}>
          Search
        </Button>
        <IconButton icon={BookOpen} label="TraceQL" onClick={() => setHelp(true)} />
      </div>
      {asked && (
        <p className="trace-runs muted small">
          asks <code>{visible(query.slice(0, 600))}</code>
          <Button
            look="ghost"
            icon={Code}
            onClick={() =>
              void navigate({
                search: (old) => ({ from: old.from, to: old.to, order: old.order, q: query }),
              })
            }
          >
            Edit as TraceQL
          </Button>
          <CopyButton text={query} label="Copy the query" />
        </p>
      )}
      {error && <ErrorBox error={error} query={query} onRetry={() => void found.refetch()} />}
      {numbers ? (
        <Suspense fallback={<Skeleton height={360} rows={8} />}>
          <Numbers question={question} step={step} zone={zone} onZoom={state.zoom} />
        </Suspense>
      ) : (
        <>
          {counted.isPending && !error && <Skeleton height={HEAT + 38} rows={5} />}
          {heat && heat.rows.length > 0 && (
            <section className="trace-heat" aria-label="Durations over time">
              <div className="trace-heat-head">
                <span>
                  <b className="tab-num">{formatCount(matching ?? 0)}</b> {narrowed ? 'matching spans' : 'spans'} by
                  duration
                </span>
                <span className="spring" />
                {box ? (
                  <Chosen
                    comparing={search.compare === true}
                    onZoom={zoomIn}
                    onCompare={() => change({ compare: true })}
                    onClear={() => change({ box: undefined, compare: undefined }, true)}
                  >
                    <b>about {formatCount(inBox)} spans</b> of {formatValue(box.lowerNs, 'ns')} to{' '}
                    {formatValue(box.upperNs, 'ns')}
                  </Chosen>
                ) : (
                  <span className="muted small">
                    a drag chooses a part: to zoom in, or to see what tells it from the rest
                  </span>
                )}
              </div>
              <Suspense fallback={<Skeleton height={HEAT} rows={4} />}>
                <Heatmap
                  heat={heat}
                  range={{ from, to }}
                  zone={zone}
                  height={HEAT}
                  unit="s"
                  dimmed={counted.isPlaceholderData}
                  label={`${formatCount(matching ?? 0)} spans by duration`}
                  box={box && { from: box.from, to: box.to, lower: box.lowerNs / 1e9, upper: box.upperNs / 1e9 }}
                  onBox={(next: HeatBox) =>
                    change({
                      box: boxText({
                        from: next.from,
                        to: next.to,
                        lowerNs: next.lower * 1e9,
                        upperNs: next.upper * 1e9,
                      }),
                    })
                  }
                />
              </Suspense>
            </section>
          )}
          {box && search.compare && (
            <Suspense fallback={<Skeleton rows={6} />}>
              <Compare
                query={query}
                box={box}
                zone={zone}
                onNarrow={narrowTo}
                onClose={() => change({ compare: undefined }, true)}
              />
            </Suspense>
          )}
          <div className="log-bar">
            <Segmented
              label="Order"
              value={order}
              choices={[
                { id: 'newest', label: 'Newest' },
                { id: 'slowest', label: 'Slowest' },
              ]}
              onChange={(id) => change({ order: id === 'slowest' ? 'slowest' : undefined })}
            />
            <span className="muted tab-num" data-testid="trace-count">
              {found.data && (
                <>
                  {formatCount(rows.length)} {rows.length === 1 ? 'trace' : 'traces'}
                  {hasNextPage ? ', more on the way down' : ''} ·{' '}
                  {formatValue((found.data.pages[0]?.elapsedMs ?? 0) / 1000, 's')}
                </>
              )}
            </span>
            {first && (
              <span className="trace-first" role="status">
                <span>
                  comparing <bdi>{visible(first.rootName.slice(0, 80)) || '(no name)'}</bdi> of{' '}
                  {formatMoment(Number(BigInt(first.startTimeUnixNano) / 1_000_000n), zone).slice(dated ? 5 : 11)}:
                  choose the other one, or
                </span>
                <Link to="/trace/$id" params={{ id: first.traceId }} search={{ view: 'compare' }}>
                  one that begins alike
                </Link>
                <IconButton icon={X} label="Compare nothing (Esc)" onClick={() => setFirst(null)} />
              </span>
            )}
            <span className="spring" />
            {found.isFetching && !isFetchingNextPage && (
              <SlowNote since={began.current} onCancel={() => void client.cancelQueries({ queryKey: ['timed'] })} />
            )}
          </div>
          {rows.length > 0 ? (
            <div className={`trace-list ${found.isPlaceholderData ? 'is-dimmed' : ''}`}>
              <DataTable
                rows={rows}
                columns={columns}
                rowKey={(row) => row.id}
                label="Traces"
                onRow={(row) =>
                  openTrace(row, (id, span) => void navigate({ to: '/trace/$id', params: { id }, search: { span } }))
                }
                onNearEnd={nearEnd}
              />
              {(isFetchingNextPage || (rows.length >= MOST_TRACES && hasNextPage)) && (
                <div className="log-foot">
                  {isFetchingNextPage
                    ? 'Loading more…'
                    : `${formatCount(rows.length)} traces are loaded: narrow the search or its time to see others`}
                </div>
              )}
            </div>
          ) : found.isPending && !found.error ? (
            <Skeleton height={300} rows={10} />
          ) : (
            !found.error && (
              <Empty
                icon={ChartNoAxesGantt}
                title={narrowed ? 'No trace matches in this time' : 'No traces in this time'}
                actions={
                  narrowed ? (
                    <Button onClick={() => void navigate({ search: (old) => ({ from: old.from, to: old.to }) })}>
                      Search for everything
                    </Button>
                  ) : (
                    <Button onClick={() => state.setRange({ from: 'now-7d', to: 'now' })}>
                      Look at the last 7 days
                    </Button>
                  )
                }
              >
                {narrowed
                  ? 'All conditions have to be met by one span; two sets of spans in one trace are joined by && between braces.'
                  : 'Home shows how to send some: OpenTelemetry’s and Zipkin’s protocols.'}
              </Empty>
            )
          )}
        </>
      )}
      <Suspense>{help && <TraceqlHelp onClose={() => setHelp(false)} />}</Suspense>
    </div>
  );
}

function compareColumn(first: string | undefined, pick: (row: FoundTrace) => void): ColumnDef<FoundTrace> {
  return {
    id: 'compare',
    title: 'compare',
    width: '74px',
    cell: (row) => (
      <IconButton
        icon={GitCompare}
        label={
          first === undefined
            ? 'Compare with another trace'
            : first === row.traceId
              ? 'Not this one'
              : 'Compare the two traces'
        }
        active={first === row.traceId}
        onClick={(event) => {
          event.stopPropagation();
          pick(row);
        }}
      />
    ),
  };
}

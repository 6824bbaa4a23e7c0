// One trace: its spans as a tree over time, what is looked for in them, one span in a drawer. The address holds the span,
// the search, the levels and what is folded, and the stretch of time.

import { useQuery } from '@tanstack/react-query';
import { Link, useNavigate, useParams, useSearch } from '@tanstack/react-router';
import {
  ArrowDown,
  ArrowUp,
  CircleSlash,
  FoldHorizontal,
  ListCollapse,
  ListTree,
  Route,
  ScrollText,
  Search,
  TriangleAlert,
  Waypoints,
  X,
  ZoomOut,
} from 'lucide-react';
import { lazy, Suspense, useCallback, useDeferredValue, useEffect, useMemo, useState } from 'react';
import { type Answer, ApiError } from '../api/client';
import { getTrace, type Trace } from '../api/traces';
import { PageHead } from '../components/Shell';
import { Empty, ErrorBox, Skeleton } from '../components/states';
import { Minimap } from '../components/traces/Minimap';
import { SpanDrawer, timeOf, useTraceLogs } from '../components/traces/SpanDrawer';
import { Waterfall } from '../components/traces/Waterfall';
import { Button, CopyButton, IconButton, Input, Segmented, Select } from '../components/ui';
import { visible } from '../lib/logrow';
import { filterText } from '../lib/logsearch';
import { formatMoment, zoneName } from '../lib/time';
import {
  ancestors,
  around,
  axisOf,
  beside,
  callsWithin,
  finder,
  gapsOf,
  keptFor,
  mayGrow,
  parseWindow,
  positions,
  rowsOf,
  serviceName,
  type TraceView,
  viewOf,
  windowText,
} from '../lib/trace';
import { traceIdOf } from '../lib/traceid';
import { formatCount, formatValue } from '../lib/units';
import { TRACE_VIEWS, type TraceSearch } from '../routes';
import { useClock, useRange } from '../state/clock';
import { usePageKeys } from '../state/keys';
import { currentTenant } from '../state/prefs';
import '../style/logs.css';
import '../style/traces.css';

const CompareTraces = lazy(async () => ({
  default: (await import('../components/traces/CompareTraces')).CompareTraces,
}));
const Flame = lazy(async () => ({ default: (await import('../components/traces/Flame')).Flame }));
const ServiceMap = lazy(async () => ({ default: (await import('../components/traces/ServiceMap')).ServiceMap }));

/** How often a trace that may grow is looked at again, and the largest, in bytes, for which that is worth it. */
const AGAIN_MS = 2000;
const MOST_AGAIN = 2 << 20;

const isAskedAgain = ({ data, bytes }: Answer<Trace>, at: number): boolean => bytes < MOST_AGAIN && mayGrow(data, at);

export default function TracePage() {
  const { id } = useParams({ from: '/trace/$id' });
  const now = useClock((s) => s.now);
  const known = traceIdOf(id);
  const found = useQuery({
    queryKey: ['trace', currentTenant(), id, now],
    enabled: known !== null,
    queryFn: ({ signal }) => getTrace(known!.id, signal),
    refetchInterval: ({ state: { data } }) => (data && isAskedAgain(data, Date.now()) ? AGAIN_MS : false),
    placeholderData: (old, before) => (before?.queryKey[2] === id ? old : undefined),
  });
  const view = useMemo(() => (found.data ? viewOf(found.data.data) : null), [found.data]);
  const back = <Link to="/traces">Traces</Link>;
  if (view && found.data)
    return (
      <Loaded
        key={view.trace.traceId}
        view={view}
        bytes={found.data.bytes}
        dimmed={found.isPlaceholderData}
        grows={isAskedAgain(found.data, found.dataUpdatedAt)}
        back={back}
      />
    );
  const absent = found.error instanceof ApiError && found.error.type === 'not_found';
  return (
    <div className="page">
      <PageHead title="Trace" parent={back} />
      {known === null ? (
        <Empty icon={CircleSlash} title="This is no trace id" actions={<Link to="/traces">Search traces</Link>}>
          A trace id has up to 32 hexadecimal digits, leading zeros or not.
        </Empty>
      ) : absent ? (
        <Empty
          icon={CircleSlash}
          title={`There is no trace ${known.id}`}
          actions={
            <>
              <Button onClick={() => void found.refetch()}>Look again</Button>
              <Link className="btn btn-plain" to="/traces">
                Search traces
              </Link>
              <Link
                className="btn btn-plain"
                to="/logs"
                search={{ q: filterText('trace_id', known.id.padStart(32, '0')) }}
              >
                Logs that name it
              </Link>
            </>
          }
        >
          None of its spans has arrived{currentTenant() ? ` for tenant ${currentTenant()}` : ''}: its sender may have
          sampled it away, or it is past its retention.
        </Empty>
      ) : found.error ? (
        <ErrorBox error={found.error} onRetry={() => void found.refetch()} />
      ) : (
        <Skeleton height={400} rows={12} />
      )}
    </div>
  );
}

/** Levels that are open where the address says nothing: of a large trace those that give an overview. */
const levelsOf = (view: TraceView): number => (view.size.length > 20_000 ? 4 : view.depth);

/** The name of a span in the address: its id, and which one where several have it. */
const keyOf = (view: TraceView, at: number): string => {
  const { spanId } = view.trace.spans[at]!;
  return view.byId.get(spanId) === at ? spanId : `${spanId}.${at}`;
};

function placeOf(view: TraceView, key: string | undefined): number | undefined {
  if (key === undefined) return undefined;
  const [id, at] = key.split('.');
  if (at !== undefined && view.trace.spans[Number(at)]?.spanId === id) return Number(at);
  return view.byId.get((id ?? '').padStart(16, '0'));
}

function Loaded({
  view,
  bytes,
  dimmed,
  grows,
  back,
}: {
  view: TraceView;
  bytes: number;
  dimmed: boolean;
  /** More spans may come, and are looked for. */
  grows: boolean;
  back: React.ReactNode;
}) {
  const search = useSearch({ from: '/trace/$id' });
  const navigate = useNavigate({ from: '/trace/$id' });
  const { zone } = useRange();
  const { trace } = view;
  const hasSpans = search.view !== 'graph' && search.view !== 'compare';
  const change = useCallback(
    (part: Partial<TraceSearch>) =>
      void navigate({ search: (old) => ({ ...old, ...part }), replace: true, resetScroll: false }),
    [navigate],
  );
  const chosen = placeOf(view, search.span);
  // By its name: spans that arrive move the others.
  const [cursorAt, setCursorAt] = useState(search.span);
  const cursor = placeOf(view, cursorAt) ?? 0;
  const logs = useTraceLogs(trace.traceId);
  const logCounts = useMemo(() => {
    const out = new Map<string, number>();
    for (const row of logs.data?.data.rows ?? []) if (row.spanId) out.set(row.spanId, (out.get(row.spanId) ?? 0) + 1);
    return out;
  }, [logs.data]);

  // What is looked for. The text in the box runs ahead of the address.
  const [find, setFind] = useState(search.find ?? '');
  const asked = search.find ?? '';
  useEffect(() => setFind(asked), [asked]);
  const look = useMemo(() => finder(trace), [trace]);
  const words = useDeferredValue(find);
  const wanted = useMemo(() => {
    const found = look(words);
    if (!search.critical) return found;
    const marks = new Uint8Array(view.size.length);
    for (const at of view.critical.keys()) marks[at] = found ? found[at]! : 1;
    return marks;
  }, [look, words, search.critical, view]);
  const hits = useMemo(() => (wanted ? positions(wanted) : []), [wanted]);
  const kept = useMemo(() => (wanted && !search.all ? keptFor(view, wanted) : null), [wanted, search.all, view]);

  // Which spans are open: so many levels, but those that were turned.
  const levels = kept ? view.depth : (search.levels ?? levelsOf(view));
  const turned = useMemo(() => new Set(search.fold ?? []), [search.fold]);
  const isOpen = useCallback(
    (at: number) => trace.spans[at]!.depth + 1 < levels !== turned.has(keyOf(view, at)),
    [trace, levels, turned, view],
  );
  const rows = useMemo(() => rowsOf(view, isOpen, kept), [view, isOpen, kept]);
  /** The address's list of turned spans, after some more have been. */
  const foldAfter = useCallback(
    (spans: number[]) => {
      const next = new Set(turned);
      for (const at of spans) if (!next.delete(keyOf(view, at))) next.add(keyOf(view, at));
      return next.size > 0 ? [...next].slice(-200) : undefined;
    },
    [turned, view],
  );
  const toggle = useCallback(
    (at: number, open?: boolean) => {
      setCursorAt(keyOf(view, at));
      if (open === undefined || open !== isOpen(at)) change({ fold: foldAfter([at]) });
    },
    [view, isOpen, foldAfter, change],
  );
  /** Goes to a span, wherever it is hidden, and into it where a drawer is open. */
  const go = useCallback(
    (at: number | undefined, open = chosen !== undefined || search.view === 'flame') => {
      if (at === undefined) return;
      setCursorAt(keyOf(view, at));
      const closed = ancestors(view, at).filter((up) => !isOpen(up));
      const part: Partial<TraceSearch> = {
        ...(kept && !kept[at] ? { all: true } : {}),
        ...(closed.length > 0 ? { fold: foldAfter(closed) } : {}),
        ...(open ? { span: keyOf(view, at) } : {}),
        ...(hasSpans ? {} : { view: undefined }),
      };
      if (Object.keys(part).length > 0) change(part);
    },
    [chosen, search.view, hasSpans, kept, view, isOpen, foldAfter, change],
  );
  const choose = useCallback((at: number) => go(at, true), [go]);
  // A link to a span shows it, also where its level is folded.
  // biome-ignore lint/correctness/useExhaustiveDependencies: once, and when the address names another span
  useEffect(() => {
    if (chosen !== undefined) go(chosen, false);
  }, [chosen]);

  const gaps = useMemo(() => gapsOf(view), [view]);
  const folds = search.gaps ? NO_GAPS : gaps;
  const whole = useMemo(() => axisOf({ from: 0, to: view.totalNs }, folds), [view, folds]);
  const window = useMemo(() => parseWindow(search.time, view.totalNs), [search.time, view]);
  const axis = useMemo(() => axisOf(window, folds), [window, folds]);
  const zoomed = search.time !== undefined;
  const setWindow = useCallback(
    (next: { from: number; to: number } | null) =>
      change({
        time:
          next && (next.from > 0 || next.to < view.totalNs)
            ? windowText({ from: Math.max(0, next.from), to: Math.min(view.totalNs, Math.max(next.to, next.from + 1)) })
            : undefined,
      }),
    [change, view],
  );

  const setLevels = (next: number) =>
    change({ levels: next >= view.depth ? undefined : Math.max(1, next), fold: undefined });
  const findNow = (text: string) => {
    setFind(text);
    change({
      find: text.trim() === '' ? undefined : text,
      fold: undefined,
      // The graph has no spans to be found, nor has a comparison.
      view: hasSpans ? search.view : undefined,
    });
  };
  const nextHit = (step: 1 | -1) => go(beside(hits, cursor, step));
  const nextError = (step: 1 | -1) => go(beside(view.errors, cursor, step));
  const shownHits = hits.length > 0 ? hits.indexOf(cursor) + 1 : 0;

  /** By a key: the tree takes the next ones. */
  const toTree = () => document.getElementById('spans')?.focus({ preventScroll: true });
  const byKey = (act: (step: 1 | -1) => void, step: 1 | -1) => () => {
    act(step);
    toTree();
  };
  usePageKeys([
    { keys: 's', label: 'Find in the trace', run: () => document.getElementById('trace-find')?.focus() },
    { keys: 'n', label: 'Next that is found', run: byKey(nextHit, 1) },
    { keys: 'N', label: 'The one before', run: byKey(nextHit, -1) },
    { keys: 'e', label: 'Next error', run: byKey(nextError, 1) },
    { keys: 'E', label: 'Error before', run: byKey(nextError, -1) },
    { keys: 'c', label: 'Critical path only', run: () => change({ critical: !search.critical || undefined }) },
    { keys: '[', label: 'A level less', run: () => setLevels(Math.min(levels, view.depth) - 1) },
    { keys: ']', label: 'A level more', run: () => setLevels(levels + 1) },
    {
      keys: 'z',
      label: 'Zoom to the span',
      run: () => setWindow({ from: view.begin[cursor]!, to: view.end[cursor]! }),
    },
    { keys: '0', label: 'The whole time', run: () => setWindow(null) },
    { keys: 'esc', label: 'Close the span', run: () => change({ span: undefined }) },
  ]);

  const isTree = search.view === undefined;
  const root = trace.spans[0];
  const startMs = Number(view.startNs / 1_000_000n);
  const title = `${visible(trace.rootName.slice(0, 120)) || 'Trace'}`;
  return (
    <div className={`page trace ${chosen !== undefined ? 'has-drawer' : ''} ${dimmed ? 'is-dimmed' : ''}`}>
      <PageHead title={title} parent={back}>
        <Link
          className="btn btn-plain"
          to="/logs"
          search={{ q: filterText('trace_id', trace.traceId), ...timeOf(around(view.startNs, view.totalNs)) }}
        >
          <ScrollText size={14} aria-hidden /> Logs{logs.data ? ` (${formatCount(logs.data.data.rows.length)})` : ''}
        </Link>
        <CopyButton text={trace.traceId} label="Copy the trace's id" />
      </PageHead>
      <div className="strip trace-head">
        <dl>
          <div>
            <dt>root</dt>
            <dd className="trace-root">
              <bdi className="clip">{visible(serviceName(trace.rootService).slice(0, 120))}</bdi>
              {root?.orphan && (
                <span
                  className="warn small"
                  title="No span of the trace is without a parent: its first part is missing"
                >
                  ▲ the root is missing
                </span>
              )}
            </dd>
          </div>
          <div>
            <dt>begins, {zoneName(zone, startMs)}</dt>
            <dd className="tab-num">{formatMoment(startMs, zone, true)}</dd>
          </div>
          <div>
            <dt>duration</dt>
            <dd className="tab-num">{formatValue(view.totalNs, 'ns')}</dd>
          </div>
          <div>
            <dt>spans</dt>
            <dd className="tab-num">
              {formatCount(view.size.length)}
              {grows && (
                <span className="muted small" title="One ended a moment ago: the page looks again by itself">
                  {' '}
                  and what may still come
                </span>
              )}
            </dd>
          </div>
          <div>
            <dt>levels</dt>
            <dd className="tab-num">{formatCount(view.depth)}</dd>
          </div>
          <div>
            <dt>errors</dt>
            <dd className="tab-num">
              {view.errors.length === 0 ? (
                '0'
              ) : (
                <button type="button" className="number-door critical" onClick={() => nextError(1)}>
                  {formatCount(view.errors.length)}
                </button>
              )}
            </dd>
          </div>
        </dl>
        <ul className="trace-services" aria-label="Services">
          {view.services.slice(0, 24).map((service) => (
            <li key={service.name}>
              <button
                type="button"
                title={`Find spans of ${serviceName(service.name)}`}
                onClick={() => findNow(service.name)}
              >
                <span className="wf-key" style={{ background: `var(--series-${service.colour + 1})` }} />
                <bdi className="clip">{visible(serviceName(service.name).slice(0, 80))}</bdi>
                <span className="muted tab-num">{formatCount(service.spans)}</span>
                {service.errors > 0 && (
                  <span className="critical tab-num">
                    <span className="wf-mark" aria-hidden>
                      ■
                    </span>{' '}
                    {formatCount(service.errors)}
                  </span>
                )}
              </button>
            </li>
          ))}
          {view.services.length > 24 && <li className="muted small">and {view.services.length - 24} more</li>}
        </ul>
      </div>
      {hasSpans && <Minimap view={view} axis={whole} window={window} onWindow={setWindow} />}
      <div className="trace-bar">
        <Segmented
          label="View of the trace"
          value={search.view ?? 'tree'}
          choices={[
            { id: 'tree', label: 'Tree' },
            { id: 'flame', label: 'Flame' },
            { id: 'graph', label: 'Graph' },
            { id: 'compare', label: 'Compare' },
          ]}
          onChange={(id) => change({ view: TRACE_VIEWS.find((one) => one === id) })}
        />
        {hasSpans && (
          <>
            <div className="search-box">
              <Search size={14} aria-hidden />
              <Input
                id="trace-find"
                aria-label="Find spans"
                placeholder="Find: names, services, key=value, events"
                value={find}
                spellCheck={false}
                onChange={(event) => setFind(event.target.value)}
                onBlur={() => find !== asked && findNow(find)}
                onKeyDown={(event) => {
                  if (event.key === 'Enter') {
                    if (find !== asked) findNow(find);
                    nextHit(event.shiftKey ? -1 : 1);
                  } else if (event.key === 'Escape') {
                    findNow('');
                    event.currentTarget.blur();
                  }
                }}
              />
            </div>
            {wanted && (
              <>
                <span className="tab-num muted" role="status" data-testid="trace-hits">
                  {hits.length === 0
                    ? 'nothing found'
                    : shownHits > 0
                      ? `${formatCount(shownHits)} of ${formatCount(hits.length)}`
                      : `${formatCount(hits.length)} found`}
                </span>
                <IconButton
                  icon={ArrowUp}
                  label="The one before (N)"
                  disabled={hits.length === 0}
                  onClick={() => nextHit(-1)}
                />
                <IconButton icon={ArrowDown} label="Next (n)" disabled={hits.length === 0} onClick={() => nextHit(1)} />
                {isTree && (
                  <label className="check">
                    <input
                      type="checkbox"
                      checked={!search.all}
                      onChange={(event) => change({ all: !event.target.checked || undefined, fold: undefined })}
                    />
                    hide others
                  </label>
                )}
                {find !== '' && <IconButton icon={X} label="Empty the search" onClick={() => findNow('')} />}
              </>
            )}
            <span className="spring" />
            <Button
              icon={TriangleAlert}
              disabled={view.errors.length === 0}
              onClick={() => nextError(1)}
              title="Next error (e), the one before (E)"
            >
              Next error
            </Button>
            <Button
              icon={Route}
              aria-pressed={search.critical === true}
              className={search.critical ? 'is-on' : ''}
              title="Only what the end of the trace waited for (c)"
              onClick={() => change({ critical: !search.critical || undefined, fold: undefined })}
            >
              Critical path
            </Button>
            {isTree && (
              <span className="join" role="group" aria-label="Levels">
                <IconButton
                  icon={ListCollapse}
                  label="A level less ([)"
                  disabled={levels <= 1}
                  onClick={() => setLevels(Math.min(levels, view.depth) - 1)}
                />
                <Select
                  aria-label="Levels that are shown"
                  value={String(Math.min(levels, view.depth))}
                  onChange={(event) => setLevels(Number(event.target.value))}
                >
                  {levelChoices(view.depth, Math.min(levels, view.depth)).map((n) => (
                    <option key={n} value={n}>
                      {n === view.depth ? 'all levels' : n === 1 ? '1 level' : `${n} levels`}
                    </option>
                  ))}
                </Select>
                <IconButton
                  icon={ListTree}
                  label="A level more (])"
                  disabled={levels >= view.depth}
                  onClick={() => setLevels(levels + 1)}
                />
              </span>
            )}
            {gaps.length > 0 && (
              <IconButton
                icon={FoldHorizontal}
                label={
                  search.gaps
                    ? 'Fold times in which nothing runs'
                    : 'Show times in which nothing runs as long as they are'
                }
                active={!search.gaps}
                onClick={() => change({ gaps: !search.gaps || undefined })}
              />
            )}
            <IconButton icon={ZoomOut} label="The whole time (0)" disabled={!zoomed} onClick={() => setWindow(null)} />
          </>
        )}
      </div>
      {search.view === 'compare' ? (
        <Suspense fallback={<Skeleton height={300} rows={8} />}>
          <CompareTraces
            view={view}
            other={search.with}
            zone={zone}
            onOther={(id) => change({ with: id })}
            onFind={findNow}
          />
        </Suspense>
      ) : search.view === 'graph' ? (
        <Suspense fallback={<Skeleton height={300} rows={8} />}>
          <Graph view={view} />
        </Suspense>
      ) : !isTree ? (
        <Suspense fallback={<Skeleton height={300} rows={8} />}>
          <Flame view={view} axis={axis} wanted={wanted} chosen={chosen} onChoose={choose} />
        </Suspense>
      ) : rows.length === 0 ? (
        <Empty
          icon={Search}
          title="No span of the trace has all of this"
          actions={
            <Button
              onClick={() => {
                setFind('');
                change({ find: undefined, critical: undefined });
              }}
            >
              Show all spans
            </Button>
          }
        >
          Every word is looked for in names, services, attributes, events and messages.
        </Empty>
      ) : (
        <Waterfall
          view={view}
          rows={rows}
          axis={axis}
          isOpen={isOpen}
          onToggle={toggle}
          cursor={cursor}
          onCursor={go}
          onChoose={choose}
          chosen={chosen}
          wanted={wanted}
          logs={logCounts}
          onWindow={setWindow}
        />
      )}
      <div className="stats-line tab-num">
        <span>
          trace <code>{trace.traceId}</code>
        </span>
        {isTree && (
          <>
            <span>
              <span className="wf-critical-key" aria-hidden /> critical path
            </span>
            <span>
              <span className="wf-event-key" aria-hidden /> event
            </span>
          </>
        )}
        {zoomed && hasSpans && (
          <span>
            shown: <b>{formatValue(window.from, 'ns')}</b> to <b>{formatValue(window.to, 'ns')}</b>
          </span>
        )}
        <span>
          <b>{formatValue(bytes, 'bytes')}</b> answered
        </span>
      </div>
      {chosen !== undefined && (
        <SpanDrawer
          // Tabs and open texts belong to one span, the choice of a tab to all.
          view={view}
          at={chosen}
          zone={zone}
          logs={{ data: logs.data, error: logs.error, refetch: logs.refetch }}
          onChoose={choose}
          onFind={findNow}
          onClose={() => change({ span: undefined })}
        />
      )}
    </div>
  );
}

/** Who calls whom in this trace. */
function Graph({ view }: { view: TraceView }) {
  const calls = useMemo(() => callsWithin(view), [view]);
  return calls.length === 0 ? (
    <Empty icon={Waypoints} title="No service calls another in this trace">
      All of its spans with a parent are of the parent's service.
    </Empty>
  ) : (
    <ServiceMap dependencies={calls} alone={[]} />
  );
}

const NO_GAPS: { from: number; to: number }[] = [];

/** Levels that the list offers: the first ones, some deep ones, all, and the one that is chosen. */
function levelChoices(depth: number, chosen: number): number[] {
  const some = [1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 50, 100, chosen, depth];
  return [...new Set(some.filter((n) => n >= 1 && n <= depth))].sort((a, b) => a - b);
}

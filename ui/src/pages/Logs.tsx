// Search logs: the query, how many over time, the fields, and the records themselves, newest first; their patterns; or
// the live tail. All of it is in the address.

import { useInfiniteQuery, useQuery, useQueryClient } from '@tanstack/react-query';
import { useNavigate, useSearch } from '@tanstack/react-router';
import {
  ArrowUpToLine,
  BookOpen,
  Download,
  List,
  Palette,
  Pause,
  Pin,
  Play,
  Radio,
  ScrollText,
  Search,
  Shapes,
  WrapText,
  X,
} from 'lucide-react';
import { lazy, Suspense, useCallback, useEffect, useMemo, useRef, useState } from 'react';
import { type LogQuestion, type LogRow, logHistogram, logsAt, searchLogs } from '../api/logs';
import { Facets, type Narrow } from '../components/logs/Facets';
import { Histogram } from '../components/logs/Histogram';
import { LogList } from '../components/logs/LogList';
import { Pins, usePinned } from '../components/logs/Pins';
import { PageHead } from '../components/Shell';
import { Empty, ErrorBox, Skeleton, SlowNote } from '../components/states';
import { Button, CopyButton, IconButton, StatusTag, Tabs } from '../components/ui';
import { hasAnsi } from '../lib/ansi';
import { between, edgesOf } from '../lib/edges';
import { millisOf } from '../lib/logrow';
import { filterText, wantedWords, withFilter } from '../lib/logsearch';
import { middleOf, parsePart, partText } from '../lib/part';
import { byTime, MOST_PINS, pinOf, togglePin } from '../lib/pins';
import { niceStep, type Range } from '../lib/time';
import { formatCount, formatValue } from '../lib/units';
import type { LogsSearch } from '../routes';
import { type GlobalSearch, useClock, useRange } from '../state/clock';
import { usePageKeys } from '../state/keys';
import { currentTenant } from '../state/prefs';
import { useTail } from '../state/tail';
import '../style/logs.css';

const LogEditor = lazy(() => import('../components/LogEditor'));
const RecordDrawer = lazy(async () => ({ default: (await import('../components/logs/Record')).RecordDrawer }));
const Patterns = lazy(async () => ({ default: (await import('../components/logs/Patterns')).Patterns }));
const Compare = lazy(async () => ({ default: (await import('../components/logs/Compare')).Compare }));
const LanguageHelp = lazy(() => import('../components/logs/LanguageHelp'));
const Export = lazy(() => import('../components/logs/Export'));

const PAGE = 200;
/** Beyond this a narrower search finds faster than scrolling. */
const MOST_ROWS = 50_000;
const BARS = 100;
/** Rows that are looked at for colours. */
const LOOKED_AT = 1000;

const NOTHING: ReadonlyMap<string, LogRow> = new Map();
const NO_ROWS: LogRow[] = [];

export default function Logs() {
  const search = useSearch({ from: '/logs' });
  const navigate = useNavigate({ from: '/logs' });
  const state = useRange();
  const { zone } = state;
  const asked = search.q ?? '';
  const [draft, setDraft] = useState(asked);
  const [help, setHelp] = useState(false);
  const [saving, setSaving] = useState(false);
  const [paused, setPaused] = useState(false);
  const [isTop, setIsTop] = useState(true);
  const client = useQueryClient();
  const columns = useMemo(() => search.columns ?? [], [search.columns]);
  const live = search.live === true;
  const patterns = search.view === 'patterns' && !live;

  // The address changed by itself: back, forward, a link, a filter.
  useEffect(() => setDraft(asked), [asked]);

  const change = useCallback(
    (part: Partial<LogsSearch & GlobalSearch>, replace = false) =>
      void navigate({ search: (old) => ({ ...old, ...part }), replace, resetScroll: false }),
    [navigate],
  );
  const run = (query = draft) => {
    useClock.getState().tick();
    change({ q: query.trim() === '' ? undefined : query.trim(), row: undefined });
  };
  const narrow = useCallback<Narrow>(
    (field, value, negate) =>
      change({ q: withFilter(asked, filterText(field, value), negate), row: undefined, compare: undefined }),
    [asked, change],
  );
  const column = useCallback(
    (field: string) => {
      const next = columns.includes(field) ? columns.filter((c) => c !== field) : [...columns, field].slice(-6);
      change({ columns: next.length > 0 ? next : undefined }, true);
    },
    [columns, change],
  );

  // Whole steps at the old end, to the millisecond at the new one: bars are even and nothing new is missing.
  const step = niceStep(state.range, BARS);
  const from = Math.floor(state.range.from / step) * step;
  const to = Math.max(from + step, Math.ceil(state.range.to));
  const question = useMemo<LogQuestion>(() => ({ query: asked, from, to }), [asked, from, to]);
  const tenant = currentTenant();

  const histogram = useQuery({
    queryKey: ['timed', 'log-histogram', tenant, question, step],
    queryFn: ({ signal }) => logHistogram(question, step, signal),
  });
  const found = useInfiniteQuery({
    queryKey: ['timed', 'logs', tenant, question],
    initialPageParam: undefined as string | undefined,
    queryFn: ({ pageParam, signal }) => searchLogs(question, { limit: PAGE, cursor: pageParam }, signal),
    getNextPageParam: (last) => last.data.cursor ?? undefined,
    gcTime: 60_000,
  });
  const rows = useMemo(() => found.data?.pages.flatMap((page) => page.data.rows) ?? [], [found.data]);
  const groups = histogram.data?.data.groups;
  const total = groups ? groups.reduce((sum, group) => sum + group.total, 0) : null;
  const tail = useTail(asked, live && !found.error, paused || !isTop);
  const shown = live ? tail.rows : rows;

  const pins = useMemo(() => search.pins ?? [], [search.pins]);
  const pinSet = useMemo(() => new Set(pins), [pins]);
  const pinned = usePinned(pins, shown);
  const [isFull, setFull] = useState(false);
  const setPins = (next: string[]) => change({ pins: next.length > 0 ? next : undefined }, true);
  const pin = (row: LogRow) => {
    const next = togglePin(pins, pinOf(row));
    setFull(next === null);
    if (next) setPins(next);
  };

  // What is selected holds for one list of records.
  const listKey = `${tenant} ${asked} ${search.from} ${search.to} ${live}`;
  const [selection, setSelection] = useState({ key: listKey, rows: NOTHING });
  const selected = selection.key === listKey ? selection.rows : NOTHING;
  const selectedIds = useMemo(() => new Set(selected.keys()), [selected]);
  const anchor = useRef<string>(undefined);
  const select = (row: LogRow, through: boolean) => {
    if (row.id === undefined) return;
    const next = new Map(selected);
    const [a, b] = [anchor.current, row.id].map((id) => shown.findIndex((one) => one.id === id));
    if (through && a! >= 0) {
      for (const one of shown.slice(Math.min(a!, b!), Math.max(a!, b!) + 1)) if (one.id) next.set(one.id, one);
    } else if (!next.delete(row.id)) next.set(row.id, row);
    anchor.current = row.id;
    setSelection({ key: listKey, rows: next });
  };
  const pinSelected = () => {
    const fresh = [...selected.values()].map(pinOf).filter((one) => !pinSet.has(one));
    setFull(pins.length + fresh.length > MOST_PINS);
    setPins([...pins, ...fresh].slice(0, MOST_PINS));
    setSelection({ key: listKey, rows: NOTHING });
  };
  const coloured = useMemo(
    () => shown.slice(0, LOOKED_AT).some((row) => typeof row.body === 'string' && hasAnsi(row.body)),
    [shown],
  );

  // A part is of whole bars, so that what is counted is what is compared.
  const part = useMemo(() => {
    const asked = live ? null : parsePart(search.part, { from, to });
    const grid = { from, step, count: Math.ceil((to - from) / step) };
    if (!asked) return null;
    const bars = between(edgesOf(asked, grid), grid);
    return { from: bars.from, to: Math.min(to, bars.to) };
  }, [live, search.part, from, to, step]);
  const [byKey, setByKey] = useState(false);
  const choosePart = (next: Range | null | true, isMoved = false) => {
    setByKey(next === true);
    if (next) change({ part: partText(next === true ? middleOf({ from, to }) : next) }, isMoved);
    else change({ part: undefined, compare: undefined }, true);
  };
  /** To the time that was dragged over, or to the part: then it is no part any more. */
  const zoomIn = (next: Range) => {
    useClock.getState().tick();
    change({ from: String(next.from), to: String(next.to), part: undefined, compare: undefined });
  };
  // Many questions: they are asked anew when another time or part is chosen, not whenever the time moves on.
  const { from: first, to: last } = state.text;
  // biome-ignore lint/correctness/useExhaustiveDependencies: what somebody chooses
  const compared = useMemo(
    () => part && { question, part },
    [asked, search.part, search.compare, first, last, tenant, part === null],
  );

  const { hasNextPage, isFetchingNextPage, fetchNextPage } = found;
  const nearEnd = useCallback(() => {
    if (hasNextPage && !isFetchingNextPage && rows.length < MOST_ROWS) void fetchNextPage();
  }, [hasNextPage, isFetchingNextPage, fetchNextPage, rows.length]);

  const choose = (row: LogRow) => {
    anchor.current = row.id;
    if (row.id) change({ row: row.id }, true);
  };
  /** To the time of a record that the search may not find. */
  const goTo = (row: LogRow) => {
    const here = shown.find((one) => pinOf(one) === pinOf(row));
    if (here) return choose(here);
    void logsAt(row.timeUnixNano).then(({ data }) => {
      const id = data.rows.find((one) => pinOf(one) === pinOf(row))?.id;
      const ms = millisOf(row);
      change({
        q: undefined,
        live: undefined,
        from: String(ms - 60_000),
        to: String(ms + 60_000),
        row: id,
        part: undefined,
      });
    });
  };
  const setLive = (on: boolean) => {
    setPaused(false);
    setIsTop(true);
    if (!on) useClock.getState().tick();
    change({ live: on || undefined, view: undefined, row: undefined, part: undefined, compare: undefined });
  };
  const began = useRef(performance.now());
  useEffect(() => {
    if (found.isFetching) began.current = performance.now();
  }, [found.isFetching]);

  const beside = (by: number) => {
    const at = shown.findIndex((row) => row.id === search.row);
    const next = shown[at < 0 ? 0 : Math.min(Math.max(at + by, 0), shown.length - 1)];
    if (next) choose(next);
  };
  usePageKeys([
    {
      keys: 's',
      label: 'Search logs',
      run: () => document.querySelector<HTMLElement>('.code-editor [contenteditable]')?.focus(),
    },
    { keys: 'j', label: 'Next record', run: () => beside(1) },
    { keys: 'k', label: 'Record before', run: () => beside(-1) },
    {
      keys: 'c',
      label: 'Choose a part of the bars; compare it with the rest',
      run: () => live || (part ? change({ compare: !search.compare || undefined }, true) : choosePart(true)),
    },
    {
      keys: 'esc',
      label: 'Close the record; nothing chosen',
      run: () =>
        search.row
          ? change({ row: undefined }, true)
          : selected.size > 0
            ? setSelection({ key: listKey, rows: NOTHING })
            : search.part && choosePart(null),
    },
    {
      keys: 'b',
      label: 'Pin the open record, or what is selected; take the pin away',
      run: () => (selected.size > 0 ? pinSelected() : known && pin(known)),
    },
    { keys: 'x', label: 'Select the open record', run: () => known && select(known, false) },
    { keys: 'e', label: 'Save records as a file', run: () => setSaving(true) },
    { keys: 'w', label: 'Wrap lines', run: () => change({ wrap: !search.wrap || undefined }, true) },
    { keys: 'l', label: 'Live tail', run: () => setLive(!live) },
    { keys: 'p', label: 'Pause the live tail', run: () => live && setPaused(!paused) },
  ]);

  const words = useMemo(() => wantedWords(asked), [asked]);
  const chosen = search.row;
  const known = chosen === undefined ? undefined : shown.find((row) => row.id === chosen);
  const dated = to - from > 86_400_000;
  const narrowed = asked !== '' && asked !== '*';
  return (
    <div className={`page logs ${chosen ? 'has-drawer' : ''}`}>
      <PageHead title="Logs" time />
      <div className="log-query">
        <Suspense fallback={<div className="code-editor is-loading" />}>
          <LogEditor
            value={draft}
            onChange={setDraft}
            onRun={() => run()}
            label="Search of logs"
            range={() => ({ from, to })}
          />
        </Suspense>
        {draft !== '' && <IconButton icon={X} label="Empty the search" onClick={() => run('')} />}
        <Button look="primary" icon={Search} onClick={() => run()}>
          Search
        </Button>
        <Button icon={Radio} aria-pressed={live} className={live ? 'is-live' : ''} onClick={() => setLive(!live)}>
          Live
        </Button>
        <IconButton icon={BookOpen} label="The search language" onClick={() => setHelp(true)} />
      </div>
      {found.error && <ErrorBox error={found.error} query={asked} onRetry={() => void found.refetch()} />}
      {!live &&
        (groups ? (
          total === 0 ? null : (
            <Histogram
              groups={groups}
              range={{ from, to }}
              step={step}
              zone={zone}
              dimmed={histogram.isPlaceholderData}
              onZoom={zoomIn}
              onLevel={(level) => narrow('level', level === 'none' ? null : level)}
              part={part}
              onPart={choosePart}
              focusPart={byKey}
              comparing={search.compare === true}
              onCompare={() => change({ compare: true })}
            />
          )
        ) : histogram.error ? (
          !found.error && <ErrorBox error={histogram.error} onRetry={() => void histogram.refetch()} />
        ) : (
          <Skeleton height={118} rows={3} />
        ))}
      {compared && search.compare && (
        <Suspense fallback={<Skeleton rows={6} />}>
          <Compare
            question={compared.question}
            part={compared.part}
            zone={zone}
            onNarrow={narrow}
            onClose={() => change({ compare: undefined }, true)}
          />
        </Suspense>
      )}
      <div className="log-bar">
        {live ? (
          <LiveState tail={tail} paused={paused} isTop={isTop} onPause={setPaused} />
        ) : (
          <>
            <Tabs
              label="View"
              value={patterns ? 'patterns' : 'list'}
              choices={[
                { id: 'list', label: 'Records', icon: List },
                { id: 'patterns', label: 'Patterns', icon: Shapes },
              ]}
              onChange={(id) => change({ view: id === 'patterns' ? 'patterns' : undefined })}
            />
            <span className="muted tab-num" data-testid="log-total">
              {total === null ? '' : `${formatCount(total)} records`}
              {found.data && ` · ${formatValue((found.data.pages[0]?.elapsedMs ?? 0) / 1000, 's')}`}
            </span>
          </>
        )}
        <span className="spring" />
        {selected.size > 0 && (
          <span className="log-selected" role="status" data-testid="log-selected">
            <b className="tab-num">{formatCount(selected.size)} selected</b>
            <Button look="ghost" icon={Pin} onClick={pinSelected}>
              Pin
            </Button>
            <Button look="ghost" icon={Download} onClick={() => setSaving(true)}>
              Save
            </Button>
            <IconButton
              icon={X}
              label="Select nothing (Esc)"
              onClick={() => setSelection({ key: listKey, rows: NOTHING })}
            />
          </span>
        )}
        {found.isFetching && !isFetchingNextPage && (
          <SlowNote since={began.current} onCancel={() => void client.cancelQueries({ queryKey: ['timed'] })} />
        )}
        {!patterns && (
          <>
            <IconButton
              icon={WrapText}
              label={search.wrap ? 'A record a line' : 'Wrap long lines'}
              active={search.wrap === true}
              onClick={() => change({ wrap: !search.wrap || undefined }, true)}
            />
            {(coloured || search.raw) && (
              <IconButton
                icon={Palette}
                label={search.raw ? 'Show colours' : 'Show the codes of colours as they are'}
                active={!search.raw}
                onClick={() => change({ raw: !search.raw || undefined }, true)}
              />
            )}
            <IconButton icon={Download} label="Save records as a file (e)" onClick={() => setSaving(true)} />
            <CopyButton
              text={shown
                .slice(0, 5000)
                .map(
                  (row) =>
                    `${row.time} ${row.level ?? ''} ${typeof row.body === 'string' ? row.body : JSON.stringify(row.body ?? '')}`,
                )
                .join('\n')}
              label={`Copy the ${formatCount(Math.min(shown.length, 5000))} records that are loaded`}
            />
          </>
        )}
      </div>
      {pins.length > 0 && !patterns && (
        <Pins
          pinned={pinned}
          columns={columns}
          words={words}
          wrap={search.wrap === true}
          raw={search.raw === true}
          zone={zone}
          dated={dated}
          isFull={isFull}
          onOpen={goTo}
          onPin={pin}
          onUnpin={(some) => {
            setFull(false);
            setPins(some ? pins.filter((one) => !some.includes(one)) : []);
          }}
        />
      )}
      <div className="log-main">
        <Facets question={question} columns={columns} onNarrow={narrow} onColumn={column} />
        {patterns ? (
          <Suspense fallback={<Skeleton height={300} rows={10} />}>
            <Patterns
              question={question}
              step={step}
              zone={zone}
              total={total}
              onFilter={(filter, negate) => change({ q: withFilter(asked, filter, negate), view: undefined })}
            />
          </Suspense>
        ) : shown.length > 0 ? (
          <LogList
            // A tail and a search are two lists: each has its own place.
            key={live ? 'live' : 'found'}
            rows={shown}
            columns={columns}
            words={words}
            wrap={search.wrap === true}
            raw={search.raw === true}
            zone={zone}
            dated={dated}
            chosen={chosen}
            onChoose={choose}
            selected={selectedIds}
            onSelect={select}
            pins={pinSet}
            onPin={pin}
            onNearEnd={live ? undefined : nearEnd}
            onTop={live ? setIsTop : undefined}
            dimmed={!live && found.isPlaceholderData}
            foot={
              live
                ? null
                : isFetchingNextPage
                  ? 'Loading more…'
                  : rows.length >= MOST_ROWS && hasNextPage
                    ? `${formatCount(rows.length)} records are loaded: narrow the search or its time to see others`
                    : null
            }
          />
        ) : live ? (
          !found.error && (
            <Empty icon={Radio} title="Waiting for lines">
              What the search finds appears here as it is written.
            </Empty>
          )
        ) : found.isPending && !found.error ? (
          <Skeleton height={300} rows={12} />
        ) : (
          found.data && (
            <Empty
              icon={ScrollText}
              title={narrowed ? 'The search finds nothing in this time' : 'No logs in this time'}
              actions={
                narrowed ? (
                  <Button onClick={() => run('')}>Search for everything</Button>
                ) : (
                  <Button onClick={() => state.setRange({ from: 'now-7d', to: 'now' })}>Look at the last 7 days</Button>
                )
              }
            >
              {narrowed
                ? 'Fields are met by whole values, words by whole words; conn* finds what begins so.'
                : 'Home shows how to send some: OpenTelemetry, Loki’s and Elasticsearch’s protocols, or lines of JSON.'}
            </Empty>
          )
        )}
      </div>
      <Suspense>
        {chosen && (
          <RecordDrawer
            id={chosen}
            known={known}
            question={question}
            zone={zone}
            columns={columns}
            raw={search.raw === true}
            isPinned={(row) => pinSet.has(pinOf(row))}
            onPin={pin}
            onNarrow={narrow}
            onColumn={column}
            onClose={() => change({ row: undefined }, true)}
          />
        )}
        {help && <LanguageHelp onClose={() => setHelp(false)} />}
        {saving && (
          <Export
            question={live ? null : question}
            total={live ? null : total}
            here={live ? tail.rows : NO_ROWS}
            selected={[...selected.values()].sort(byTime)}
            pinned={pinned.rows}
            columns={columns}
            onClose={() => setSaving(false)}
          />
        )}
      </Suspense>
    </div>
  );
}

function LiveState({
  tail,
  paused,
  isTop,
  onPause,
}: {
  tail: ReturnType<typeof useTail>;
  paused: boolean;
  isTop: boolean;
  onPause: (paused: boolean) => void;
}) {
  const held = paused || !isTop;
  return (
    <>
      <span role="status" className="live-state" data-testid="live-state">
        <StatusTag tone={tail.state === 'open' ? (held ? 'warn' : 'ok') : tail.state === 'lost' ? 'critical' : 'none'}>
          {tail.state === 'open'
            ? held
              ? 'Paused'
              : 'Live'
            : tail.state === 'lost'
              ? 'Connection lost'
              : 'Connecting'}
        </StatusTag>
        {tail.state === 'lost' && <span className="muted">{tail.reason || 'trying again'}</span>}
        <span className="muted tab-num">{formatCount(tail.rows.length)} lines</span>
        {tail.dropped > 0 && (
          <span className="warn tab-num" title="They came faster than they can be shown. The search has them all.">
            ▲ {formatCount(tail.dropped)} left out
          </span>
        )}
      </span>
      <Button icon={paused ? Play : Pause} onClick={() => onPause(!paused)}>
        {paused ? 'Go on' : 'Pause'}
      </Button>
      {held && tail.waiting > 0 && (
        <Button
          look="primary"
          icon={ArrowUpToLine}
          onClick={() => {
            onPause(false);
            document.querySelector('.log-scroll')?.scrollTo({ top: 0 });
          }}
        >
          {formatCount(tail.waiting)} new
        </Button>
      )}
    </>
  );
}

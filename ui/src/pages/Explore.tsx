// Ask in PromQL: several queries, as chart, figures, table, heatmap or plan. All of it is in the address.

import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useNavigate, useSearch } from '@tanstack/react-router';
import {
  ChartLine,
  Grid3x3,
  History,
  LayoutDashboard,
  ListTree,
  Play,
  Plus,
  ScanSearch,
  Sigma,
  Table2,
  Trash2,
  WandSparkles,
} from 'lucide-react';
import { lazy, Suspense, useEffect, useMemo, useRef, useState } from 'react';
import { formatQuery, type MatrixSeries, queryExemplars } from '../api/prometheus';
import { Chart, type ExemplarDot } from '../components/Chart';
import { Popover } from '../components/floating';
import { Legend } from '../components/Legend';
import { PartialTag, StatsLine } from '../components/QueryInfo';
import { PageHead } from '../components/Shell';
import { Empty, ErrorBox, RemarkList, Skeleton, SlowNote } from '../components/states';
import { Button, CopyButton, IconButton, Panel, Segmented, Select, Tabs } from '../components/ui';
import { frameOf, parseValue } from '../lib/frame';
import { type HeatBox, heatBoxText, middleOf, parseHeatBox, parsePart, partText, snapped } from '../lib/part';
import { formatDuration, niceStep, parseDuration, type Range } from '../lib/time';
import { formatCount } from '../lib/units';
import { type ExploreSearch, FIGURES } from '../routes';
import { type GlobalSearch, useClock, useRange } from '../state/clock';
import { useDrawn } from '../state/drawn';
import { usePageKeys } from '../state/keys';
import { usePrefs } from '../state/prefs';
import { aligned, useRangeQueries } from '../state/queries';

const ExploreStart = lazy(() => import('../components/ExploreStart'));
const PromqlEditor = lazy(() => import('../components/PromqlEditor'));
const HistogramHeat = lazy(() => import('../components/HistogramHeat'));
const NoData = lazy(async () => ({ default: (await import('../components/NoData')).NoData }));
const PartTools = lazy(async () => ({ default: (await import('../components/Part')).PartTools }));
const PartEdges = lazy(async () => ({ default: (await import('../components/Part')).PartEdges }));
const CompareSeries = lazy(async () => ({ default: (await import('../components/CompareSeries')).CompareSeries }));
const ExplainTree = lazy(async () => ({ default: (await import('../components/ExplainTree')).ExplainTree }));
const ExemplarDrawer = lazy(() => import('../components/Exemplar'));
const Inspect = lazy(() => import('../components/Inspect'));
const StatView = lazy(() => import('../components/StatView'));
const TableView = lazy(() => import('../components/TableView'));

/** More series than this are drawn only when asked for. */
const DRAWN = 100;

/** Series that are asked for, so that no answer is more than a browser can hold; the address may say another number. */
const ASKED = 10_000;
const LIMITS = [100, 1000, ASKED, 0];

const FIGURE_NAMES: Record<(typeof FIGURES)[number], string> = {
  last: 'last value',
  mean: 'mean',
  max: 'largest',
  min: 'smallest',
  sum: 'sum of all steps',
};

/** What a step of a view is wide at least. */
const PIXELS = { chart: 2, stat: 8, heatmap: 6, plan: 2 };

/** What queries are called. */
const letter = (at: number): string => String.fromCharCode(65 + at);

const STEPS = ['auto', '1s', '5s', '10s', '15s', '30s', '1m', '5m', '15m', '1h'];

export default function Explore() {
  const search = useSearch({ from: '/explore' });
  const navigate = useNavigate({ from: '/explore' });
  const range = useRange();
  const prefs = usePrefs();
  const asked = search.q ?? [];
  const [drafts, setDrafts] = useState<string[]>(asked.length > 0 ? asked : ['']);
  const [past, setPast] = useState(false);
  const view = search.view ?? 'chart';

  // The address changed by itself: back, forward, a link.
  const key = JSON.stringify(asked);
  const known = useRef(key);
  useEffect(() => {
    if (known.current === key) return;
    known.current = key;
    const list = JSON.parse(key) as string[];
    setDrafts(list.length > 0 ? list : ['']);
  }, [key]);

  const change = (part: Partial<ExploreSearch & GlobalSearch>, replace = false) =>
    void navigate({ search: (old) => ({ ...old, ...part }), replace, resetScroll: false });
  const run = (list = drafts) => {
    const wanted = list.map((q) => q.trim()).filter((q) => q !== '');
    for (const query of wanted) prefs.remember(query);
    useClock.getState().tick();
    if (JSON.stringify(wanted) !== key) {
      known.current = JSON.stringify(wanted);
      change({ q: wanted.length > 0 ? wanted : undefined });
    }
  };

  return (
    <div className="page explore">
      <PageHead title="Explore" time />
      <div className="queries">
        {drafts.map((draft, i) => (
          <QueryRow
            key={i}
            index={i}
            value={draft}
            removable={drafts.length > 1}
            onChange={(value) => setDrafts((old) => old.map((q, j) => (j === i ? value : q)))}
            onRun={() => run()}
            onRemove={() => {
              const left = drafts.filter((_, j) => j !== i);
              setDrafts(left);
              run(left);
            }}
          />
        ))}
        <div className="query-bar">
          <Button look="primary" icon={Play} onClick={() => run()}>
            Run
          </Button>
          <Button icon={Plus} onClick={() => setDrafts([...drafts, ''])} disabled={drafts.length >= 8}>
            Add a query
          </Button>
          <Popover
            label="Queries asked before"
            align="start"
            open={past}
            onOpenChange={setPast}
            trigger={
              <Button icon={History} disabled={prefs.history.length === 0}>
                History
              </Button>
            }
          >
            <ul className="history-list">
              {prefs.history.slice(0, 30).map((query) => (
                <li key={query}>
                  <button
                    type="button"
                    onClick={() => {
                      setPast(false);
                      setDrafts([query]);
                      run([query]);
                    }}
                  >
                    <code className="clip">{query}</code>
                  </button>
                </li>
              ))}
            </ul>
          </Popover>
          <span className="spring" />
          <Tabs
            label="View"
            value={view}
            choices={[
              { id: 'chart', label: 'Chart', icon: ChartLine },
              { id: 'stat', label: 'Figures', icon: Sigma },
              { id: 'table', label: 'Table', icon: Table2 },
              { id: 'heatmap', label: 'Heatmap', icon: Grid3x3 },
              { id: 'plan', label: 'Plan', icon: ListTree },
            ]}
            onChange={(id) => change({ view: id === 'chart' ? undefined : (id as ExploreSearch['view']) })}
          />
        </div>
      </div>
      {asked.length === 0 ? (
        <Suspense fallback={<Skeleton height={200} />}>
          <ExploreStart
            onQuery={(query) => {
              setDrafts([query]);
              run([query]);
            }}
          />
        </Suspense>
      ) : view === 'table' ? (
        <Suspense fallback={<Skeleton height={200} />}>
          <TableView queries={asked} time={range.range.to} zone={range.zone} limit={search.limit ?? ASKED} />
        </Suspense>
      ) : (
        <RangeView queries={asked} view={view} search={search} change={change} />
      )}
    </div>
  );
}

function QueryRow({
  index,
  value,
  removable,
  onChange,
  onRun,
  onRemove,
}: {
  index: number;
  value: string;
  removable: boolean;
  onChange: (value: string) => void;
  onRun: () => void;
  onRemove: () => void;
}) {
  const [problem, setProblem] = useState<string | null>(null);
  const format = () =>
    void formatQuery(value).then(
      (answer) => {
        setProblem(null);
        onChange(answer.data);
      },
      (error: Error) => setProblem(error.message),
    );
  return (
    <div className="query-row">
      <span className="query-letter" aria-hidden>
        {letter(index)}
      </span>
      <div className="query-box">
        <Suspense fallback={<div className="code-editor is-loading" />}>
          <PromqlEditor
            value={value}
            onChange={onChange}
            onRun={onRun}
            label={`Query ${letter(index)}`}
            autoFocus={index === 0}
          />
        </Suspense>
        {problem && <p className="critical small query-problem">■ {problem}</p>}
      </div>
      <IconButton icon={WandSparkles} label="Format" onClick={format} disabled={value.trim() === ''} />
      <CopyButton text={value} label="Copy the query" />
      {removable && <IconButton icon={Trash2} label="Remove this query" onClick={onRemove} />}
    </div>
  );
}

function RangeView({
  queries,
  view,
  search,
  change,
}: {
  queries: string[];
  view: 'chart' | 'stat' | 'heatmap' | 'plan';
  search: ExploreSearch;
  change: (part: Partial<ExploreSearch & GlobalSearch>, replace?: boolean) => void;
}) {
  const { range, zone, zoom } = useRange();
  const navigate = useNavigate();
  const part = useMemo(() => (view === 'chart' ? parsePart(search.part, range) : null), [view, search.part, range]);
  const box = useMemo(() => (view === 'heatmap' ? parseHeatBox(search.box, range) : null), [view, search.box, range]);
  const chosen = part ?? box;
  const [byKey, setByKey] = useState(false);
  const chooseBox = (next: HeatBox, isMoved: boolean) => change({ box: heatBoxText(next) }, isMoved);
  const choose = (next: Range | null | true, isMoved = false) => {
    setByKey(next === true);
    if (!next) {
      if (search.part || search.box) change({ part: undefined, box: undefined, compare: undefined, of: undefined });
      return;
    }
    const time = snapped(next === true ? middleOf(range) : next, step);
    if (view === 'chart') change({ part: partText(time) }, isMoved);
    else chooseBox({ ...time, lower: Number.NEGATIVE_INFINITY, upper: Number.POSITIVE_INFINITY }, isMoved);
  };
  /** To the time that was dragged over, or to the part: then it is no part any more. */
  const zoomIn = (next: Range) => {
    useClock.getState().tick();
    const [from, to] = [next.from, next.to].map((ms) => String(Math.round(ms)));
    change({ from, to, part: undefined, box: undefined, compare: undefined, of: undefined });
  };
  usePageKeys([
    {
      keys: 'c',
      label: 'Choose a part of the chart; compare it with the rest',
      run: () => {
        if (view !== 'chart' && view !== 'heatmap') return;
        if (chosen) change({ compare: !search.compare || undefined });
        else choose(true);
      },
    },
    { keys: 'i', label: 'Inspect: data, statistics, the query as it was sent', run: () => setInside(true) },
    { keys: 'esc', label: 'Nothing chosen', run: () => choose(null) },
  ]);
  const client = useQueryClient();
  const typed = search.step ? parseDuration(search.step) : null;
  const wide = Math.max(200, Math.min(1200, Math.floor((window.innerWidth - 120) / PIXELS[view])));
  const step = typed && typed >= 1 ? typed : niceStep(range, wide);
  const span = aligned(range, step);
  const limit = search.limit ?? ASKED;
  const results = useRangeQueries(queries, range, step, view === 'plan', limit);
  const [inside, setInside] = useState(false);
  const [emphasised, setEmphasised] = useState<string | null>(null);
  const [all, setAll] = useState(false);
  const [dot, setDot] = useState<ExemplarDot | null>(null);
  const began = useRef(performance.now());
  const fetching = results.some((r) => r.isFetching);
  useEffect(() => {
    if (fetching) began.current = performance.now();
  }, [fetching]);

  const answers = results.map((r) => r.data);
  const stamp = results.map((r) => r.dataUpdatedAt).join();
  // biome-ignore lint/correctness/useExhaustiveDependencies: the stamp stands for the answers
  const frame = useMemo(() => {
    const parts = answers
      .map((answer, query) => (answer ? { result: answer.data.result, query } : null))
      .filter((part) => part !== null);
    // Answers that still belong to the range before are drawn where their times are.
    return frameOf(parts, span.from, span.to, step);
  }, [stamp, span.from, span.to, step]);
  const { shown, hidden, setHidden, only, setOnly } = useDrawn(frame, all ? Number.POSITIVE_INFINITY : DRAWN);

  const exemplars = useQuery({
    queryKey: ['timed', 'exemplars', queries, span.from, span.to],
    enabled: search.exemplars === true && view === 'chart',
    queryFn: async ({ signal }) => {
      const lists = await Promise.all(
        queries.map((query) => queryExemplars({ query, from: span.from, to: span.to }, signal)),
      );
      return lists.flatMap((list) =>
        list.data.flatMap((series) =>
          series.exemplars.map((e) => ({
            time: e.timestamp * 1000,
            value: parseValue(e.value),
            labels: [...Object.entries(e.labels), ...Object.entries(series.seriesLabels)] as [string, string][],
          })),
        ),
      );
    },
  });

  const merged: MatrixSeries[] = answers.flatMap((a) => a?.data.result ?? []);
  const errors = results
    .map((r, i) => ({ error: r.error, query: queries[i]!, retry: r.refetch }))
    .filter((e) => e.error);
  const loading = results.every((r) => r.isPending) && errors.length === 0;
  const dimmed = fetching && results.some((r) => r.isPlaceholderData);
  const nativeOnly = frame.series.length === 0 && merged.some((s) => (s.histograms?.length ?? 0) > 0);

  return (
    <>
      {errors.map(({ error, query, retry }) => (
        <ErrorBox key={query} error={error} query={query} onRetry={() => void retry()} />
      ))}
      {answers.map((a, i) => a && <RemarkList key={i} warnings={a.warnings} infos={a.infos} />)}
      <Suspense fallback={<Skeleton height={380} rows={8} />}>
        <Panel
          className="result"
          title={
            <div className="result-tools">
              {view === 'chart' && (
                <>
                  <Segmented
                    label="Stack"
                    value={search.stack ? 'stack' : 'lines'}
                    choices={[
                      { id: 'lines', label: 'Lines' },
                      { id: 'stack', label: 'Stacked' },
                    ]}
                    onChange={(id) => change({ stack: id === 'stack' || undefined })}
                  />
                  <label className="check">
                    <input
                      type="checkbox"
                      checked={search.exemplars ?? false}
                      onChange={(e) => change({ exemplars: e.target.checked || undefined })}
                    />
                    Exemplars{search.exemplars && exemplars.data ? ` (${exemplars.data.length})` : ''}
                  </label>
                </>
              )}
              {view === 'stat' && (
                <label className="check">
                  Figure
                  <Select
                    value={search.figure ?? 'last'}
                    onChange={(e) =>
                      change({ figure: FIGURES.find((figure) => figure === e.target.value && figure !== 'last') })
                    }
                  >
                    {FIGURES.map((figure) => (
                      <option key={figure} value={figure}>
                        {FIGURE_NAMES[figure]}
                      </option>
                    ))}
                  </Select>
                </label>
              )}
              <StepPicker step={step} value={search.step} onChange={(value) => change({ step: value })} />
              <label className="check">
                Series
                <Select
                  value={limit}
                  onChange={({ target: { value } }) =>
                    change({ limit: Number(value) === ASKED ? undefined : Number(value) })
                  }
                >
                  {[...new Set([...LIMITS, limit])].map((most) => (
                    <option key={most} value={most}>
                      {most === 0 ? 'all' : `at most ${formatCount(most)}`}
                    </option>
                  ))}
                </Select>
              </label>
              {(view === 'chart' || view === 'heatmap') && (
                <Suspense>
                  <PartTools
                    part={chosen}
                    comparing={search.compare === true}
                    onZoom={zoomIn}
                    onCompare={() => change({ compare: true })}
                    onChoose={(next) => choose(next)}
                  />
                </Suspense>
              )}
            </div>
          }
          actions={
            <>
              {fetching && (
                <SlowNote since={began.current} onCancel={() => void client.cancelQueries({ queryKey: ['timed'] })} />
              )}
              <PartialTag answers={answers} failed={errors.length} />
              <Button
                look="ghost"
                icon={ScanSearch}
                title="Data as a table, statistics, the query as it was sent (i)"
                onClick={() => setInside(true)}
              >
                Inspect
              </Button>
              <Button
                look="ghost"
                icon={LayoutDashboard}
                onClick={() =>
                  void navigate({
                    to: '/dashboards/$uid',
                    params: { uid: 'new' },
                    search: { 'v-query': queries } as never,
                  })
                }
              >
                To a dashboard
              </Button>
            </>
          }
        >
          {loading ? (
            <Skeleton height={380} rows={8} />
          ) : view === 'plan' ? (
            answers.map((a, i) =>
              a?.data.explain ? (
                <ExplainTree key={i} plan={a.data.explain.plan} fragments={a.data.explain.fragments} />
              ) : null,
            )
          ) : view === 'heatmap' ? (
            errors.length === 0 || merged.length > 0 ? (
              <HistogramHeat
                series={merged}
                span={span}
                step={step}
                range={range}
                zone={zone}
                query={queries.join(', ')}
                dimmed={dimmed}
                onZoom={zoomIn}
                box={box}
                byKey={byKey}
                comparing={search.compare === true}
                onBox={(next, isMoved) => {
                  setByKey(false);
                  chooseBox(next, isMoved);
                }}
                onCompare={(on) => change({ compare: on || undefined })}
              />
            ) : null
          ) : nativeOnly ? (
            <Empty
              icon={Grid3x3}
              title="The answer is native histograms"
              actions={<Button onClick={() => change({ view: 'heatmap' })}>Show the heatmap</Button>}
            >
              They have buckets, not one value; <code>histogram_quantile</code> or <code>histogram_avg</code> makes
              lines of them.
            </Empty>
          ) : frame.series.length === 0 ? (
            errors.length === 0 && <NoData queries={queries} />
          ) : view === 'stat' ? (
            <StatView frame={frame} figure={search.figure ?? 'last'} dimmed={dimmed} />
          ) : (
            <>
              <Chart
                frame={shown}
                range={range}
                zone={zone}
                height={Math.max(280, Math.min(440, window.innerHeight - 430))}
                stack={search.stack ? 'normal' : 'none'}
                hidden={hidden}
                emphasised={emphasised}
                exemplars={search.exemplars ? exemplars.data : undefined}
                onExemplar={setDot}
                onZoom={zoomIn}
                onZoomOut={() =>
                  zoom({ from: range.from - (range.to - range.from) / 2, to: range.to + (range.to - range.from) / 2 })
                }
                onPart={(next) => choose(next)}
                over={(area) =>
                  part && (
                    <PartEdges
                      area={area}
                      range={range}
                      times={frame.times}
                      part={part}
                      zone={zone}
                      focus={byKey}
                      onPart={(next) => choose(next, true)}
                    />
                  )
                }
                dimmed={dimmed}
                label={queries.join(', ')}
              />
              {part && search.compare && (
                <Suspense fallback={<Skeleton rows={6} />}>
                  <CompareSeries
                    frame={frame}
                    part={part}
                    query={(search.of ?? 1) - 1}
                    names={queries.map((_, i) => letter(i))}
                    zone={zone}
                    onQuery={(query) => change({ of: query + 1 })}
                    only={only}
                    onOnly={setOnly}
                    onClose={() => change({ compare: undefined })}
                  />
                </Suspense>
              )}
              {frame.series.length > DRAWN && (
                <p className="cap-note">
                  {shown.series.length} of {frame.series.length} series are drawn.{' '}
                  <Button look="ghost" onClick={() => setAll(!all)}>
                    {all ? `Draw the first ${DRAWN}` : 'Draw all'}
                  </Button>
                </p>
              )}
              <Legend frame={shown} hidden={hidden} onHidden={setHidden} onEmphasise={setEmphasised} tools />
            </>
          )}
        </Panel>
      </Suspense>
      {answers.map((a, i) =>
        a ? (
          <StatsLine
            key={i}
            elapsedMs={a.elapsedMs}
            bytes={a.bytes}
            stats={a.data.stats}
            series={a.data.result.length}
            fragments={a.data.explain?.fragments}
          >
            <span>
              step <b>{formatDuration(step)}</b>
            </span>
          </StatsLine>
        ) : null,
      )}
      <Suspense>
        {dot && <ExemplarDrawer dot={dot} zone={zone} onClose={() => setDot(null)} />}
        {inside && (
          <Inspect
            title={queries.length === 1 ? 'the query' : `${queries.length} queries`}
            parts={queries.map((query, i) => ({
              name: letter(i),
              text: query,
              asked: { range: { query, ...span, step, limit } },
              answer: answers[i],
              error: results[i]?.error,
            }))}
            zone={zone}
            onClose={() => setInside(false)}
          />
        )}
      </Suspense>
    </>
  );
}

function StepPicker({
  step,
  value,
  onChange,
}: {
  step: number;
  value: string | undefined;
  onChange: (value: string | undefined) => void;
}) {
  return (
    <label className="check">
      Step
      <Select
        value={value ?? 'auto'}
        onChange={(e) => onChange(e.target.value === 'auto' ? undefined : e.target.value)}
      >
        {[...new Set([...STEPS, ...(value ? [value] : [])])].map((choice) => (
          <option key={choice} value={choice}>
            {choice === 'auto' ? `auto (${formatDuration(step)})` : choice}
          </option>
        ))}
      </Select>
    </label>
  );
}

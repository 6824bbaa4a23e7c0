// One panel of a dashboard: it asks its queries while it is in sight, and draws what it is.

import {
  type ComponentType,
  Fragment,
  lazy,
  type ReactNode,
  Suspense,
  useEffect,
  useMemo,
  useRef,
  useState,
} from 'react';
import { createPortal } from 'react-dom';
import type { Answer } from '../../api/client';
import { lokiRange } from '../../api/loki';
import { type InstantData, type MatrixSeries, queryInstant, queryRange, type RangeData } from '../../api/prometheus';
import { traceMetrics } from '../../api/traces';
import { assignLooks, seriesColour } from '../../lib/colour';
import { askedText, type Rewrite } from '../../lib/dashboard/asked';
import type { LinkContext, LinkedValue } from '../../lib/dashboard/links';
import {
  type FieldLook,
  languageOf,
  lookOf,
  type Panel,
  type PanelKind,
  type PanelOptions,
  type QueryLanguage,
  type Reducer,
  safeColour,
  showValue,
  thresholdColour,
} from '../../lib/dashboard/model';
import { builtins, interpolate, type Scope } from '../../lib/dashboard/variables';
import { type Frame, type FrameSeries, frameOf, reduce, rowsOf } from '../../lib/frame';
import { heatOf, isHistogram } from '../../lib/heatmap';
import type { Labels } from '../../lib/labels';
import { textOf } from '../../lib/logrow';
import { parsePart, snapped } from '../../lib/part';
import { formatMoment, niceStep, parseDuration, parseMoment, type Range, type Zone } from '../../lib/time';
import { formatValue } from '../../lib/units';
import { useDrawn } from '../../state/drawn';
import { type AnnotationContext, useMarks } from '../../state/marks';
import { usePanelQueries } from '../../state/panels';
import { currentTenant } from '../../state/prefs';
import { aligned } from '../../state/queries';
import { useTheme } from '../../state/theme';
import { Chart, type Pick, type Threshold } from '../Chart';
import { type ColumnDef, DataTable } from '../DataTable';
import { Heatmap } from '../Heatmap';
import { Legend, toggled } from '../Legend';
import { Markdown } from '../Markdown';
import { Sparkline } from '../Sparkline';
import { Empty, Skeleton } from '../states';
import { Linked, PickedLinks } from './Links';
import { MarksOver } from './MarksOver';
import { PanelInspect, PanelStates } from './PanelStates';

const PartEdges = lazy(async () => ({ default: (await import('../Part')).PartEdges }));
const PanelPart = lazy(async () => ({ default: (await import('./PanelPart')).PanelPart }));

export interface PanelContext {
  range: Range;
  zone: string;
  scope: Scope;
  tenant: string | undefined;
  sync: string;
  onZoom: (range: Range) => void;
  /** What is marked on time series. */
  marked: AnnotationContext;
  /** Puts the filters of the dashboard into an expression. */
  rewrite: Rewrite;
  linked: LinkContext;
  /** The name by which the dashboard is told how the panel's queries went. */
  reportAs?: string;
  /** Takes a part of a time series' time that is chosen; without it none is. */
  onPart?: (part: Range) => void;
  /** Of the panel that is shown alone. */
  chosen?: ChosenPart;
}

/** A panel as it stands on a page. */
export interface ShownPanel {
  panel: Panel;
  context: PanelContext;
  height: number;
  width: number;
  isSeen: boolean;
}

/** A part of a panel's time, as the address has it, and where it is compared with the rest. */
export interface ChosenPart {
  part: string | undefined;
  comparing: boolean;
  /** Of the series of which query, from 0 on. */
  query: number;
  focus: boolean;
  below: HTMLElement | null;
  onZoom: (range: Range) => void;
  onMove: (part: Range) => void;
  onChange: (change: { part?: undefined; compare?: boolean; of?: number }) => void;
}

/** Where a panel looks: its own time, if it has one. */
export function panelRange(panel: Panel, range: Range, scope: Scope, zone: Zone): Range {
  let { from, to } = range;
  const back = panel.timeFrom ? interpolate(panel.timeFrom, scope) : '';
  if (back) {
    const text = /^now/.test(back) ? back : `now-${back}`;
    from = parseMoment(text, to, zone) ?? from;
  }
  const shift = panel.timeShift ? parseDuration(interpolate(panel.timeShift, scope)) : null;
  if (shift) [from, to] = [from - shift, to - shift];
  return { from, to };
}

type Answers = {
  data: Answer<RangeData> | Answer<InstantData>;
  legend: string | undefined;
  ref: string;
  instant: boolean;
}[];

/** LogQL and TraceQL as PromQL answers: series of numbers. */
async function askNumbers(
  language: QueryLanguage,
  query: string,
  {
    instant,
    range,
    span,
    step,
    tenant,
  }: { instant: boolean; range: Range; span: Range; step: number; tenant?: string },
  signal: AbortSignal,
): Promise<Answer<RangeData> | Answer<InstantData>> {
  switch (language) {
    case 'logql': {
      const at = instant ? { from: Math.round(range.to), to: Math.round(range.to) } : span;
      const answer = await lokiRange({ query, ...at, step, limit: 1, tenant }, signal);
      if (answer.data.resultType === 'streams')
        throw new Error('This query gives lines, not numbers: choose the kind Logs, or count them over time.');
      return { ...answer, data: answer.data };
    }
    case 'traceql': {
      const answer = await traceMetrics({ query, ...span }, step, signal);
      const result = answer.data.series.map(
        (series): MatrixSeries => ({
          metric: Object.fromEntries(Object.entries(series.labels).map(([name, value]) => [name, textOf(value)])),
          values: series.values.map(([seconds, value]) => [seconds, String(value)]),
        }),
      );
      return { ...answer, data: { resultType: 'matrix', result } };
    }
    default:
      return instant
        ? queryInstant({ query, time: range.to, tenant }, signal)
        : queryRange({ query, ...span, step, tenant }, signal);
  }
}

/** Everything that a panel's queries become with the variables in. */
export function usePanelData(panel: Panel, context: PanelContext, width: number, isSeen: boolean) {
  const range = panelRange(panel, context.range, context.scope, context.zone);
  const least = panel.queries.reduce(
    (least, q) => Math.max(least, parseDuration(interpolate(q.step ?? '', context.scope)) ?? 0),
    1000,
  );
  const step = niceStep(range, Math.max(60, Math.min(width / (panel.kind === 'heatmap' ? 7 : 3), 700)), least);
  const scope = { ...builtins(range, step), ...context.scope };
  const span = aligned(range, step);
  const { tenant } = context;
  const queries = panel.queries
    .filter((q) => !q.hidden && q.expr.trim() !== '')
    .map((q) => {
      const language = languageOf(panel.kind, q);
      return {
        language,
        expr: askedText(language, q.expr, scope, { range, step }, context.rewrite),
        legend: q.legend === undefined ? undefined : interpolate(q.legend, scope, 'text'),
        ref: q.ref,
        instant:
          language !== 'traceql' &&
          (q.instant === true || panel.kind === 'table' || (panel.kind === 'bar' && q.instant !== false)),
      };
    });
  const asked = usePanelQueries<RangeData | InstantData>(
    queries.map(({ ref, language, expr, instant }) => ({
      ref,
      text: expr,
      key: [tenant ?? currentTenant(), language, expr, instant, span.from, span.to, step],
      run: (signal) => askNumbers(language, expr, { instant, range, span, step, tenant }, signal),
    })),
    isSeen,
  );
  return { queries, asked, range, span, step, scope };
}

export function PanelBody({
  panel,
  context,
  height,
  width,
}: {
  panel: Panel;
  context: PanelContext;
  height: number;
  width: number;
}) {
  const box = useRef<HTMLDivElement>(null);
  const [isSeen, setIsSeen] = useState(false);
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const observer = new IntersectionObserver(([entry]) => setIsSeen(entry?.isIntersecting ?? false), {
      rootMargin: '200px',
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  const shown: ShownPanel = { panel, context, height, width, isSeen };
  const Own = OWN[panel.kind];
  return (
    <div ref={box} className={`panel-content ${panel.kind === 'text' ? 'is-text' : ''}`} style={{ height }}>
      {panel.kind === 'text' ? (
        <>
          <TextPanel panel={panel} scope={context.scope} />
          <PanelInspect
            panel={panel}
            title={interpolate(panel.title, context.scope, 'text')}
            asked={[]}
            reportAs={context.reportAs}
          />
        </>
      ) : Own ? (
        <Suspense fallback={<Skeleton height={height} rows={4} />}>
          <Own {...shown} />
        </Suspense>
      ) : (
        <NumbersPanel {...shown} />
      )}
    </div>
  );
}

/** Kinds that ask and draw by themselves. */
const OWN: Partial<Record<PanelKind, ComponentType<ShownPanel>>> = {
  logs: lazy(() => import('./LogsPanel')),
  traces: lazy(() => import('./TracesPanel')),
  sql: lazy(() => import('./SqlPanel')),
};

function TextPanel({ panel, scope }: { panel: Panel; scope: Scope }) {
  const source = interpolate(panel.options.text ?? '', scope, 'text');
  return panel.options.plain ? <pre className="text-plain">{source}</pre> : <Markdown text={source} />;
}

function NumbersPanel({ panel, context, height, width, isSeen }: ShownPanel) {
  const data = usePanelData(panel, context, width, isSeen);
  const answers: Answers = data.asked.flatMap(({ answer }, i) =>
    answer ? [{ data: answer as Answers[number]['data'], ...data.queries[i]! }] : [],
  );
  return (
    <PanelStates
      panel={panel}
      title={interpolate(panel.title, context.scope, 'text')}
      height={height}
      isSeen={isSeen}
      asked={data.asked}
      sent={data.queries.map(({ language, expr: query, instant }) => {
        const { tenant } = context;
        if (language !== 'promql') return undefined;
        return instant
          ? { instant: { query, time: data.range.to, tenant } }
          : { range: { query, ...data.span, step: data.step, tenant } };
      })}
      reportAs={context.reportAs}
    >
      <Drawn
        panel={panel}
        answers={answers}
        context={context}
        height={height}
        data={data}
        dimmed={data.asked.some((a) => a.isOld)}
        width={width}
      />
    </PanelStates>
  );
}

function NoValue({ panel }: { panel: Panel }) {
  if (panel.options.noValue) return <div className="stat-value">{panel.options.noValue}</div>;
  return <Empty title="No data in this range">The query is answered and gives no series here.</Empty>;
}

type PanelData = ReturnType<typeof usePanelData>;

function Drawn({
  panel,
  answers,
  context,
  height,
  data,
  dimmed,
  width,
}: {
  panel: Panel;
  answers: Answers;
  context: PanelContext;
  height: number;
  data: PanelData;
  dimmed: boolean;
  width: number;
}) {
  const linked = { ...context.linked, scope: context.scope };
  switch (panel.kind) {
    case 'timeseries':
      return (
        <SeriesPanel panel={panel} answers={answers} context={context} height={height} data={data} dimmed={dimmed} />
      );
    case 'heatmap':
      return (
        <HeatPanel panel={panel} answers={answers} context={context} height={height} data={data} dimmed={dimmed} />
      );
    case 'stat':
    case 'gauge':
      return <Figures panel={panel} answers={answers} data={data} height={height} width={width} linked={linked} />;
    case 'bar':
      return <Bars panel={panel} answers={answers} data={data} linked={linked} />;
    case 'table':
      return <TablePanel panel={panel} answers={answers} zone={context.zone} height={height} linked={linked} />;
    default:
      return null;
  }
}

/** Series as the options of their panel have them: renamed, turned over, or left out. */
export const styledSeries = (all: FrameSeries[], options: PanelOptions, refs: string[]): FrameSeries[] =>
  all
    .map((s) => ({ s, look: lookOf(options, s.name, refs[s.query]) }))
    .filter(({ look }) => !look.hidden)
    .map(({ s, look }) => ({
      ...s,
      name: look.name ?? s.name,
      values: look.negate ? s.values.map((v) => (v === null ? null : -v)) : s.values,
      negated: look.negate,
    }));

/** Answers of ranges as one frame; what an instant query gave is a frame of one step. */
function useFrame(answers: Answers, data: PanelData, panel: Panel): Frame {
  const { span, step } = data;
  // biome-ignore lint/correctness/useExhaustiveDependencies: answers are compared by the objects that hold them
  return useMemo(() => {
    const parts = answers.flatMap((a, query) => {
      if (a.data.data.resultType === 'matrix') return [{ result: a.data.data.result, template: a.legend, query }];
      const rows = rowsOf(a.data.data as InstantData);
      const result: MatrixSeries[] = rows
        .filter((r) => r.value !== null)
        .map((r) => ({ metric: r.labels, values: [[span.to / 1000, String(r.value)]] }));
      return [{ result, template: a.legend, query }];
    });
    const frame = frameOf(parts, span.from, span.to, step);
    const refs = answers.map((a) => a.ref);
    return { times: frame.times, series: styledSeries(frame.series, panel.options, refs) };
  }, [
    answers.map((a) => a.data).reduce((key, a) => `${key}|${a.elapsedMs}|${a.bytes}`, ''),
    span.from,
    span.to,
    step,
    panel.options,
  ]);
}

function useColours(frame: Frame, panel: Panel, refs: string[]): (string | undefined)[] | undefined {
  const theme = useTheme();
  // biome-ignore lint/correctness/useExhaustiveDependencies: colours of tokens change with the theme
  return useMemo(() => {
    const all = frame.series.map((s) => resolved(safeColour(lookOf(panel.options, s.name, refs[s.query]).colour)));
    return all.some(Boolean) ? all : undefined;
  }, [frame, panel.options, theme]);
}

/** A colour as canvases take it. */
function resolved(colour: string | undefined): string | undefined {
  const token = colour && /^var\((--[\w-]+)\)$/.exec(colour)?.[1];
  return token ? getComputedStyle(document.documentElement).getPropertyValue(token).trim() : colour;
}

const DRAWN = 100;

function SeriesPanel({
  panel,
  answers,
  context,
  height,
  data,
  dimmed,
}: {
  panel: Panel;
  answers: Answers;
  context: PanelContext;
  height: number;
  data: PanelData;
  dimmed: boolean;
}) {
  const whole = useFrame(answers, data, panel);
  const { range, span, step } = data;
  const refs = answers.map((a) => a.ref);
  return (
    <TimeSeries
      panel={panel}
      whole={whole}
      refs={refs}
      context={context}
      height={height}
      range={range}
      span={span}
      step={step}
      dimmed={dimmed}
    />
  );
}

export function TimeSeries({
  panel,
  whole,
  refs,
  unit,
  context,
  height,
  range,
  span,
  step,
  dimmed,
}: {
  panel: Panel;
  whole: Frame;
  /** Names of the queries that series are of. */
  refs: string[];
  /** Where the panel says none. */
  unit?: string;
  context: PanelContext;
  height: number;
  /** What is looked at, and the whole steps of it. */
  range: Range;
  span: Range;
  step: number;
  dimmed: boolean;
}) {
  const { options } = panel;
  const { shown: frame, hidden, setHidden, only, setOnly } = useDrawn(whole, DRAWN);
  const { chosen } = context;
  const { from, to } = span;
  const part = useMemo(() => parsePart(chosen?.part, { from, to }), [chosen?.part, from, to]);
  const { onPart } = context;
  const choose = onPart && ((next: Range) => onPart(snapped(next, step)));
  const colours = useColours(frame, panel, refs);
  const marks = useMarks(context.marked, range);
  const [emphasised, setEmphasised] = useState<string | null>(null);
  const [picked, setPicked] = useState<Pick | null>(null);
  const linked = { ...context.linked, scope: context.scope };
  const linksOf = (s: FrameSeries) => lookOf(options, s.name, refs[s.query]).links;
  const hasLinks = frame.series.some((s) => linksOf(s));
  const thresholds = useMemo<Threshold[] | undefined>(() => {
    if (!options.showThresholds) return undefined;
    return options.thresholds
      ?.filter((t) => t.value !== null)
      .map((t) => ({ value: t.value!, colour: resolved(safeColour(t.colour)) ?? '#888888' }));
  }, [options]);
  if (frame.series.length === 0) return <NoValue panel={panel} />;
  const list = options.legend ?? 'list';
  const lines = list === 'none' ? 0 : Math.min(frame.series.length, list === 'table' ? 6 : 4);
  const legendHeight =
    list === 'none' || height < 130
      ? 0
      : list === 'table'
        ? Math.min(height * 0.42, 26 + lines * 24)
        : Math.min(height * 0.3, 24 + (frame.series.length > 3 ? 22 : 0));
  const first = frame.series[0]!;
  const look: FieldLook = lookOf(options, first.name, refs[first.query]);
  return (
    <>
      <Chart
        frame={frame}
        range={span}
        zone={context.zone}
        height={Math.max(40, height - legendHeight - (whole.series.length > DRAWN ? 18 : 0))}
        unit={options.unit ?? look.unit ?? unit}
        decimals={options.decimals}
        draw={options.draw}
        stack={options.stack}
        fill={options.fill}
        lineWidth={options.lineWidth}
        stepped={options.stepped}
        min={options.min}
        max={options.max}
        log={options.log}
        thresholds={thresholds}
        hidden={hidden}
        emphasised={emphasised}
        onZoom={context.onZoom}
        onPart={choose}
        onPick={hasLinks ? (pick) => setPicked(linksOf(pick.series) ? pick : null) : undefined}
        over={(area) => (
          <>
            {context.marked.annotations.length > 0 && (
              <MarksOver
                area={area}
                range={span}
                zone={context.zone}
                annotations={context.marked.annotations}
                marks={marks.map((m) => m.data?.marks)}
              />
            )}
            {picked && (
              <PickedLinks
                area={area}
                pick={picked}
                time={formatMoment(frame.times[picked.at] ?? 0, context.zone)}
                links={linksOf(picked.series)}
                context={linked}
                value={valueAt(picked.series, picked.at, frame.times, lookOf(options, picked.series.name))}
                onClose={() => setPicked(null)}
              />
            )}
            {part && chosen && (
              <PartEdges
                area={area}
                range={span}
                times={frame.times}
                part={part}
                zone={context.zone}
                focus={chosen.focus}
                onPart={(next) => chosen.onMove(snapped(next, step))}
              />
            )}
          </>
        )}
        sync={context.sync}
        colours={colours}
        dimmed={dimmed}
        label={panel.title || 'Time series'}
      />
      {whole.series.length > DRAWN && (
        <p className="cap-note small">
          {DRAWN} of {whole.series.length} series
        </p>
      )}
      {legendHeight > 0 &&
        (list === 'table' ? (
          <div style={{ maxHeight: legendHeight, overflow: 'hidden', display: 'grid' }}>
            <Legend
              frame={frame}
              unit={options.unit ?? look.unit ?? unit}
              decimals={options.decimals}
              hidden={hidden}
              onHidden={setHidden}
              onEmphasise={setEmphasised}
              columns={options.legendColumns ?? ['last', 'max']}
              colours={colours}
            />
          </div>
        ) : (
          <LegendList
            frame={frame}
            tail={
              hasLinks
                ? (s) => (
                    <Linked
                      links={linksOf(s)}
                      context={linked}
                      value={valueAt(s, lastAt(s.values), frame.times, lookOf(options, s.name))}
                      className="legend-link"
                      icon
                    >
                      Links of {s.name}
                    </Linked>
                  )
                : undefined
            }
            colours={colours}
            height={legendHeight}
            hidden={hidden}
            onHidden={setHidden}
            onEmphasise={setEmphasised}
          />
        ))}
      {chosen?.below &&
        part &&
        createPortal(
          <Suspense fallback={<Skeleton rows={6} />}>
            <PanelPart
              chosen={chosen}
              part={part}
              frame={whole}
              names={refs}
              unit={options.unit ?? look.unit ?? unit}
              zone={context.zone}
              only={only}
              onOnly={setOnly}
            />
          </Suspense>,
          chosen.below,
        )}
    </>
  );
}

/** A value of a series, as links may name it. */
const valueAt = (s: FrameSeries, at: number, times: number[], look: FieldLook): LinkedValue => {
  const value = s.values[at] ?? null;
  return { raw: value, text: showValue(value, look).text, time: times[at], name: s.name, labels: s.labels };
};

const lastAt = (values: (number | null)[]): number => values.findLastIndex((v) => v !== null);

function LegendList({
  frame,
  tail,
  colours,
  height,
  hidden,
  onHidden,
  onEmphasise,
}: {
  frame: Frame;
  /** What stands behind a name. */
  tail?: (series: FrameSeries) => ReactNode;
  colours: (string | undefined)[] | undefined;
  height: number;
  hidden: ReadonlySet<string>;
  onHidden: (hidden: ReadonlySet<string>) => void;
  onEmphasise: (id: string | null) => void;
}) {
  useTheme();
  const ids = frame.series.map((s) => s.id);
  const looks = assignLooks(ids);
  return (
    <div role="group" className="legend-list" style={{ maxHeight: height }} tabIndex={0} aria-label="Legend">
      {frame.series.map((s, i) => (
        <Fragment key={s.id}>
          <button
            type="button"
            className={hidden.has(s.id) ? 'is-off' : ''}
            aria-pressed={!hidden.has(s.id)}
            title={s.name}
            onMouseEnter={() => onEmphasise(s.id)}
            onMouseLeave={() => onEmphasise(null)}
            onClick={(e) => onHidden(toggled(ids, hidden, s.id, e.ctrlKey || e.metaKey))}
          >
            <span
              className="swatch"
              style={{ background: colours?.[i] ?? seriesColour(looks[i]!.colour) }}
              aria-hidden
            />
            <bdi>{s.name}</bdi>
          </button>
          {tail?.(s)}
        </Fragment>
      ))}
    </div>
  );
}

function HeatPanel({
  panel,
  answers,
  context,
  height,
  data,
  dimmed,
}: {
  panel: Panel;
  answers: Answers;
  context: PanelContext;
  height: number;
  data: PanelData;
  dimmed: boolean;
}) {
  const merged = answers.flatMap((a) => (a.data.data.resultType === 'matrix' ? a.data.data.result : []));
  if (merged.length === 0) return <NoValue panel={panel} />;
  if (!isHistogram(merged))
    return (
      <SeriesPanel
        panel={{ ...panel, kind: 'timeseries' }}
        answers={answers}
        context={context}
        height={height}
        data={data}
        dimmed={dimmed}
      />
    );
  const heat = heatOf(merged, data.span.from, data.span.to, data.step);
  if (!heat || heat.rows.length === 0) return <NoValue panel={panel} />;
  return (
    <Heatmap
      heat={heat}
      range={data.span}
      zone={context.zone}
      height={height}
      unit={panel.options.unit}
      onZoom={context.onZoom}
      dimmed={dimmed}
      label={panel.title}
    />
  );
}

export function reduced(values: (number | null)[], how: Reducer = 'last'): number | null {
  const r = reduce(values);
  switch (how) {
    case 'range':
      return r.min === null || r.max === null ? null : r.max - r.min;
    case 'delta':
      return r.last === null || r.first === null ? null : r.last - r.first;
    case 'count':
      return r.count;
    default:
      return r[how];
  }
}

function Figures({
  panel,
  answers,
  data,
  height,
  width,
  linked,
}: {
  panel: Panel;
  answers: Answers;
  data: PanelData;
  height: number;
  width: number;
  linked: LinkContext;
}) {
  const frame = useFrame(answers, data, panel);
  const { options } = panel;
  if (frame.series.length === 0) return <NoValue panel={panel} />;
  const shown = frame.series.slice(0, 24);
  const many = shown.length > 1;
  const across = many ? Math.max(1, Math.min(shown.length, Math.floor(width / 140))) : 1;
  const lines = Math.ceil(shown.length / across);
  const each = Math.max(36, height / lines - 4);
  return (
    <div className="figures" style={{ gridTemplateColumns: `repeat(${across}, minmax(0, 1fr))` }}>
      {shown.map((s) => (
        <Figure
          key={s.id}
          series={s}
          panel={panel}
          height={each}
          width={width / across}
          named={many}
          look={lookOf(options, s.name, answers[s.query]?.ref)}
          times={frame.times}
          linked={linked}
        />
      ))}
      {frame.series.length > shown.length && (
        <p className="cap-note small">
          {shown.length} of {frame.series.length}
        </p>
      )}
    </div>
  );
}

function Figure({
  series,
  panel,
  height,
  width,
  named,
  look,
  times,
  linked,
}: {
  series: FrameSeries;
  panel: Panel;
  height: number;
  width: number;
  named: boolean;
  look: FieldLook;
  times: number[];
  linked: LinkContext;
}) {
  const { options } = panel;
  const value = reduced(series.values, options.reduce);
  const [min, max] = [look.min ?? 0, look.max ?? (look.unit === 'percentunit' ? 1 : 100)];
  const said = showValue(value, look, options.noValue);
  const colour = said.colour ?? thresholdColour(value, look, min, max) ?? safeColour(look.colour);
  const at: LinkedValue = { ...valueAt(series, lastAt(series.values), times, look), raw: value, text: said.text };
  if (panel.kind === 'gauge') {
    return (
      <div className="gauge-cell">
        <GaugeArc
          value={value}
          min={min}
          max={max}
          colour={colour ?? 'var(--series-1)'}
          text={said.text}
          height={height - (named || look.links ? 18 : 0)}
          look={look}
        />
        {(named || look.links) && (
          <Linked links={look.links} context={linked} value={at}>
            <bdi className="figure-name">{named ? series.name : said.text}</bdi>
          </Linked>
        )}
      </div>
    );
  }
  const by = options.colourBy ?? 'value';
  const size = Math.max(
    15,
    Math.min(height * (named ? 0.34 : 0.42), (width * 1.5) / Math.max(said.text.length, 3), 44),
  );
  return (
    <div
      className={`figure-cell ${by === 'background' && colour ? 'is-filled' : ''}`}
      style={{
        height,
        ...(by === 'background' && colour
          ? { background: `color-mix(in srgb, ${colour} 24%, var(--panel))`, borderColor: colour }
          : {}),
      }}
    >
      {options.sparkline && series.values.length > 2 && (
        <Sparkline values={series.values} colour={by === 'none' ? 'var(--series-1)' : (colour ?? 'var(--series-1)')} />
      )}
      {named && <bdi className="figure-name">{series.name}</bdi>}
      <span
        className="stat-value tab-num"
        style={{ fontSize: size, ...(by === 'value' && colour && colour !== 'transparent' ? { color: colour } : {}) }}
      >
        <Linked links={look.links} context={linked} value={at}>
          {said.text}
        </Linked>
      </span>
    </div>
  );
}

/** Three quarters of a circle from the lower left to the lower right. */
function GaugeArc({
  value,
  min,
  max,
  colour,
  text,
  height,
  look,
}: {
  value: number | null;
  min: number;
  max: number;
  colour: string;
  text: string;
  height: number;
  look: FieldLook;
}) {
  const share = value === null || Number.isNaN(value) ? 0 : Math.min(Math.max((value - min) / (max - min || 1), 0), 1);
  const at = (part: number): [number, number] => {
    const angle = ((135 + 270 * part) * Math.PI) / 180;
    return [50 + 40 * Math.cos(angle), 50 + 40 * Math.sin(angle)];
  };
  const arc = (from: number, to: number): string => {
    const [a, b] = [at(from), at(to)];
    return `M ${a[0]} ${a[1]} A 40 40 0 ${(to - from) * 270 > 180 ? 1 : 0} 1 ${b[0]} ${b[1]}`;
  };
  return (
    <svg
      className="gauge"
      viewBox="0 0 100 88"
      style={{ height }}
      role="img"
      aria-label={`${text}, from ${formatValue(min, look.unit)} to ${formatValue(max, look.unit)}`}
    >
      <path d={arc(0, 1)} className="gauge-track" />
      {share > 0 && <path d={arc(0, share)} stroke={colour} className="gauge-value" />}
      <text
        x="50"
        y="56"
        textAnchor="middle"
        className="gauge-text"
        style={{ fontSize: Math.min(18, 110 / Math.max(text.length, 4)) }}
      >
        {text}
      </text>
    </svg>
  );
}

function Bars({
  panel,
  answers,
  data,
  linked,
}: {
  panel: Panel;
  answers: Answers;
  data: PanelData;
  linked: LinkContext;
}) {
  const frame = useFrame(answers, data, panel);
  const { options } = panel;
  if (frame.series.length === 0) return <NoValue panel={panel} />;
  const rows = frame.series.map((s) => ({
    s,
    look: lookOf(options, s.name, answers[s.query]?.ref),
    value: reduced(s.values, options.reduce),
  }));
  const top = Math.max(...rows.map((r) => Math.abs(r.value ?? 0)).filter(Number.isFinite), 0);
  return (
    <div role="group" className="bar-list" tabIndex={0} aria-label={panel.title || 'Bars'}>
      <ul>
        {rows.slice(0, 200).map(({ s, look, value }) => {
          const [min, max] = [look.min ?? 0, look.max ?? (top || 1)];
          const share =
            value === null || !Number.isFinite(value)
              ? 0
              : Math.min(Math.max((Math.abs(value) - Math.max(min, 0)) / (max - Math.max(min, 0) || 1), 0), 1);
          const said = showValue(value, look, options.noValue);
          const colour =
            said.colour ?? thresholdColour(value, look, min, max) ?? safeColour(look.colour) ?? 'var(--series-1)';
          return (
            <li key={s.id}>
              <bdi className="bar-list-name" title={s.name}>
                {s.name}
              </bdi>
              <span className="bar-track" aria-hidden>
                <span style={{ width: `${share * 100}%`, background: colour }} />
              </span>
              <span className="tab-num bar-list-value">
                <Linked links={look.links} context={linked} value={valueAt(s, lastAt(s.values), frame.times, look)}>
                  {said.text}
                </Linked>
              </span>
            </li>
          );
        })}
      </ul>
    </div>
  );
}

interface TableLine {
  labels: Labels;
  time: number | null;
  values: (number | null)[];
  texts: (string | undefined)[];
}

/** Rows of several queries that have the same labels are one row: a column a query. */
function TablePanel({
  panel,
  answers,
  zone,
  height,
  linked,
}: {
  panel: Panel;
  answers: Answers;
  zone: string;
  height: number;
  linked: LinkContext;
}) {
  const { options } = panel;
  const lines = new Map<string, TableLine>();
  answers.forEach((answer, i) => {
    for (const row of rowsOf(answer.data.data as InstantData)) {
      const { __name__: _, ...labels } = row.labels;
      const key = JSON.stringify(Object.entries(labels).sort());
      const line = lines.get(key) ?? {
        labels: answers.length === 1 ? row.labels : labels,
        time: row.time,
        values: [],
        texts: [],
      };
      line.values[i] = row.value;
      line.texts[i] = row.text;
      lines.set(key, line);
    }
  });
  const rows = [...lines.values()];
  if (rows.length === 0) return <NoValue panel={panel} />;
  const keys = [...new Set(rows.flatMap((r) => Object.keys(r.labels)))].sort();
  const names = answers.map((a) => (answers.length === 1 ? 'Value' : `Value #${a.ref}`));
  /** All of a row, by the names of its columns. */
  const fieldsOf = (l: TableLine): [string, string][] => [
    ...keys.map((key): [string, string] => [key, l.labels[key] ?? '']),
    ...names.map((name, i): [string, string] => [name, l.texts[i] ?? String(l.values[i] ?? '')]),
  ];
  const rules = new Map((options.columns ?? []).map((c) => [c.name, c]));
  const fields: { name: string; title: string; column: ColumnDef<TableLine> }[] = [];
  const add = (
    name: string,
    numeric: boolean,
    sort: (l: TableLine) => number | string,
    cell: (l: TableLine) => ReactNode,
  ) => {
    const rule = rules.get(name);
    if (rule?.hidden || lookOf(options, name).hidden) return;
    const title = rule?.rename ?? lookOf({ overrides: options.overrides }, name).name ?? name;
    fields.push({
      name,
      title,
      column: { id: name, title, width: numeric ? 'minmax(90px, 160px)' : 'minmax(110px, 1fr)', numeric, sort, cell },
    });
  };
  // What the panel says of all values is said of numbers; of labels, what names them.
  const ofOverrides = (name: string) => {
    const title = rules.get(name)?.rename ?? name;
    return (
      lookOf({ overrides: options.overrides }, name).links ?? lookOf({ overrides: options.overrides }, title).links
    );
  };
  add(
    'Time',
    false,
    (l) => l.time ?? 0,
    (l) => (l.time === null ? '–' : formatMoment(l.time, zone)),
  );
  for (const key of keys)
    add(
      key,
      false,
      (l) => l.labels[key] ?? '',
      (l) => (
        <Linked
          links={ofOverrides(key)}
          context={linked}
          value={{
            raw: l.labels[key] ?? '',
            text: l.labels[key] ?? '',
            name: key,
            labels: l.labels,
            fields: fieldsOf(l),
          }}
        >
          <bdi title={(l.labels[key] ?? '').slice(0, 2000)}>{(l.labels[key] ?? '').slice(0, 300)}</bdi>
        </Linked>
      ),
    );
  answers.forEach((answer, i) => {
    const name = answers.length === 1 ? 'Value' : `Value #${answer.ref}`;
    const renamed = rules.get(name)?.rename ?? name;
    add(
      name,
      true,
      (l) => l.values[i] ?? Number.NEGATIVE_INFINITY,
      (l) => {
        if (l.texts[i] !== undefined) return <bdi>{l.texts[i]!.slice(0, 200)}</bdi>;
        const value = l.values[i] ?? null;
        const base = lookOf(options, name, answer.ref);
        const look = renamed === name ? base : lookOf({ ...base, overrides: options.overrides }, renamed, answer.ref);
        const said = showValue(value, look);
        const colour = said.colour ?? (options.colourBy === 'background' ? thresholdColour(value, look) : undefined);
        return (
          <Linked
            links={look.links}
            context={linked}
            value={{
              raw: value,
              text: said.text,
              time: l.time ?? undefined,
              name: renamed,
              labels: l.labels,
              fields: fieldsOf(l),
            }}
          >
            <span style={colour ? { color: colour } : undefined}>{said.text}</span>
          </Linked>
        );
      },
    );
  });
  const at = (name: string, i: number): number => rules.get(name)?.at ?? 1000 + i;
  const ordered = fields.map((f, i) => ({ f, at: at(f.name, i) })).sort((a, b) => a.at - b.at);
  // Without a word about the time, it is the same in every row.
  const columns = ordered.map(({ f }) => f.column).filter((c) => c.id !== 'Time' || rules.has('Time'));
  const sorted =
    options.sortBy &&
    ordered.find(({ f }) => f.title === options.sortBy!.name || f.name === options.sortBy!.name)?.f.column.id;
  return (
    <DataTable
      rows={rows}
      columns={columns}
      rowKey={(_, i) => i}
      height={height}
      initialSort={sorted ? { id: sorted, down: options.sortBy!.down } : undefined}
      label={panel.title || 'Table'}
    />
  );
}

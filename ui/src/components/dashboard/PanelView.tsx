// One panel of a dashboard: it asks its queries while it is in sight, and draws what it is.

import { useQueries } from '@tanstack/react-query';
import { lazy, type ReactNode, Suspense, useEffect, useMemo, useRef, useState } from 'react';
import { createPortal } from 'react-dom';
import { type Answer, ApiError } from '../../api/client';
import { type InstantData, type MatrixSeries, queryInstant, queryRange, type RangeData } from '../../api/prometheus';
import { assignLooks, seriesColour } from '../../lib/colour';
import {
  type FieldLook,
  lookOf,
  type Panel,
  type Reducer,
  safeColour,
  showValue,
  thresholdColour,
} from '../../lib/dashboard/model';
import { builtins, interpolate, type Scope } from '../../lib/dashboard/variables';
import { type Frame, type FrameSeries, frameOf, reduce, rowsOf } from '../../lib/frame';
import { heatOf, isHistogram } from '../../lib/heatmap';
import type { Labels } from '../../lib/labels';
import { parsePart, snapped } from '../../lib/part';
import { formatMoment, niceStep, parseDuration, parseMoment, type Range } from '../../lib/time';
import { formatValue } from '../../lib/units';
import { useDrawn } from '../../state/drawn';
import { type AnnotationContext, useMarks } from '../../state/marks';
import { currentTenant } from '../../state/prefs';
import { aligned } from '../../state/queries';
import { useTheme } from '../../state/theme';
import { Chart, type Threshold } from '../Chart';
import { type ColumnDef, DataTable } from '../DataTable';
import { Heatmap } from '../Heatmap';
import { Legend, toggled } from '../Legend';
import { Markdown } from '../Markdown';
import { Empty, ErrorBox, Skeleton } from '../states';
import { MarksOver } from './MarksOver';

const PartEdges = lazy(async () => ({ default: (await import('../Part')).PartEdges }));
const PanelPart = lazy(async () => ({ default: (await import('./PanelPart')).PanelPart }));

export interface PanelContext {
  range: Range;
  utc: boolean;
  scope: Scope;
  tenant: string | undefined;
  sync: string;
  onZoom: (range: Range) => void;
  /** What is marked on time series. */
  marked: AnnotationContext;
  /** Takes a part of a time series' time that is chosen; without it none is. */
  onPart?: (part: Range) => void;
  /** Of the panel that is shown alone. */
  chosen?: ChosenPart;
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
export function panelRange(panel: Panel, range: Range, scope: Scope): Range {
  let { from, to } = range;
  const back = panel.timeFrom ? interpolate(panel.timeFrom, scope) : '';
  if (back) {
    const text = /^now/.test(back) ? back : `now-${back}`;
    from = parseMoment(text, to, true) ?? from;
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

/** Everything that a panel's queries become with the variables in. */
export function usePanelData(panel: Panel, context: PanelContext, width: number, enabled: boolean) {
  const range = panelRange(panel, context.range, context.scope);
  const least = panel.queries.reduce(
    (least, q) => Math.max(least, parseDuration(interpolate(q.step ?? '', context.scope)) ?? 0),
    1000,
  );
  const step = niceStep(range, Math.max(60, Math.min(width / (panel.kind === 'heatmap' ? 7 : 3), 700)), least);
  const scope = { ...builtins(range, step), ...context.scope };
  const span = aligned(range, step);
  const asked = panel.queries
    .filter((q) => !q.hidden && q.expr.trim() !== '')
    .map((q) => ({
      expr: interpolate(q.expr, scope),
      legend: q.legend === undefined ? undefined : interpolate(q.legend, scope, 'text'),
      ref: q.ref,
      instant: q.instant === true || panel.kind === 'table' || (panel.kind === 'bar' && q.instant !== false),
    }));
  const results = useQueries({
    queries: asked.map((q) => ({
      queryKey: [
        'timed',
        'panel',
        context.tenant ?? currentTenant(),
        q.expr,
        q.instant,
        span.from,
        span.to,
        step,
      ] as const,
      enabled,
      placeholderData: (old: Answer<RangeData> | Answer<InstantData> | undefined) => old,
      staleTime: 5000,
      gcTime: 120_000,
      queryFn: async ({ signal }: { signal: AbortSignal }): Promise<Answer<RangeData> | Answer<InstantData>> =>
        q.instant
          ? queryInstant({ query: q.expr, time: range.to, tenant: context.tenant }, signal)
          : queryRange({ query: q.expr, ...span, step, tenant: context.tenant }, signal),
    })),
  });
  return { results, asked, range, span, step, scope };
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
  const [seen, setSeen] = useState(false);
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const observer = new IntersectionObserver(([entry]) => setSeen(entry?.isIntersecting ?? false), {
      rootMargin: '200px',
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  const text = panel.kind === 'text';
  const data = usePanelData(panel, context, width, seen && !text);
  const error = data.results.find((r) => r.error)?.error;
  const answers: Answers = data.results.flatMap((r, i) => (r.data ? [{ data: r.data, ...data.asked[i]! }] : []));
  const pending = data.results.some((r) => r.isPending);
  const dimmed = data.results.some((r) => r.isPlaceholderData);
  const warnings = [...new Set(answers.flatMap((a) => a.data.warnings))];
  const infos = [...new Set(answers.flatMap((a) => a.data.infos))];

  let content: ReactNode;
  if (text) {
    const source = interpolate(panel.options.text ?? '', context.scope, 'text');
    content = panel.options.plain ? <pre className="text-plain">{source}</pre> : <Markdown text={source} />;
  } else if (data.asked.length === 0) {
    content = <Empty title="This panel asks nothing">It has no query; edit it to write one.</Empty>;
  } else if (error && answers.length === 0) {
    const query = data.asked[data.results.findIndex((r) => r.error)]?.expr;
    content = height < 130 ? <SmallError error={error} /> : <ErrorBox error={error} query={query} />;
  } else if (pending && answers.length === 0) {
    // Out of sight nothing is asked, so nothing is on its way.
    content = seen ? <Skeleton height={height} rows={Math.max(1, Math.min(6, Math.floor(height / 30)))} /> : null;
  } else {
    content = (
      <Drawn
        panel={panel}
        answers={answers}
        context={context}
        height={height}
        data={data}
        dimmed={dimmed}
        width={width}
      />
    );
  }
  return (
    <div ref={box} className={`panel-content ${text ? 'is-text' : ''}`} style={{ height }} data-ready={!pending}>
      {content}
      {error && answers.length > 0 && <SmallError error={error} />}
      {warnings.length + infos.length > 0 && (
        <span
          className={`panel-warning ${warnings.length > 0 ? 'warn' : 'muted'}`}
          title={[...warnings, ...infos].join('\n')}
        >
          {warnings.length > 0 ? '▲ warning' : '◆ note'}
        </span>
      )}
    </div>
  );
}

function SmallError({ error }: { error: unknown }) {
  const message = error instanceof Error ? error.message : String(error);
  return (
    <p className="panel-error critical small" role="alert" title={message}>
      ■ {error instanceof ApiError ? `${error.type}: ` : ''}
      {message}
    </p>
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
  switch (panel.kind) {
    case 'timeseries':
      return (
        <TimeSeries panel={panel} answers={answers} context={context} height={height} data={data} dimmed={dimmed} />
      );
    case 'heatmap':
      return (
        <HeatPanel panel={panel} answers={answers} context={context} height={height} data={data} dimmed={dimmed} />
      );
    case 'stat':
    case 'gauge':
      return <Figures panel={panel} answers={answers} data={data} height={height} width={width} />;
    case 'bar':
      return <Bars panel={panel} answers={answers} data={data} />;
    case 'table':
      return <TablePanel panel={panel} answers={answers} utc={context.utc} height={height} />;
    default:
      return null;
  }
}

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
    const series = frame.series
      .map((s) => {
        const look = lookOf(panel.options, s.name, answers[s.query]?.ref);
        return { s, look };
      })
      .filter(({ look }) => !look.hidden)
      .map(({ s, look }) => ({
        ...s,
        name: look.name ?? s.name,
        values: look.negate ? s.values.map((v) => (v === null ? null : -v)) : s.values,
        negated: look.negate,
      }));
    return { times: frame.times, series };
  }, [
    answers.map((a) => a.data).reduce((key, a) => `${key}|${a.elapsedMs}|${a.bytes}`, ''),
    span.from,
    span.to,
    step,
    panel.options,
  ]);
}

function useColours(frame: Frame, panel: Panel, answers: Answers): (string | undefined)[] | undefined {
  const theme = useTheme();
  // biome-ignore lint/correctness/useExhaustiveDependencies: colours of tokens change with the theme
  return useMemo(() => {
    const all = frame.series.map((s) =>
      resolved(safeColour(lookOf(panel.options, s.name, answers[s.query]?.ref).colour)),
    );
    return all.some(Boolean) ? all : undefined;
  }, [frame, panel.options, theme]);
}

/** A colour as canvases take it. */
function resolved(colour: string | undefined): string | undefined {
  const token = colour && /^var\((--[\w-]+)\)$/.exec(colour)?.[1];
  return token ? getComputedStyle(document.documentElement).getPropertyValue(token).trim() : colour;
}

const DRAWN = 100;

function TimeSeries({
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
  const { options } = panel;
  const whole = useFrame(answers, data, panel);
  const { shown: frame, hidden, setHidden, only, setOnly } = useDrawn(whole, DRAWN);
  const { chosen } = context;
  const { from, to } = data.span;
  const part = useMemo(() => parsePart(chosen?.part, { from, to }), [chosen?.part, from, to]);
  const { onPart } = context;
  const choose = onPart && ((next: Range) => onPart(snapped(next, data.step)));
  const colours = useColours(frame, panel, answers);
  const marks = useMarks(context.marked, data.range);
  const [emphasised, setEmphasised] = useState<string | null>(null);
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
  const look: FieldLook = lookOf(options, first.name, answers[first.query]?.ref);
  return (
    <>
      <Chart
        frame={frame}
        range={data.span}
        utc={context.utc}
        height={Math.max(40, height - legendHeight - (whole.series.length > DRAWN ? 18 : 0))}
        unit={options.unit ?? look.unit}
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
        over={(area) => (
          <>
            {context.marked.annotations.length > 0 && (
              <MarksOver
                area={area}
                range={data.span}
                utc={context.utc}
                annotations={context.marked.annotations}
                marks={marks.map((m) => m.data?.marks)}
              />
            )}
            {part && chosen && (
              <PartEdges
                area={area}
                range={data.span}
                times={frame.times}
                part={part}
                utc={context.utc}
                focus={chosen.focus}
                onPart={(next) => chosen.onMove(snapped(next, data.step))}
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
              unit={options.unit}
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
              names={answers.map((a) => a.ref)}
              unit={options.unit ?? look.unit}
              utc={context.utc}
              only={only}
              onOnly={setOnly}
            />
          </Suspense>,
          chosen.below,
        )}
    </>
  );
}

function LegendList({
  frame,
  colours,
  height,
  hidden,
  onHidden,
  onEmphasise,
}: {
  frame: Frame;
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
        <button
          key={s.id}
          type="button"
          className={hidden.has(s.id) ? 'is-off' : ''}
          aria-pressed={!hidden.has(s.id)}
          title={s.name}
          onMouseEnter={() => onEmphasise(s.id)}
          onMouseLeave={() => onEmphasise(null)}
          onClick={(e) => onHidden(toggled(ids, hidden, s.id, e.ctrlKey || e.metaKey))}
        >
          <span className="swatch" style={{ background: colours?.[i] ?? seriesColour(looks[i]!.colour) }} aria-hidden />
          <bdi>{s.name}</bdi>
        </button>
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
      <TimeSeries
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
      utc={context.utc}
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
}: {
  panel: Panel;
  answers: Answers;
  data: PanelData;
  height: number;
  width: number;
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
}: {
  series: FrameSeries;
  panel: Panel;
  height: number;
  width: number;
  named: boolean;
  look: FieldLook;
}) {
  const { options } = panel;
  const value = reduced(series.values, options.reduce);
  const [min, max] = [look.min ?? 0, look.max ?? (look.unit === 'percentunit' ? 1 : 100)];
  const said = showValue(value, look, options.noValue);
  const colour = said.colour ?? thresholdColour(value, look, min, max) ?? safeColour(look.colour);
  if (panel.kind === 'gauge') {
    return (
      <div className="gauge-cell">
        <GaugeArc
          value={value}
          min={min}
          max={max}
          colour={colour ?? 'var(--series-1)'}
          text={said.text}
          height={height - (named ? 18 : 0)}
          look={look}
        />
        {named && <bdi className="figure-name">{series.name}</bdi>}
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
        {said.text}
      </span>
    </div>
  );
}

function Sparkline({ values, colour }: { values: (number | null)[]; colour: string }) {
  const r = reduce(values);
  if (r.count < 2 || r.min === null || r.max === null) return null;
  const span = r.max - r.min || 1;
  const points = values
    .map((v, i) =>
      v === null || !Number.isFinite(v)
        ? null
        : ([(i / (values.length - 1)) * 100, 30 - ((v - r.min!) / span) * 26] as [number, number]),
    )
    .filter((p) => p !== null);
  const line = points.map(([x, y]) => `${x},${y}`).join(' ');
  return (
    <svg className="sparkline" viewBox="0 0 100 32" preserveAspectRatio="none" aria-hidden="true">
      <polyline
        points={`${points[0]![0]},32 ${line} ${points.at(-1)![0]},32`}
        fill={colour}
        fillOpacity="0.12"
        stroke="none"
      />
      <polyline points={line} fill="none" stroke={colour} strokeWidth="1.2" vectorEffect="non-scaling-stroke" />
    </svg>
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

function Bars({ panel, answers, data }: { panel: Panel; answers: Answers; data: PanelData }) {
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
              <span className="tab-num bar-list-value">{said.text}</span>
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
function TablePanel({ panel, answers, utc, height }: { panel: Panel; answers: Answers; utc: boolean; height: number }) {
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
  add(
    'Time',
    false,
    (l) => l.time ?? 0,
    (l) => (l.time === null ? '–' : formatMoment(l.time, utc)),
  );
  for (const key of keys)
    add(
      key,
      false,
      (l) => l.labels[key] ?? '',
      (l) => <bdi title={(l.labels[key] ?? '').slice(0, 2000)}>{(l.labels[key] ?? '').slice(0, 300)}</bdi>,
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
        return <span style={colour ? { color: colour } : undefined}>{said.text}</span>;
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

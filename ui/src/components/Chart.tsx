// Time series on a canvas, by uPlot: lines, bars or points, stacked or not, with brush zoom, a part that is chosen, a
// shared cursor, exemplars and thresholds. The tooltip is made of text nodes: what labels hold can not become markup.

import { type ReactNode, Suspense, useEffect, useMemo, useRef, useState } from 'react';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { assignLooks, seriesColour, token } from '../lib/colour';
import type { Frame } from '../lib/frame';
import { formatMoment, type Range, zonedDate } from '../lib/time';
import { formatValue } from '../lib/units';
import { useTheme } from '../state/theme';

export interface Threshold {
  value: number;
  colour: string;
}

export interface ExemplarDot {
  time: number;
  value: number;
  /** Name and value of each label of the exemplar and of its series. */
  labels: [string, string][];
}

export interface Pick {
  series: Frame['series'][number];
  at: number;
  left: number;
  top: number;
}

export interface ChartProps {
  frame: Frame;
  range: Range;
  zone: string;
  height: number;
  unit?: string;
  decimals?: number;
  draw?: 'line' | 'bars' | 'points';
  stack?: 'none' | 'normal' | 'percent';
  fill?: number;
  lineWidth?: number;
  stepped?: boolean;
  min?: number;
  max?: number;
  log?: boolean;
  thresholds?: Threshold[];
  /** Of the frame's series: those that are not drawn. */
  hidden?: ReadonlySet<string>;
  emphasised?: string | null;
  exemplars?: ExemplarDot[];
  onExemplar?: (dot: ExemplarDot) => void;
  /** Takes the value that a click is on: of a series of the frame, at one of its times, and where in the plot. */
  onPick?: (pick: Pick) => void;
  onZoom?: (range: Range) => void;
  onZoomOut?: () => void;
  /** Takes what is dragged over with Shift, instead of a zoom. */
  onPart?: (part: Range) => void;
  /** What lies over the plot, by its left, top, width and height as styles say it. */
  over?: (area: string) => ReactNode;
  /** Whether the frame's times are plain numbers. */
  linear?: boolean;
  /** Charts with the same key share the cursor. */
  sync?: string;
  /** Colours by series, where something other than the palette says them. */
  colours?: (string | undefined)[];
  dimmed?: boolean;
  label: string;
  compact?: boolean;
}

/** Above this number of series, hover dims nothing: redrawing all of them costs more than it tells. */
const MANY = 100;
const TOOLTIP_ROWS = 12;

/** Values piled up in the order of series; gaps add nothing. */
export function stacked(columns: (number | null)[][], percent: boolean): (number | null)[][] {
  const length = columns[0]?.length ?? 0;
  const total = new Array<number>(length).fill(0);
  if (percent)
    for (const column of columns) for (let i = 0; i < length; i++) total[i] = total[i]! + Math.abs(finite(column[i]));
  const sum = new Array<number>(length).fill(0);
  return columns.map((column) =>
    column.map((value, i) => {
      const share = percent ? (total[i] === 0 ? 0 : (finite(value) / total[i]!) * 100) : finite(value);
      sum[i] = sum[i]! + share;
      return value === null ? null : sum[i]!;
    }),
  );
}

const finite = (value: number | null | undefined): number =>
  value === null || value === undefined || !Number.isFinite(value) ? 0 : value;

/** uPlot knows no infinities: they would take the scale with them. */
const drawable = (column: (number | null)[]): (number | null)[] =>
  column.map((v) => (v === null || Number.isFinite(v) ? v : null));

export function Chart(props: ChartProps) {
  const { frame, height, label, dimmed } = props;
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef(props);
  latest.current = props;
  const [width, setWidth] = useState(0);
  const [area, setArea] = useState('');
  const theme = useTheme();

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const observer = new ResizeObserver(([entry]) => {
      if (entry) setWidth(Math.floor(entry.contentRect.width));
    });
    observer.observe(element);
    setWidth(Math.floor(element.clientWidth));
    return () => observer.disconnect();
  }, []);

  const stack = props.stack ?? 'none';
  const hiddenKey = [...(props.hidden ?? [])].join('\n');
  // Bars that are piled up are drawn from the whole pile down: what is drawn later covers what is below it.
  const isPiled = stack !== 'none' && props.draw === 'bars';
  const visible = useMemo(() => {
    const list = frame.series.filter((s) => !props.hidden?.has(s.id));
    return isPiled ? list.reverse() : list;
  }, [frame, props.hidden, isPiled]);
  const data = useMemo<uPlot.AlignedData>(() => {
    const columns = visible.map((s) => drawable(s.values));
    if (stack === 'none') return [frame.times, ...columns] as uPlot.AlignedData;
    const piled = stacked(isPiled ? columns.reverse() : columns, stack === 'percent');
    return [frame.times, ...(isPiled ? piled.reverse() : piled)] as uPlot.AlignedData;
  }, [frame, visible, stack, isPiled]);

  // All that needs a new plot; values alone do not.
  const structure = JSON.stringify([
    frame.series.map((s) => s.id),
    hiddenKey,
    stack,
    theme,
    props.draw,
    props.fill,
    props.lineWidth,
    props.stepped,
    props.unit,
    props.decimals,
    props.min,
    props.max,
    props.log,
    props.thresholds,
    props.sync,
    props.linear,
    props.zone,
    props.colours,
    props.compact,
    stack === 'percent',
  ]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: `structure` stands for what the plot is made from
  useEffect(() => {
    const element = box.current;
    if (!element || width < 20) return;
    const begun = performance.now();
    const made = new uPlot(options(latest, visible, width, height, setArea), data, element);
    // Drawing is asked for in a microtask; after it, it is done. What it took stands in the browser's own profile.
    queueMicrotask(() => queueMicrotask(() => performance.measure('chart', { start: begun, end: performance.now() })));
    plot.current = made;
    return () => {
      plot.current = null;
      made.destroy();
    };
  }, [structure, width > 20]);

  useEffect(() => {
    const made = plot.current;
    if (made && width >= 20 && (made.width !== width || made.height !== height)) made.setSize({ width, height });
  }, [width, height]);

  useEffect(() => {
    const made = plot.current;
    if (!made || made.data === data || made.series.length !== data.length) return;
    made.setData(data, false);
    const { from, to } = latest.current.range;
    made.setScale('x', { min: from, max: to });
  }, [data]);

  const { from, to } = props.range;
  useEffect(() => {
    plot.current?.setScale('x', { min: from, max: to });
  }, [from, to]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: new dots are drawn anew
  useEffect(() => {
    plot.current?.redraw(false);
  }, [props.exemplars]);

  useEffect(() => {
    const made = plot.current;
    if (!made || visible.length > MANY) return;
    const at = props.emphasised ? visible.findIndex((s) => s.id === props.emphasised) : -1;
    made.setSeries(at < 0 ? null : at + 1, { focus: true }, true);
  }, [props.emphasised, visible]);

  const summary = `${label}: ${frame.series.length} series, ${frame.times.length} steps`;
  return (
    <div className={`chart ${dimmed ? 'is-dimmed' : ''}`} style={{ height }} data-testid="chart">
      <div ref={box} role="img" aria-label={summary} />
      {area !== '' && <Suspense>{props.over?.(area)}</Suspense>}
    </div>
  );
}

function options(
  latest: { current: ChartProps },
  visible: Frame['series'],
  width: number,
  height: number,
  onArea: (area: string) => void,
): uPlot.Options {
  const props = latest.current;
  // What a drag that began on this chart does. One that began on another chart of the same cursor does nothing here.
  let drag: 'zoom' | 'choose' | null = null;
  const { frame, unit, decimals, zone } = props;
  const looks = assignLooks(frame.series.map((s) => s.id));
  const lookOf = new Map(frame.series.map((s, i) => [s.id, { ...looks[i]!, own: props.colours?.[i] }]));
  const muted = token('muted');
  const grid = token('line-soft');
  const font = `11px ${token('font-ui')}`;
  const stack = props.stack ?? 'none';
  const fill = props.fill ?? (stack === 'none' ? (visible.length === 1 ? 0.1 : 0) : 0.35);
  const shownUnit = stack === 'percent' ? 'percent' : unit;

  const series: uPlot.Series[] = visible.map((s) => {
    const look = lookOf.get(s.id)!;
    const stroke = look.own ?? seriesColour(look.colour);
    const line: uPlot.Series = {
      label: s.name,
      stroke,
      width: props.lineWidth ?? (visible.length > MANY ? 1 : 1.5),
      dash: look.own ? undefined : look.dash,
      fill: fill > 0 ? withAlpha(stroke, fill) : undefined,
      points: { show: props.draw === 'points' ? true : undefined, size: 5 },
      spanGaps: false,
    };
    if (props.draw === 'bars') {
      line.paths = uPlot.paths.bars!({ size: [0.7, 40] });
      line.fill = stack === 'none' ? withAlpha(stroke, Math.max(fill, 0.7)) : stroke;
      line.points = { show: false };
    } else if (props.draw === 'points') {
      line.paths = () => null;
    } else if (props.stepped) {
      line.paths = uPlot.paths.stepped!({ align: 1 });
    }
    return line;
  });

  const bands: uPlot.Band[] =
    stack === 'none' || props.draw === 'bars'
      ? []
      : visible.slice(1).map((_, i) => ({ series: [i + 2, i + 1] as [number, number] }));

  return {
    width,
    height,
    ms: 1,
    pxAlign: 0,
    tzDate: (ms) => zonedDate(ms, zone),
    padding: [8, 12, 0, 4],
    legend: { show: false },
    cursor: {
      points: { one: true, size: 7, width: 1 },
      focus: { prox: visible.length > MANY ? 12 : 24 },
      drag: { x: true, y: false, setScale: false, dist: 4 },
      sync: props.sync ? { key: props.sync, setSeries: false } : undefined,
      bind: {
        mousedown: (_, target, begin) => (event) => {
          if (event.button === 0 && event.target === target) {
            drag = event.shiftKey && latest.current.onPart ? 'choose' : 'zoom';
            begin(event);
          }
          return null;
        },
        dblclick: () => () => {
          latest.current.onZoomOut?.();
          return null;
        },
      },
    },
    focus: { alpha: visible.length > MANY ? 1 : 0.22 },
    scales: {
      x: { time: !props.linear, min: props.range.from, max: props.range.to },
      y: {
        distr: props.log ? 3 : 1,
        range: (_, dataMin, dataMax) => yRange(dataMin, dataMax, props),
      },
    },
    axes: [
      {
        stroke: muted,
        font,
        grid: { stroke: grid, width: 1 },
        ticks: { show: false },
        size: 26,
        gap: 6,
        space: 64,
        values: (_, splits, __, ___, step) =>
          splits.map((at) => (props.linear ? formatValue(at) : axisTime(at, step, zone))),
      },
      {
        stroke: muted,
        font,
        grid: { stroke: grid, width: 1 },
        ticks: { show: false },
        gap: 6,
        space: 34,
        incrs: BINARY.has(unit ?? '') ? POWERS_OF_TWO : undefined,
        size: (self, values) => axisWidth(self, values, font),
        values: (_, splits) => splits.map((v) => (v === null ? '' : formatValue(v, shownUnit, decimals))),
      },
    ],
    series: [{}, ...series],
    bands,
    hooks: {
      setSelect: [
        (self) => {
          const { left, width: chosen } = self.select;
          const span = { from: self.posToVal(left, 'x'), to: self.posToVal(left + chosen, 'x') };
          if (chosen > 3 && drag === 'zoom') latest.current.onZoom?.(span);
          if (chosen > 3 && drag === 'choose') latest.current.onPart?.(span);
          drag = null;
          self.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        },
      ],
      draw: [
        (self) => drawThresholds(self, latest.current),
        (self) => drawExemplars(self, latest.current),
        ({ bbox }) =>
          onArea([bbox.left, bbox.top, bbox.width, bbox.height].map((px) => `${px / devicePixelRatio}px`).join()),
      ],
    },
    plugins: [tooltip(latest, visible, (id) => lookOf.get(id)?.own ?? seriesColour(lookOf.get(id)?.colour ?? 0))],
  };
}

/** Units whose round numbers are powers of two. */
const BINARY = new Set(['bytes', 'binBps', 'kbytes', 'mbytes', 'gbytes']);
const POWERS_OF_TWO = Array.from({ length: 64 }, (_, i) => 2 ** (i - 4));

function yRange(dataMin: number | null, dataMax: number | null, props: ChartProps): [number | null, number | null] {
  let low = dataMin ?? 0;
  let high = dataMax ?? 1;
  if (props.log) return [props.min ?? (low > 0 ? low : null), props.max ?? high];
  if (props.stack === 'percent') return [0, 100];
  if (props.stack === 'normal' || props.draw === 'bars') low = Math.min(low, 0);
  if (low === high) {
    const around = low === 0 ? 1 : Math.abs(low) * 0.1;
    [low, high] = [low - around, high + around];
    if (dataMin !== null && dataMin >= 0) low = Math.max(low, 0);
  }
  const room = (high - low) * 0.06;
  // A series that is never negative is not shown as if it could be.
  const bottom = dataMin !== null && dataMin >= 0 ? Math.max(0, low - room) : low - room;
  // Near zero, zero is the honest bottom.
  const grounded = bottom > 0 && bottom < (high - bottom) * 0.6 ? 0 : bottom;
  return [props.min ?? grounded, props.max ?? high + room];
}

function axisTime(ms: number, step: number, zone: string): string {
  const text = formatMoment(ms, zone, true);
  if (step < 1000) return text.slice(11);
  if (step < 60_000) return text.slice(11, 19);
  if (step < 86_400_000) return text.slice(11, 16) === '00:00' ? text.slice(5, 10) : text.slice(11, 16);
  return text.slice(5, 10);
}

function axisWidth(self: uPlot, values: string[] | null, font: string): number {
  if (!values) return 44;
  self.ctx.save();
  self.ctx.font = font;
  const widest = Math.max(...values.map((v) => self.ctx.measureText(v).width));
  self.ctx.restore();
  return Math.ceil(Math.max(34, widest + 14));
}

export function withAlpha(colour: string, alpha: number): string {
  const hex = /^#([0-9a-f]{6})$/i.exec(colour);
  if (!hex) return colour;
  return `${colour}${Math.round(Math.min(Math.max(alpha, 0), 1) * 255)
    .toString(16)
    .padStart(2, '0')}`;
}

function drawThresholds(self: uPlot, props: ChartProps): void {
  for (const { value, colour } of props.thresholds ?? []) {
    const y = Math.round(self.valToPos(value, 'y', true));
    if (y < self.bbox.top || y > self.bbox.top + self.bbox.height) continue;
    self.ctx.save();
    self.ctx.strokeStyle = colour;
    self.ctx.lineWidth = devicePixelRatio;
    self.ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
    self.ctx.beginPath();
    self.ctx.moveTo(self.bbox.left, y);
    self.ctx.lineTo(self.bbox.left + self.bbox.width, y);
    self.ctx.stroke();
    self.ctx.restore();
  }
}

const DOT = 4;

function exemplarAt(self: uPlot, props: ChartProps, left: number, top: number): ExemplarDot | null {
  let best: ExemplarDot | null = null;
  let nearest = 10;
  for (const dot of props.exemplars ?? []) {
    const distance = Math.hypot(self.valToPos(dot.time, 'x') - left, self.valToPos(dot.value, 'y') - top);
    if (distance < nearest) [best, nearest] = [dot, distance];
  }
  return best;
}

function drawExemplars(self: uPlot, props: ChartProps): void {
  if (!props.exemplars || props.exemplars.length === 0) return;
  const size = DOT * devicePixelRatio;
  self.ctx.save();
  self.ctx.fillStyle = token('warn');
  self.ctx.strokeStyle = token('panel');
  self.ctx.lineWidth = devicePixelRatio;
  for (const dot of props.exemplars) {
    const x = self.valToPos(dot.time, 'x', true);
    const y = self.valToPos(dot.value, 'y', true);
    if (
      x < self.bbox.left ||
      x > self.bbox.left + self.bbox.width ||
      y < self.bbox.top ||
      y > self.bbox.top + self.bbox.height
    )
      continue;
    // A diamond: no series is drawn with one.
    self.ctx.beginPath();
    self.ctx.moveTo(x, y - size);
    self.ctx.lineTo(x + size, y);
    self.ctx.lineTo(x, y + size);
    self.ctx.lineTo(x - size, y);
    self.ctx.closePath();
    self.ctx.fill();
    self.ctx.stroke();
  }
  self.ctx.restore();
}

function tooltip(
  latest: { current: ChartProps },
  visible: Frame['series'],
  colourOf: (id: string) => string,
): uPlot.Plugin {
  const box = document.createElement('div');
  box.className = 'chart-tip';
  box.hidden = true;
  let focused: number | null = null;

  const line = (name: string, value: string, colour: string | null, strong: boolean): HTMLElement => {
    const row = document.createElement('div');
    row.className = strong ? 'chart-tip-row is-near' : 'chart-tip-row';
    const key = document.createElement('span');
    key.className = 'chart-tip-key';
    if (colour) key.style.background = colour;
    const text = document.createElement('span');
    text.className = 'chart-tip-name';
    text.textContent = name.length > 120 ? `${name.slice(0, 120)}…` : name;
    text.dir = 'auto';
    const number = document.createElement('span');
    number.className = 'chart-tip-value';
    number.textContent = value;
    row.append(key, text, number);
    return row;
  };

  return {
    hooks: {
      init: (self) => {
        self.over.append(box);
        self.over.addEventListener('mouseleave', () => {
          box.hidden = true;
        });
        self.over.addEventListener('click', (event) => {
          const props = latest.current;
          const dot = props.onExemplar && exemplarAt(self, props, event.offsetX, event.offsetY);
          if (dot) props.onExemplar?.(dot);
          const [at, series] = [self.cursor.idx, focused === null ? undefined : visible[focused - 1]];
          if (!dot && series && typeof at === 'number' && (series.values[at] ?? null) !== null)
            props.onPick?.({ series, at, left: event.offsetX, top: event.offsetY });
        });
      },
      setSeries: (_, at) => {
        focused = at;
      },
      setCursor: (self) => {
        const { left, top, idx } = self.cursor;
        const props = latest.current;
        // A cursor that another chart moves draws its line; the tooltip is for the chart under the pointer.
        const mine = self.over.matches(':hover');
        if (!mine || idx === null || idx === undefined || left === undefined || top === undefined || left < 0) {
          box.hidden = true;
          return;
        }
        const dot = exemplarAt(self, props, left, top);
        const rows: HTMLElement[] = [];
        const head = document.createElement('div');
        head.className = 'chart-tip-time';
        const at = dot ? dot.time : props.frame.times[idx]!;
        head.textContent = props.linear ? formatValue(at, 'none') : formatMoment(at, props.zone, dot !== null);
        rows.push(head);
        if (dot) {
          rows.push(line('exemplar', formatValue(dot.value, props.unit), null, true));
          for (const [name, value] of dot.labels.slice(0, TOOLTIP_ROWS)) rows.push(line(name, value, null, false));
        } else {
          const found = visible
            .map((s, i) => ({ s, at: i + 1, value: s.values[idx] ?? null }))
            .filter((row) => row.value !== null)
            .sort((a, b) => (b.value ?? 0) - (a.value ?? 0));
          const near = found.find((row) => row.at === focused);
          const shown = found.slice(0, TOOLTIP_ROWS);
          if (near && !shown.includes(near)) shown[shown.length - 1] = near;
          for (const row of shown) {
            const value = formatValue(row.value, props.unit, props.decimals);
            rows.push(line(row.s.name, value, colourOf(row.s.id), row === near));
          }
          if (found.length > shown.length) rows.push(line(`… ${found.length - shown.length} more`, '', null, false));
          if (found.length === 0) rows.push(line('no value here', '', null, false));
        }
        box.replaceChildren(...rows);
        box.hidden = false;
        const room = self.over.clientWidth;
        const wide = box.offsetWidth;
        box.style.left = `${left + 14 + wide > room ? Math.max(0, left - wide - 14) : left + 14}px`;
        box.style.top = `${Math.max(0, Math.min(top - 10, self.over.clientHeight - box.offsetHeight))}px`;
      },
    },
  };
}

// A heatmap on a canvas: columns are steps, rows buckets, colour the count. Painted as one image and scaled by the
// browser, so that a thousand columns cost what ten do.

import { useEffect, useMemo, useRef, useState } from 'react';
import type { Heat } from '../lib/heatmap';
import type { HeatBox } from '../lib/part';
import { formatMoment, type Range } from '../lib/time';
import { formatValue } from '../lib/units';
import { useTheme } from '../state/theme';

const LEFT = 64;
const BOTTOM = 24;

/** From nothing to most: dark to bright on dark, pale to deep on light; both read without hue. */
const RAMPS: Record<string, [number, number, number][]> = {
  dark: [
    [24, 32, 44],
    [31, 58, 102],
    [62, 88, 190],
    [140, 92, 214],
    [232, 104, 142],
    [250, 176, 92],
    [252, 244, 180],
  ],
  light: [
    [240, 243, 248],
    [190, 214, 240],
    [110, 168, 222],
    [52, 112, 190],
    [60, 62, 150],
    [84, 26, 110],
    [60, 8, 60],
  ],
};

/** A colour of the ramp; `share` from 0 to 1. */
export function ramp(theme: string, share: number): [number, number, number] {
  const stops = RAMPS[theme] ?? RAMPS.dark!;
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const low = Math.floor(at);
  const [a, b] = [stops[low]!, stops[Math.min(low + 1, stops.length - 1)]!];
  const part = at - low;
  return [0, 1, 2].map((i) => Math.round(a[i]! + (b[i]! - a[i]!) * part)) as [number, number, number];
}

export type { HeatBox };

/** Where the cells lie within a heatmap: left, top, width and height as styles say it. */
export const plotArea = (height: number): string =>
  `${LEFT}px,6px,calc(100% - ${LEFT + 8}px),${Math.max(0, height - BOTTOM - 6)}px`;

interface Hover {
  column: number;
  row: number;
  x: number;
  y: number;
}

export function Heatmap({
  heat,
  range,
  zone,
  height,
  unit,
  onZoom,
  onBox,
  box: chosen,
  dimmed,
  label,
}: {
  heat: Heat;
  range: Range;
  zone: string;
  height: number;
  unit?: string;
  onZoom?: (range: Range) => void;
  /** Takes a drag over times and buckets; where there is a zoom, too, one with Shift. */
  onBox?: (box: HeatBox) => void;
  /** What is chosen. */
  box?: HeatBox | null;
  dimmed?: boolean;
  label: string;
}) {
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  const [hover, setHover] = useState<Hover | null>(null);
  const [drag, setDrag] = useState<{ from: number; to: number; low: number; high: number; isBox: boolean } | null>(
    null,
  );
  const theme = useTheme();

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const observer = new ResizeObserver(([entry]) => entry && setWidth(Math.floor(entry.contentRect.width)));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  const image = useMemo(() => {
    const [columns, rows] = [heat.times.length, heat.rows.length];
    if (columns === 0 || rows === 0 || typeof ImageData === 'undefined') return null;
    const begun = performance.now();
    const data = new ImageData(columns, rows);
    // Counts spread over orders of magnitude: the square root keeps the rare ones visible.
    const most = Math.sqrt(heat.max || 1);
    heat.rows.forEach((row, r) => {
      const line = rows - 1 - r;
      row.counts.forEach((count, c) => {
        if (!count) return;
        const [red, green, blue] = ramp(theme, 0.12 + 0.88 * (Math.sqrt(count) / most));
        data.data.set([red, green, blue, 255], (line * columns + c) * 4);
      });
    });
    performance.measure('heatmap-image', { start: begun, end: performance.now() });
    return data;
  }, [heat, theme]);

  const plotWidth = Math.max(0, width - LEFT - 8);
  const plotHeight = Math.max(0, height - BOTTOM - 6);
  const xOf = (ms: number): number => LEFT + ((ms - range.from) / (range.to - range.from)) * plotWidth;

  // biome-ignore lint/correctness/useExhaustiveDependencies: painted from the image and the sizes
  useEffect(() => {
    const context = canvas.current?.getContext('2d');
    if (!context || !image || width === 0) return;
    const begun = performance.now();
    const scale = devicePixelRatio;
    context.canvas.width = width * scale;
    context.canvas.height = height * scale;
    const source = document.createElement('canvas');
    source.width = image.width;
    source.height = image.height;
    source.getContext('2d')?.putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    // A step's column stands for the step before it: it ends at its moment.
    const [left, right] = [xOf(heat.times[0]! - heat.step), xOf(heat.times.at(-1)!)];
    context.save();
    context.beginPath();
    context.rect(LEFT * scale, 6 * scale, plotWidth * scale, plotHeight * scale);
    context.clip();
    context.drawImage(source, left * scale, 6 * scale, (right - left) * scale, plotHeight * scale);
    context.restore();
    performance.measure('heatmap-paint', { start: begun, end: performance.now() });
  }, [image, width, height, range]);

  const bound = (value: number): string => formatValue(value, unit);
  // As many as do not touch each other.
  const labelled = Math.max(
    heat.rows.length <= 14 ? 1 : Math.ceil(heat.rows.length / 12),
    Math.ceil((14 * heat.rows.length) / Math.max(1, plotHeight)),
  );
  const ticks = Array.from({ length: 6 }, (_, i) => range.from + ((range.to - range.from) * (i + 0.5)) / 6);
  const cell = hover ? heat.rows[hover.row] : undefined;
  const count = hover && cell ? cell.counts[hover.column] : undefined;

  const rowCount = heat.rows.length;
  const place = (event: React.PointerEvent): { ms: number; row: number; hover: Hover | null } => {
    const rect = box.current!.getBoundingClientRect();
    const [x, y] = [event.clientX - rect.left, event.clientY - rect.top];
    const ms = range.from + ((x - LEFT) / plotWidth) * (range.to - range.from);
    const column = Math.ceil((ms - heat.times[0]!) / heat.step);
    const row = rowCount - 1 - Math.floor(((y - 6) / plotHeight) * rowCount);
    const inside =
      x >= LEFT &&
      y >= 6 &&
      y <= 6 + plotHeight &&
      column >= 0 &&
      column < heat.times.length &&
      row >= 0 &&
      row < rowCount;
    return {
      ms: Math.min(Math.max(ms, range.from), range.to),
      row: Math.min(Math.max(row, 0), rowCount - 1),
      hover: inside ? { column, row, x, y } : null,
    };
  };
  /** Where a part lies; without rows all of the height. */
  const placed = (part: Range, low = 0, high = rowCount - 1) => ({
    left: Math.min(xOf(part.from), xOf(part.to)),
    width: Math.abs(xOf(part.to) - xOf(part.from)),
    top: 6 + plotHeight * (1 - (Math.max(low, high) + 1) / rowCount),
    height: (plotHeight * (Math.abs(high - low) + 1)) / rowCount,
  });
  const dragged = drag && (drag.isBox ? placed(drag, drag.low, drag.high) : placed(drag));
  // Bounds that the heat does not have lie beyond its edges.
  const held =
    chosen && !drag && rowCount > 0
      ? placed(
          { from: Math.max(chosen.from, range.from), to: Math.min(chosen.to, range.to) },
          Math.max(
            0,
            heat.rows.findIndex((row) => row.lower >= chosen.lower * 0.999),
          ),
          Math.max(
            0,
            heat.rows.findLastIndex((row) => row.upper <= chosen.upper * 1.001),
          ),
        )
      : null;

  return (
    <div
      ref={box}
      className={`heatmap ${dimmed ? 'is-dimmed' : ''}`}
      style={{ height }}
      role="img"
      aria-label={`${label}: heatmap of ${heat.rows.length} buckets and ${heat.times.length} steps`}
      data-testid="heatmap"
      onPointerMove={(event) => {
        const at = place(event);
        setHover(at.hover);
        if (drag) setDrag({ ...drag, to: at.ms, high: at.row });
      }}
      onPointerDown={(event) => {
        const at = place(event);
        if (at.hover && (onZoom || onBox)) {
          const isBox = onBox !== undefined && (onZoom === undefined || event.shiftKey);
          setDrag({ from: at.ms, to: at.ms, low: at.row, high: at.row, isBox });
        }
      }}
      onPointerUp={() => {
        if (drag && Math.abs(xOf(drag.to) - xOf(drag.from)) > 4) {
          const span = { from: Math.min(drag.from, drag.to), to: Math.max(drag.from, drag.to) };
          const [low, high] = [Math.min(drag.low, drag.high), Math.max(drag.low, drag.high)];
          if (drag.isBox) onBox?.({ ...span, lower: heat.rows[low]!.lower, upper: heat.rows[high]!.upper });
          else onZoom?.(span);
        }
        setDrag(null);
      }}
      onPointerLeave={() => {
        setHover(null);
        setDrag(null);
      }}
    >
      <canvas ref={canvas} style={{ width, height }} />
      {heat.rows.map((row, r) =>
        r % labelled === 0 ? (
          <span
            key={`${row.lower}:${row.upper}`}
            className="heat-bound"
            style={{
              top: 6 + plotHeight * (1 - (r + 1) / heat.rows.length) + plotHeight / heat.rows.length / 2,
              width: LEFT - 8,
            }}
          >
            ≤ {bound(row.upper)}
          </span>
        ) : null,
      )}
      {ticks.map((ms) => (
        <span key={ms} className="heat-time" style={{ left: xOf(ms) }}>
          {formatMoment(ms, zone).slice(
            range.to - range.from > 86_400_000 ? 5 : 11,
            range.to - range.from > 600_000 ? 16 : 19,
          )}
        </span>
      ))}
      {held && <span className="heat-select is-held" style={held} />}
      {dragged && <span className="heat-select" style={dragged} />}
      {hover && cell && (
        <div
          className="chart-tip"
          style={{ left: hover.x + 180 > width ? hover.x - 190 : hover.x + 14, top: Math.min(hover.y, height - 70) }}
        >
          <div className="chart-tip-time">{formatMoment(heat.times[hover.column]!, zone)}</div>
          <div className="chart-tip-row">
            <span className="chart-tip-name">
              {bound(cell.lower)} to {bound(cell.upper)}
            </span>
            <span className="chart-tip-value">
              {count === null || count === undefined ? 'nothing' : formatValue(count)}
            </span>
          </div>
        </div>
      )}
    </div>
  );
}

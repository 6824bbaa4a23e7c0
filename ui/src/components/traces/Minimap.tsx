// The whole trace in a strip: every span a line in the colour of its service, those that failed above all others. A drag
// chooses the stretch of time that the rows below show.

import { useEffect, useRef, useState } from 'react';
import { seriesColour, token } from '../../lib/colour';
import type { Range } from '../../lib/time';
import { type Axis, isFailed, type TraceView } from '../../lib/trace';
import { formatValue } from '../../lib/units';
import { useTheme } from '../../state/theme';
import { percent, useAxisDrag } from './axis';

const HEIGHT = 52;

export function Minimap({
  view,
  axis,
  window,
  onWindow,
}: {
  view: TraceView;
  /** Of the whole trace. */
  axis: Axis;
  /** What is shown below. */
  window: Range;
  onWindow: (window: Range | null) => void;
}) {
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  const theme = useTheme();
  const drag = useAxisDrag(box, axis, onWindow);

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const observer = new ResizeObserver(([entry]) => entry && setWidth(Math.floor(entry.contentRect.width)));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  // biome-ignore lint/correctness/useExhaustiveDependencies: the theme stands for the colours of the tokens
  useEffect(() => {
    const context = canvas.current?.getContext('2d');
    if (!context || width === 0) return;
    const scale = devicePixelRatio;
    context.canvas.width = width * scale;
    context.canvas.height = HEIGHT * scale;
    context.scale(scale, scale);
    const count = view.size.length;
    const line = Math.max(1, Math.min(4, HEIGHT / count - 0.5));
    const colours = view.services.map((service) => seriesColour(service.colour));
    const paint = (i: number) => {
      const from = axis.x(view.begin[i]!) * width;
      const wide = Math.max(1, axis.x(view.end[i]!) * width - from);
      context.fillRect(from, (i / count) * (HEIGHT - line), wide, line);
    };
    context.globalAlpha = count > 400 ? 0.5 : 0.85;
    for (let i = 0; i < count; i++) {
      context.fillStyle = colours[view.service[i]!]!;
      paint(i);
    }
    context.globalAlpha = 1;
    context.fillStyle = token('critical');
    for (let i = 0; i < count; i++) if (isFailed(view.trace.spans[i]!)) paint(i);
  }, [view, axis, width, theme]);

  const isWhole = window.from <= axis.from && window.to >= axis.to;
  const [left, right] = [axis.x(window.from), axis.x(window.to)];
  return (
    <div
      ref={box}
      className="minimap"
      style={{ height: HEIGHT }}
      role="img"
      aria-label={`The whole trace: ${formatValue(view.totalNs, 'ns')}; shown is ${formatValue(window.from, 'ns')} to ${formatValue(window.to, 'ns')}. A drag shows a part of it.`}
      data-testid="minimap"
      onDoubleClick={() => onWindow(null)}
      {...drag.handlers}
    >
      <canvas ref={canvas} style={{ width, height: HEIGHT }} />
      {!isWhole && (
        <>
          <span className="minimap-out" style={{ left: 0, width: percent(left) }} />
          <span className="minimap-out" style={{ left: percent(right), right: 0 }} />
          <span className="minimap-in" style={{ left: percent(left), width: percent(right - left) }} />
        </>
      )}
      {axis.folds.map((gap) => (
        <span
          key={gap.from}
          className="gap-fold"
          style={{ left: percent(axis.x(gap.from)), width: percent(axis.x(gap.to) - axis.x(gap.from)) }}
        />
      ))}
      {drag.span && (
        <span
          className="axis-drag"
          style={{ left: percent(drag.span[0]), width: percent(drag.span[1] - drag.span[0]) }}
        />
      )}
    </div>
  );
}

// A whole trace at once: every span a box below its parent, as wide as it lasted. Painted on a canvas as large as what is in
// sight; the tree says the same for those who do not see it.

import { useEffect, useMemo, useRef, useState } from 'react';
import { seriesColour, token } from '../../lib/colour';
import { lanesOf } from '../../lib/lanes';
import { visible } from '../../lib/logrow';
import { measured } from '../../lib/measured';
import { type Axis, isFailed, serviceName, type TraceView } from '../../lib/trace';
import { formatValue } from '../../lib/units';
import { useTheme } from '../../state/theme';

const ROW = 19;
/** Boxes narrower than this have no room for a name. */
const NAMED = 34;

/** Black or white, whichever reads on a colour. */
function inkOn(colour: string): string {
  const [red, green, blue] = [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16)) as [
    number,
    number,
    number,
  ];
  return red * 0.299 + green * 0.587 + blue * 0.114 > 140 ? '#0f1216' : '#ffffff';
}

export function Flame({
  view,
  axis,
  wanted,
  chosen,
  onChoose,
}: {
  view: TraceView;
  axis: Axis;
  /** Spans that are looked for; all others are pale. */
  wanted: Uint8Array | null;
  chosen: number | undefined;
  onChoose: (at: number) => void;
}) {
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const [seen, setSeen] = useState({ width: 0, height: 0, top: 0 });
  const [hover, setHover] = useState<{ at: number; x: number; y: number } | null>(null);
  const theme = useTheme();
  const lanes = useMemo(() => measured('flame-lanes', () => lanesOf(view)), [view]);

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const look = () =>
      setSeen({ width: element.clientWidth, height: element.clientHeight, top: Math.round(element.scrollTop) });
    const observer = new ResizeObserver(look);
    observer.observe(element);
    element.addEventListener('scroll', look, { passive: true });
    return () => {
      observer.disconnect();
      element.removeEventListener('scroll', look);
    };
  }, []);

  /** Left edge and width of a span in pixels; none if it is out of the window. */
  const place = (i: number): [number, number] | null => {
    const from = Math.max(0, axis.x(view.begin[i]!) * seen.width);
    const to = Math.min(seen.width, axis.x(view.end[i]!) * seen.width);
    return to < 0 || from > seen.width ? null : [from, Math.max(1, to - from)];
  };

  // biome-ignore lint/correctness/useExhaustiveDependencies: the theme stands for the colours of the tokens
  useEffect(() => {
    const context = canvas.current?.getContext('2d');
    if (!context || seen.width === 0) return;
    const begun = performance.now();
    const scale = devicePixelRatio;
    context.canvas.width = seen.width * scale;
    context.canvas.height = seen.height * scale;
    context.scale(scale, scale);
    context.font = `11px ${token('font-ui')}`;
    context.textBaseline = 'middle';
    const colours = view.services.map((service) => seriesColour(service.colour));
    const inks = colours.map(inkOn);
    const [critical, text] = [token('critical'), token('text')];
    for (let i = 0; i < view.size.length; i++) {
      const y = lanes.lane[i]! * ROW - seen.top;
      if (y < -ROW || y > seen.height) continue;
      const at = place(i);
      if (!at) continue;
      const [x, width] = at;
      const service = view.service[i]!;
      context.globalAlpha = wanted && !wanted[i] ? 0.25 : 1;
      context.fillStyle = colours[service]!;
      context.fillRect(x, y + 1, Math.max(1, width - 1), ROW - 2);
      if (isFailed(view.trace.spans[i]!)) {
        context.fillStyle = critical;
        context.fillRect(x, y + 1, Math.max(1, width - 1), 3);
      }
      if (width > NAMED) {
        context.save();
        context.beginPath();
        context.rect(x, y, width - 4, ROW);
        context.clip();
        context.fillStyle = inks[service]!;
        context.fillText(visible(view.trace.spans[i]!.name.slice(0, 120)), x + 5, y + ROW / 2 + 1);
        context.restore();
      }
      if (i === chosen) {
        context.globalAlpha = 1;
        context.strokeStyle = text;
        context.lineWidth = 2;
        context.strokeRect(x + 1, y + 2, Math.max(2, width - 3), ROW - 4);
      }
    }
    context.globalAlpha = 1;
    performance.measure('flame-paint', { start: begun, end: performance.now() });
  }, [view, lanes, axis, wanted, chosen, seen, theme]);

  /** The span under the pointer: of several, the one that was painted last. */
  const under = (event: React.PointerEvent | React.MouseEvent): { at: number; x: number; y: number } | null => {
    const rect = box.current!.getBoundingClientRect();
    const [x, y] = [event.clientX - rect.left, event.clientY - rect.top];
    const lane = Math.floor((y + seen.top) / ROW);
    for (let i = view.size.length - 1; i >= 0; i--) {
      if (lanes.lane[i] !== lane) continue;
      const at = place(i);
      if (at && x >= at[0] - 1 && x <= at[0] + at[1] + 1) return { at: i, x, y };
    }
    return null;
  };
  const span = hover && view.trace.spans[hover.at];
  return (
    <div
      ref={box}
      className="flame"
      role="img"
      aria-label={`${view.size.length} spans in ${lanes.count} lanes by time; the tree lists them`}
      data-testid="flame"
      onPointerMove={(event) => setHover(under(event))}
      onPointerLeave={() => setHover(null)}
      onClick={(event) => {
        const found = under(event);
        if (found) onChoose(found.at);
      }}
    >
      <div style={{ height: lanes.count * ROW }}>
        <canvas ref={canvas} style={{ width: seen.width, height: seen.height }} />
      </div>
      {hover && span && (
        <div
          className="chart-tip"
          style={{
            left: hover.x + 300 > seen.width ? Math.max(0, hover.x - 300) : hover.x + 14,
            top: seen.top + Math.min(hover.y + 12, Math.max(0, seen.height - 84)),
          }}
        >
          <div className="chart-tip-row">
            <span
              className="wf-key"
              style={{ background: `var(--series-${view.services[view.service[hover.at]!]!.colour + 1})` }}
            />
            <bdi className="chart-tip-name">{visible(serviceName(span.service).slice(0, 80))}</bdi>
          </div>
          <div className="chart-tip-row">
            <bdi className="chart-tip-name">{visible(span.name.slice(0, 120)) || '(no name)'}</bdi>
            <span className="chart-tip-value">{formatValue(Number(span.durationNs), 'ns')}</span>
          </div>
          {isFailed(span) && (
            <div className="chart-tip-row critical">
              ■ <bdi className="chart-tip-name">{visible(span.statusMessage.slice(0, 160)) || 'failed'}</bdi>
            </div>
          )}
        </div>
      )}
    </div>
  );
}

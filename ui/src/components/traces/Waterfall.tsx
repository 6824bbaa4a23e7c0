// The spans of a trace as a tree beside their time. Only rows in sight are in the page: ten thousand spans scroll as a
// hundred do. One row has the cursor, moved by keyboard as trees are.

import { useVirtualizer } from '@tanstack/react-virtual';
import { ChevronDown, ChevronRight } from 'lucide-react';
import { memo, useEffect, useRef, useState } from 'react';
import { visible } from '../../lib/logrow';
import type { Range } from '../../lib/time';
import { type Axis, isFailed, lastUpTo, serviceName, type TraceView, ticksOf, tickText } from '../../lib/trace';
import { formatCount, formatValue } from '../../lib/units';
import { usePrefs } from '../../state/prefs';
import { percent, useAxisDrag } from './axis';

/** Levels that are indented; deeper ones say how deep they are. */
const INDENTED = 16;
const INDENT = 13;
/** Characters of a name that a row shows. */
const NAME_CHARS = 300;
/** Rows beyond both ends of what is in sight. */
const OVERSCAN = 8;
/** Events that a row marks. */
const MARKS = 40;

export interface WaterfallProps {
  view: TraceView;
  /** Positions of the spans that are shown. */
  rows: number[];
  axis: Axis;
  isOpen: (at: number) => boolean;
  onToggle: (at: number, open?: boolean) => void;
  cursor: number;
  onCursor: (at: number) => void;
  /** Opens the span. */
  onChoose: (at: number) => void;
  chosen: number | undefined;
  /** Spans that are looked for; all others are pale. */
  wanted: Uint8Array | null;
  /** Log records by span id. */
  logs: Map<string, number>;
  onWindow: (window: Range) => void;
}

export function Waterfall(props: WaterfallProps) {
  const { view, rows, axis, cursor, wanted } = props;
  const scroller = useRef<HTMLDivElement>(null);
  const ruler = useRef<HTMLDivElement>(null);
  const [names, setNames] = useState(36);
  const height = usePrefs((s) => s.density) === 'compact' ? 23 : 29;
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => height,
    overscan: OVERSCAN,
  });
  // biome-ignore lint/correctness/useExhaustiveDependencies: sizes are measured anew with the density
  useEffect(() => virtual.measure(), [height]);
  const drag = useAxisDrag(ruler, axis, props.onWindow);
  const row = lastUpTo(rows, cursor);
  const at = rows[row] === cursor ? row : -1;
  const first = useRef(true);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the list moves with the cursor and with what is shown
  useEffect(() => {
    if (at < 0) return;
    const range = virtual.range;
    // What is far away comes to the middle, what is beside the edge just into sight.
    const isFar = !range || at < range.startIndex - 2 || at > range.endIndex + 2;
    virtual.scrollToIndex(at, { align: first.current || isFar ? 'center' : 'auto' });
    first.current = false;
  }, [cursor, rows]);

  const move = (index: number) => {
    const next = rows[Math.min(Math.max(index, 0), rows.length - 1)];
    if (next !== undefined) props.onCursor(next);
  };
  const onKeyDown = (event: React.KeyboardEvent) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const page = Math.max(1, Math.floor((scroller.current?.clientHeight ?? 400) / height) - 1);
    const span = view.trace.spans[cursor];
    const hasChildren = at >= 0 && view.children[cursor]! > 0;
    const acts: Record<string, () => void> = {
      ArrowDown: () => move(at + 1),
      ArrowUp: () => move(at < 0 ? 0 : at - 1),
      PageDown: () => move(at + page),
      PageUp: () => move(at - page),
      Home: () => move(0),
      End: () => move(rows.length - 1),
      ArrowRight: () => {
        if (hasChildren && !props.isOpen(cursor)) props.onToggle(cursor, true);
        else if (hasChildren) move(at + 1);
      },
      ArrowLeft: () => {
        if (hasChildren && props.isOpen(cursor)) props.onToggle(cursor, false);
        else if (span && span.parent !== null) props.onCursor(span.parent);
      },
      Enter: () => at >= 0 && props.onChoose(cursor),
      ' ': () => hasChildren && props.onToggle(cursor),
    };
    const act = acts[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  };

  const items = virtual.getVirtualItems();
  // As many rows as there may be at once.
  const pool = Math.max(
    items.length,
    Math.ceil((scroller.current?.clientHeight ?? window.innerHeight) / height) + 2 * OVERSCAN + 2,
  );
  const columns = `${names}% minmax(0, 1fr)`;
  const { ticks, step } = ticksOf(axis, 6);
  return (
    <div className={`waterfall ${axis.folds.length > 0 ? 'has-folds' : ''}`}>
      <div className="wf-head" style={{ gridTemplateColumns: columns }}>
        <div className="wf-head-name">
          <span>
            {rows.length === view.size.length
              ? `${formatCount(rows.length)} spans`
              : `${formatCount(rows.length)} of ${formatCount(view.size.length)} spans are shown`}
          </span>
          <span
            className="wf-split"
            role="separator"
            aria-label="Width of the names"
            aria-orientation="vertical"
            aria-valuenow={Math.round(names)}
            aria-valuemin={15}
            aria-valuemax={70}
            tabIndex={0}
            onKeyDown={(event) => {
              const step = event.key === 'ArrowRight' ? 2 : event.key === 'ArrowLeft' ? -2 : 0;
              if (step !== 0) setNames(Math.min(Math.max(names + step, 15), 70));
            }}
            onPointerDown={(event) => event.currentTarget.setPointerCapture(event.pointerId)}
            onPointerMove={(event) => {
              const rect = scroller.current?.getBoundingClientRect();
              if (!rect || !event.currentTarget.hasPointerCapture(event.pointerId)) return;
              setNames(Math.min(Math.max(((event.clientX - rect.left) / rect.width) * 100, 15), 70));
            }}
          />
        </div>
        <div ref={ruler} className="wf-ruler" aria-hidden {...drag.handlers}>
          {ticks.map((tick) => {
            const x = axis.x(tick);
            return x > 0.94 ? null : (
              <span key={tick} className="wf-tick tab-num" style={{ left: percent(x) }}>
                {tickText(tick, step)}
              </span>
            );
          })}
          {drag.span && (
            <span
              className="axis-drag"
              style={{ left: percent(drag.span[0]), width: percent(drag.span[1] - drag.span[0]) }}
            />
          )}
        </div>
      </div>
      <div
        ref={scroller}
        className="wf-scroll"
        id="spans"
        role="tree"
        aria-label="Spans of the trace"
        aria-activedescendant={at >= 0 && items.some((item) => item.index === at) ? `span-${cursor}` : undefined}
        tabIndex={0}
        data-testid="waterfall"
        onKeyDown={onKeyDown}
      >
        <div className="wf-grid" aria-hidden>
          <div style={{ left: `${names}%`, height: virtual.scrollRect?.height ?? 0 }}>
            {ticks.map((tick) => (
              <span key={tick} className="wf-line" style={{ left: percent(axis.x(tick)) }} />
            ))}
            {axis.folds.map((gap) => (
              <span
                key={`gap-${gap.from}`}
                className="gap-fold"
                style={{ left: percent(axis.x(gap.from)), width: percent(axis.x(gap.to) - axis.x(gap.from)) }}
              />
            ))}
          </div>
        </div>
        <div className="wf-space" style={{ height: virtual.getTotalSize() }} role="presentation">
          {items.map((item) => {
            const i = rows[item.index]!;
            return (
              <Row
                // Rows that leave the sight are used again for those that come: cheaper than to make new ones.
                key={item.index % pool}
                view={view}
                axis={axis}
                i={i}
                top={item.start}
                height={height}
                columns={columns}
                open={view.children[i]! > 0 ? props.isOpen(i) : undefined}
                isCursor={i === cursor}
                isChosen={i === props.chosen}
                isPale={wanted !== null && !wanted[i]}
                isHit={wanted !== null && wanted[i] === 1}
                logs={props.logs.get(view.trace.spans[i]!.spanId) ?? 0}
                onToggle={props.onToggle}
                onChoose={props.onChoose}
              />
            );
          })}
        </div>
      </div>
    </div>
  );
}

interface RowProps {
  view: TraceView;
  axis: Axis;
  i: number;
  top: number;
  height: number;
  columns: string;
  open: boolean | undefined;
  isCursor: boolean;
  isChosen: boolean;
  isPale: boolean;
  isHit: boolean;
  logs: number;
  onToggle: (at: number) => void;
  onChoose: (at: number) => void;
}

const Row = memo(function Row({ view, axis, i, top, height, columns, open, logs, ...rest }: RowProps) {
  const span = view.trace.spans[i]!;
  const failed = isFailed(span);
  const below = view.errorsBelow[i]!;
  const [from, to] = [axis.x(view.begin[i]!), axis.x(view.end[i]!)];
  // Within the window; what lies outside keeps to its edge.
  const [left, right] = [Math.min(Math.max(from, 0), 1), Math.min(Math.max(to, 0), 1)];
  const isOut = to < 0 || from > 1;
  const duration = formatValue(Number(span.durationNs), 'ns');
  const side = isOut ? (to < 0 ? 'at-start' : 'at-end') : right < 0.86 ? 'is-right' : left > 0.14 ? 'is-left' : 'is-in';
  const levels = Math.min(span.depth, INDENTED);
  const name = visible(span.name.slice(0, NAME_CHARS)) || '(no name)';
  return (
    <div
      id={`span-${i}`}
      role="treeitem"
      tabIndex={-1}
      aria-level={span.depth + 1}
      aria-expanded={open}
      aria-selected={rest.isCursor}
      data-span={span.spanId}
      className={`wf-row ${rest.isChosen ? 'is-chosen' : ''} ${rest.isPale ? 'is-pale' : ''} ${rest.isHit ? 'is-hit' : ''}`}
      style={{ gridTemplateColumns: columns, height, transform: `translateY(${top}px)` }}
      onClick={() => rest.onChoose(i)}
    >
      <div
        className="wf-name"
        style={{ paddingLeft: levels * INDENT + 4, backgroundSize: `${levels * INDENT}px 100%` }}
      >
        {span.depth > INDENTED && <span className="wf-deep tab-num">{span.depth}</span>}
        {open === undefined ? (
          <span className="wf-leaf" />
        ) : (
          <span
            className="wf-toggle"
            aria-hidden
            onClick={(event) => {
              event.stopPropagation();
              rest.onToggle(i);
            }}
          >
            {open ? <ChevronDown size={12} /> : <ChevronRight size={12} />}
          </span>
        )}
        <span
          className="wf-key"
          style={{ background: `var(--series-${view.services[view.service[i]!]!.colour + 1})` }}
        />
        {failed && (
          <span className="critical wf-mark" title="It failed">
            ■<span className="sr-only">failed</span>
          </span>
        )}
        {open === false && below > 0 && (
          <span className="critical wf-below tab-num" title={`${formatCount(below)} failed below`}>
            ▾{formatCount(below)}
          </span>
        )}
        {span.orphan && (
          <span className="warn wf-orphan" title="Its parent is not in the trace: not sent, or not yet">
            orphan
          </span>
        )}
        <bdi className="wf-op">{name}</bdi>
        <bdi className="wf-service">{visible(serviceName(span.service).slice(0, NAME_CHARS))}</bdi>
        {open === false && (
          <span className="wf-hidden tab-num" title="Spans below, hidden">
            +{formatCount(view.size[i]! - 1)}
          </span>
        )}
        {logs > 0 && (
          <span className="wf-logs tab-num" title={`${formatCount(logs)} log records`}>
            ≡{formatCount(logs)}
          </span>
        )}
      </div>
      <div className="wf-time">
        {!isOut && (
          <span
            className={`wf-bar ${failed ? 'is-failed' : ''}`}
            style={{
              left: percent(left),
              width: percent(right - left),
              background: `var(--series-${view.services[view.service[i]!]!.colour + 1})`,
            }}
          />
        )}
        {(view.critical.get(i) ?? []).map(([a, b]) => {
          const [x, end] = [Math.min(Math.max(axis.x(a), 0), 1), Math.min(Math.max(axis.x(b), 0), 1)];
          return end > x ? (
            <span key={a} className="wf-critical" style={{ left: percent(x), width: percent(end - x) }} />
          ) : null;
        })}
        {span.events.slice(0, MARKS).map((event, n) => {
          const x = axis.x(Number(BigInt(event.timeUnixNano) - view.startNs));
          return x >= 0 && x <= 1 ? <span key={n} className="wf-event" style={{ left: percent(x) }} /> : null;
        })}
        <span
          className={`wf-duration tab-num ${side}`}
          style={
            side === 'is-right'
              ? { left: percent(right) }
              : side === 'is-left'
                ? { right: percent(1 - left) }
                : side === 'at-start'
                  ? { left: 0 }
                  : { right: 0 }
          }
        >
          {side === 'at-start' ? `‹ ${duration}` : side === 'at-end' ? `${duration} ›` : duration}
        </span>
      </div>
    </div>
  );
});

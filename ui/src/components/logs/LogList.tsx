// Records, newest first, of any number: only those in sight are in the page, and the next ones are asked for on the way
// down. One is chosen, by pointer or keyboard.

import { useVirtualizer } from '@tanstack/react-virtual';
import { Pin } from 'lucide-react';
import { type ReactNode, useEffect, useMemo, useRef } from 'react';
import type { LogRow } from '../../api/logs';
import { fieldOf, levelOf, lineOf, millisOf, textOf } from '../../lib/logrow';
import { pinOf, pinTime } from '../../lib/pins';
import { formatMoment } from '../../lib/time';
import { usePrefs } from '../../state/prefs';
import { LineText } from './LineText';

/** Rows before the end at which more is asked for. */
const AHEAD = 60;

/** Of a grid: mark, pin, time, level, chosen fields, body. */
export const lineColumns = (columns: string[], dated: boolean): string =>
  `3px 14px ${dated ? '156px' : '92px'} 46px ${columns.map(() => 'minmax(60px, 140px)').join(' ')} minmax(300px, 1fr)`;

export function LogList({
  rows,
  columns,
  words,
  wrap,
  zone,
  dated,
  raw,
  chosen,
  onChoose,
  selected,
  onSelect,
  pins,
  onPin,
  onNearEnd,
  onTop,
  dimmed,
  foot,
}: {
  rows: LogRow[];
  columns: string[];
  /** To be marked in bodies. */
  words: string[];
  wrap: boolean;
  zone: string;
  /** Whether times need their day. */
  dated: boolean;
  /** Sequences for terminals as they are. */
  raw: boolean;
  /** The record that is open. */
  chosen: string | undefined;
  onChoose: (row: LogRow) => void;
  /** Ids of records that something is to be done with. */
  selected: ReadonlySet<string>;
  /** A record more or less; with `through`, all from the last one on. */
  onSelect: (row: LogRow, through: boolean) => void;
  pins: ReadonlySet<string>;
  onPin: (row: LogRow) => void;
  onNearEnd?: () => void;
  /** Whether the newest is in sight, when that changes. */
  onTop?: (isTop: boolean) => void;
  dimmed?: boolean;
  foot?: ReactNode;
}) {
  const scroller = useRef<HTMLDivElement>(null);
  const height = usePrefs((s) => s.density) === 'compact' ? 21 : 28;
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => height,
    getItemKey: (i) => rows[i]?.id ?? i,
    overscan: 20,
  });
  // biome-ignore lint/correctness/useExhaustiveDependencies: sizes are measured anew when lines begin or cease to wrap
  useEffect(() => virtual.measure(), [wrap, height]);
  const items = virtual.getVirtualItems();
  const last = items.at(-1)?.index ?? 0;
  useEffect(() => {
    if (rows.length > 0 && last >= rows.length - AHEAD) onNearEnd?.();
  }, [last, rows.length, onNearEnd]);
  const at = chosen === undefined ? -1 : rows.findIndex((row) => row.id === chosen);
  const choose = (i: number) => {
    const row = rows[Math.min(Math.max(i, 0), rows.length - 1)];
    if (!row) return;
    onChoose(row);
    virtual.scrollToIndex(rows.indexOf(row), { align: 'auto' });
  };
  const template = lineColumns(columns, dated);
  // Which of the records in sight may be pinned: a hash is made only of those whose time is.
  const pinTimes = useMemo(() => new Set([...pins].map((pin) => pinTime(pin))), [pins]);
  return (
    <div className={`log-list ${dimmed ? 'is-dimmed' : ''}`}>
      <div className="log-head" style={{ gridTemplateColumns: template }} aria-hidden>
        <span />
        <span />
        <span>time</span>
        <span>level</span>
        {columns.map((column) => (
          <bdi key={column} className="clip">
            {column}
          </bdi>
        ))}
        <span>body</span>
      </div>
      <div
        ref={scroller}
        className="log-scroll"
        role="listbox"
        aria-label="Log records, newest first"
        aria-multiselectable
        aria-activedescendant={at >= 0 && items.some((item) => item.index === at) ? `log-${at}` : undefined}
        tabIndex={0}
        data-testid="log-list"
        onScroll={(event) => onTop?.(event.currentTarget.scrollTop < 4)}
        onKeyDown={(event) => {
          const steps: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, PageDown: 20, PageUp: -20 };
          const step = steps[event.key];
          if (step === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
          event.preventDefault();
          choose(
            at < 0 ? (items.find((item) => item.start >= (scroller.current?.scrollTop ?? 0))?.index ?? 0) : at + step,
          );
        }}
      >
        <div style={{ height: virtual.getTotalSize() }} className="log-space" role="presentation">
          {items.map((item) => {
            const row = rows[item.index]!;
            const isPinned = pinTimes.has(row.timeUnixNano) && pins.has(pinOf(row));
            return (
              <div
                key={item.key}
                id={`log-${item.index}`}
                ref={wrap ? virtual.measureElement : undefined}
                data-index={item.index}
                role="option"
                tabIndex={-1}
                aria-selected={item.index === at || (row.id !== undefined && selected.has(row.id))}
                aria-setsize={rows.length}
                aria-posinset={item.index + 1}
                className={`log-row ${wrap ? 'is-wrapped' : ''} ${isPinned ? 'is-pinned' : ''} ${row.id !== undefined && selected.has(row.id) ? 'is-picked' : ''}`}
                style={{
                  gridTemplateColumns: template,
                  transform: `translateY(${item.start}px)`,
                  ...(wrap ? { minHeight: height } : { height }),
                }}
                onMouseDown={(event) => {
                  // Not a selection of text as well.
                  if (event.shiftKey) event.preventDefault();
                }}
                onClick={(event) =>
                  event.shiftKey || event.ctrlKey || event.metaKey ? onSelect(row, event.shiftKey) : onChoose(row)
                }
              >
                <LineCells
                  row={row}
                  columns={columns}
                  words={words}
                  wrap={wrap}
                  raw={raw}
                  zone={zone}
                  dated={dated}
                  isPinned={isPinned}
                  onPin={onPin}
                />
              </div>
            );
          })}
        </div>
      </div>
      {foot && <div className="log-foot">{foot}</div>}
    </div>
  );
}

/** What stands in the columns of a record, here and among those that are pinned. */
export function LineCells({
  row,
  columns,
  words,
  wrap,
  raw,
  zone,
  dated,
  isPinned,
  onPin,
}: {
  row: LogRow;
  columns: string[];
  words: string[];
  wrap: boolean;
  raw: boolean;
  zone: string;
  dated: boolean;
  isPinned: boolean;
  onPin: (row: LogRow) => void;
}) {
  const level = levelOf(row.level);
  const time = formatMoment(millisOf(row), zone, true);
  return (
    <>
      <span className={`log-mark lv-${level}`} aria-hidden />
      <span
        className="log-pin"
        aria-hidden
        title={isPinned ? 'Take the pin away (b)' : 'Pin (b): stays in sight'}
        onClick={(event) => {
          event.stopPropagation();
          onPin(row);
        }}
      >
        <Pin size={11} />
      </span>
      <span className="log-time tab-num">{dated ? time.slice(5) : time.slice(11)}</span>
      <span className={`log-level lv-${level}`}>{level === 'none' ? '' : level}</span>
      {columns.map((column) => (
        <bdi key={column} className="clip log-cell">
          {lineOf({ ...row, body: textOf(fieldOf(row, column)) }, false)}
        </bdi>
      ))}
      <LineText row={row} wrap={wrap} raw={raw} words={words} />
    </>
  );
}

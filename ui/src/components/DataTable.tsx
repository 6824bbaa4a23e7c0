// A table of any length: only the rows in sight are in the page. Columns sort; the head stays.

import { useVirtualizer } from '@tanstack/react-virtual';
import { ArrowDown, ArrowUp } from 'lucide-react';
import { type ReactNode, useEffect, useMemo, useRef, useState } from 'react';
import { usePrefs } from '../state/prefs';

export interface ColumnDef<T> {
  id: string;
  title: string;
  /** Said small behind the title. */
  hint?: string;
  width: string;
  numeric?: boolean;
  /** What is sorted by; without it the column does not sort. */
  sort?: (row: T) => number | string;
  cell: (row: T) => ReactNode;
}

export interface DataTableProps<T> {
  rows: T[];
  columns: ColumnDef<T>[];
  rowKey: (row: T, index: number) => string | number;
  height?: number | string;
  /** As high as its rows, but at most so many pixels; instead of a height. */
  most?: number;
  initialSort?: { id: string; down: boolean };
  onRow?: (row: T) => void;
  /** Told on the way to the last row: more may be asked for. */
  onNearEnd?: () => void;
  label: string;
}

/** Rows before the end at which more is asked for. */
const AHEAD = 30;
/** The head with its line, and a line below the last row. */
const HEAD = 30;

export function DataTable<T>({
  rows,
  columns,
  rowKey,
  height = '100%',
  most,
  initialSort,
  onRow,
  onNearEnd,
  label,
}: DataTableProps<T>) {
  const [sort, setSort] = useState(initialSort ?? null);
  const scroller = useRef<HTMLDivElement>(null);
  const rowHeight = usePrefs((s) => s.density) === 'compact' ? 26 : 34;
  const sorted = useMemo(() => {
    const column = sort && columns.find((c) => c.id === sort.id);
    if (!sort || !column?.sort) return rows;
    const of = column.sort;
    const factor = sort.down ? -1 : 1;
    return [...rows].sort((a, b) => {
      const [x, y] = [of(a), of(b)];
      return (
        factor * (typeof x === 'number' && typeof y === 'number' ? x - y || 0 : String(x).localeCompare(String(y)))
      );
    });
  }, [rows, sort, columns]);
  const virtual = useVirtualizer({
    count: sorted.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => rowHeight,
    overscan: 12,
  });
  const items = virtual.getVirtualItems();
  const last = items.at(-1)?.index ?? 0;
  useEffect(() => {
    if (sorted.length > 0 && last >= sorted.length - AHEAD) onNearEnd?.();
  }, [last, sorted.length, onNearEnd]);
  const template = columns.map((c) => c.width).join(' ');
  return (
    <div
      className="grid-table"
      ref={scroller}
      style={{ height: most === undefined ? height : Math.min(most, HEAD + sorted.length * rowHeight) }}
      role="table"
      aria-label={label}
      aria-rowcount={sorted.length + 1}
      tabIndex={0}
    >
      <div className="grid-head" role="row" aria-rowindex={1} style={{ gridTemplateColumns: template }} tabIndex={-1}>
        {columns.map((column) => (
          <div
            key={column.id}
            role="columnheader"
            tabIndex={-1}
            className={column.numeric ? 'num' : ''}
            aria-sort={sort?.id === column.id ? (sort.down ? 'descending' : 'ascending') : undefined}
          >
            {column.sort ? (
              <button
                type="button"
                onClick={() =>
                  setSort((old) =>
                    old?.id === column.id
                      ? { id: column.id, down: !old.down }
                      : { id: column.id, down: column.numeric ?? false },
                  )
                }
              >
                {column.title}
                {column.hint && <small className="muted">{column.hint}</small>}
                {sort?.id === column.id &&
                  (sort.down ? <ArrowDown size={11} aria-hidden /> : <ArrowUp size={11} aria-hidden />)}
              </button>
            ) : (
              column.title
            )}
          </div>
        ))}
      </div>
      <div style={{ height: virtual.getTotalSize(), position: 'relative' }} role="rowgroup">
        {items.map((item) => {
          const row = sorted[item.index]!;
          return (
            <div
              key={rowKey(row, item.index)}
              role="row"
              tabIndex={-1}
              aria-rowindex={item.index + 2}
              className={`grid-row ${onRow ? 'is-link' : ''}`}
              style={{ gridTemplateColumns: template, height: rowHeight, transform: `translateY(${item.start}px)` }}
              onClick={onRow ? () => onRow(row) : undefined}
            >
              {columns.map((column) => (
                <div key={column.id} role="cell" className={column.numeric ? 'num' : ''}>
                  {column.cell(row)}
                </div>
              ))}
            </div>
          );
        })}
      </div>
    </div>
  );
}

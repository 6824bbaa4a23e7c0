// The legend of a chart: names, numbers, and what is drawn. A click shows one series alone, with Ctrl it takes one away.

import { ArrowDown, ArrowUp } from 'lucide-react';
import { memo, useMemo, useState } from 'react';
import { assignLooks, seriesColour } from '../lib/colour';
import { type Frame, type Reduced, reduce } from '../lib/frame';
import { seriesName } from '../lib/labels';
import { formatValue } from '../lib/units';
import { useTheme } from '../state/theme';
import { FilteredOut } from './Filtered';
import { CopyButton, Input } from './ui';

type Column = 'last' | 'max' | 'mean' | 'min' | 'sum';

const NAMES: Record<Column, string> = { last: 'last', max: 'max', mean: 'avg', min: 'min', sum: 'sum' };
/** Rows that are shown at once; the filter finds the others. */
const ROWS = 100;

export interface LegendProps {
  frame: Frame;
  unit?: string;
  decimals?: number;
  hidden: ReadonlySet<string>;
  onHidden: (hidden: ReadonlySet<string>) => void;
  onEmphasise: (id: string | null) => void;
  columns?: Column[];
  colours?: (string | undefined)[];
  /** A filter box and a copy button; not in small panels. */
  tools?: boolean;
}

/** What a click on a series does to the set of hidden ones. */
export function toggled(ids: string[], hidden: ReadonlySet<string>, id: string, add: boolean): ReadonlySet<string> {
  if (add) {
    const next = new Set(hidden);
    if (!next.delete(id)) next.add(id);
    return next;
  }
  const alone = ids.every((other) => (other === id) !== hidden.has(other));
  return alone ? new Set() : new Set(ids.filter((other) => other !== id));
}

export const Legend = memo(function Legend(props: LegendProps) {
  const { frame, unit, decimals, hidden, onHidden, onEmphasise, tools } = props;
  const columns = props.columns ?? ['last', 'max', 'mean'];
  useTheme();
  const [sort, setSort] = useState<{ by: Column | 'name'; down: boolean } | null>(null);
  const [filter, setFilter] = useState('');
  const looks = useMemo(() => assignLooks(frame.series.map((s) => s.id)), [frame]);
  const rows = useMemo(
    () => frame.series.map((s, i) => ({ s, at: i, look: looks[i]!, numbers: reduce(s.values) })),
    [frame, looks],
  );
  const shown = useMemo(() => {
    const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
    const found = rows.filter((row) =>
      words.every((w) => seriesName(row.s.labels).toLowerCase().includes(w) || row.s.name.toLowerCase().includes(w)),
    );
    if (sort) {
      const factor = sort.down ? -1 : 1;
      found.sort((a, b) =>
        sort.by === 'name'
          ? factor * a.s.name.localeCompare(b.s.name)
          : factor *
            ((a.numbers[sort.by] ?? Number.NEGATIVE_INFINITY) - (b.numbers[sort.by] ?? Number.NEGATIVE_INFINITY)),
      );
    }
    return found;
  }, [rows, sort, filter]);
  const ids = frame.series.map((s) => s.id);
  const head = (by: Column | 'name', text: string) => (
    <button
      type="button"
      onClick={() => setSort((old) => (old?.by === by ? (old.down ? { by, down: false } : null) : { by, down: true }))}
    >
      {text}
      {sort?.by === by && (sort.down ? <ArrowDown size={10} aria-hidden /> : <ArrowUp size={10} aria-hidden />)}
    </button>
  );
  const by = (sorted: Column | 'name') => (sort?.by === sorted ? (sort.down ? 'descending' : 'ascending') : 'none');
  return (
    <div className="legend" data-testid="legend">
      {tools && frame.series.length > 8 && (
        <Input
          className="legend-filter"
          placeholder={`Filter ${frame.series.length} series`}
          aria-label="Filter series"
          value={filter}
          onChange={(e) => setFilter(e.target.value)}
        />
      )}
      <table>
        <thead>
          <tr>
            <th aria-sort={by('name')}>{head('name', 'series')}</th>
            {columns.map((column) => (
              <th key={column} className="num" aria-sort={by(column)}>
                {head(column, NAMES[column])}
              </th>
            ))}
            {tools && (
              <th>
                <span className="sr-only">copy</span>
              </th>
            )}
          </tr>
        </thead>
        <tbody>
          {shown.slice(0, ROWS).map(({ s, at, look, numbers }) => {
            const off = hidden.has(s.id);
            const colour = props.colours?.[at] ?? seriesColour(look.colour);
            return (
              <tr
                key={s.id}
                className={off ? 'is-off' : ''}
                onMouseEnter={() => onEmphasise(s.id)}
                onMouseLeave={() => onEmphasise(null)}
              >
                <td>
                  <button
                    type="button"
                    className="legend-name"
                    aria-pressed={!off}
                    title={`${seriesName(s.labels)}\nclick: only this · Ctrl click: hide or show`}
                    onFocus={() => onEmphasise(s.id)}
                    onBlur={() => onEmphasise(null)}
                    onClick={(e) => onHidden(toggled(ids, hidden, s.id, e.ctrlKey || e.metaKey))}
                  >
                    <svg width="14" height="8" aria-hidden="true">
                      <line
                        x1="0"
                        x2="14"
                        y1="4"
                        y2="4"
                        stroke={colour}
                        strokeWidth="3"
                        strokeDasharray={
                          look.dash && !props.colours?.[at] ? (look.dash[0]! > 4 ? '4 2' : '2 2') : undefined
                        }
                      />
                    </svg>
                    <bdi>{s.name}</bdi>
                  </button>
                </td>
                {columns.map((column) => (
                  <td key={column} className="num">
                    {formatValue(numbers[column as keyof Reduced], unit, decimals)}
                  </td>
                ))}
                {tools && (
                  <td className="legend-copy">
                    <CopyButton text={seriesName(s.labels)} label="Copy the selector" />
                  </td>
                )}
              </tr>
            );
          })}
        </tbody>
      </table>
      {shown.length === 0 && filter !== '' && (
        <FilteredOut
          small
          what="series"
          of={frame.series.length}
          filters={[{ name: 'the words', value: filter, onClear: () => setFilter('') }]}
        />
      )}
      {shown.length > ROWS && (
        <p className="cap-note">
          {ROWS} of {shown.length} series listed. Filter to see the others.
        </p>
      )}
    </div>
  );
});

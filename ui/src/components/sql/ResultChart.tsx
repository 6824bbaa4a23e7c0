// An answer drawn: along which column, which numbers, a series for what; lines, bars or points.

import { useMemo, useState } from 'react';
import type { SqlTable } from '../../api/sql';
import { type ChartSpec, DRAWS } from '../../lib/notebook';
import { type Drawn, drawn, MOST_NAMES, meant, xColumns, yColumns } from '../../lib/sqlchart';
import type { Range } from '../../lib/time';
import { formatCount } from '../../lib/units';
import { Chart } from '../Chart';
import { Popover } from '../floating';
import { Legend } from '../Legend';
import { Empty } from '../states';
import { Button, Segmented, Select } from '../ui';
import { NameBars } from './NameBars';

const DRAW_NAMES = { line: 'Lines', bar: 'Bars', point: 'Points' };

export default function ResultChart({
  table,
  spec,
  zone,
  label,
  onSpec,
}: {
  table: SqlTable;
  spec: ChartSpec | undefined;
  zone: string;
  label: string;
  onSpec: (spec: ChartSpec) => void;
}) {
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const [emphasised, setEmphasised] = useState<string | null>(null);
  const chosen = useMemo(() => meant(table, spec), [table, spec]);
  const chart = useMemo(() => drawn(table, spec), [table, spec]);
  const numbers = yColumns(table);
  const draw =
    chart?.along === 'names' ? 'bar' : (spec?.draw ?? (chart?.along === 'time' && chart.sparse ? 'point' : 'line'));
  const x = chosen?.x ?? spec?.x ?? table.columns[0]?.name ?? '';
  const [y, by] = [chosen?.y ?? [], chosen?.by ?? []];
  const change = (part: ChartSpec) => onSpec({ ...spec, ...part });
  return (
    <>
      <div className="sql-chart-tools">
        <label className="check">
          Along
          <Select value={x} onChange={(e) => change({ x: e.target.value, y: undefined, by: undefined })}>
            {xColumns(table).map((name) => (
              <option key={name}>{name}</option>
            ))}
          </Select>
        </label>
        <Columns
          label="Numbers"
          all={numbers.filter((name) => name !== x)}
          chosen={y}
          onChange={(names) => change({ y: names })}
        />
        <Columns
          label="A series for each"
          all={table.columns.map((c) => c.name).filter((name) => name !== x && !y.includes(name))}
          chosen={by}
          onChange={(names) => change({ by: names })}
        />
        {chart?.along !== 'names' && (
          <Segmented
            label="Drawn as"
            value={draw}
            choices={DRAWS.map((id) => ({ id, label: DRAW_NAMES[id] }))}
            onChange={(id) => change({ draw: DRAWS.find((one) => one === id) })}
          />
        )}
      </div>
      {!chart ? (
        <Empty title="There is nothing to draw">
          {numbers.filter((name) => name !== x).length === 0
            ? 'A chart needs a column of numbers beside the one that it goes along.'
            : y.length === 0
              ? 'Choose a column of numbers.'
              : 'No row has both a place and a number.'}
        </Empty>
      ) : (
        <>
          {chart.along === 'names' ? (
            <NameBars frame={chart.frame} names={chart.names} unit={chart.unit} label={label} />
          ) : (
            <>
              <Chart
                key={chart.along}
                frame={chart.frame}
                range={draw === 'bar' ? roomy(chart) : chart}
                linear={chart.along === 'number'}
                zone={zone}
                height={300}
                unit={chart.unit}
                draw={draw === 'bar' ? 'bars' : draw === 'point' ? 'points' : 'line'}
                stack={draw === 'bar' && chart.frame.series.length > 1 ? 'normal' : 'none'}
                hidden={hidden}
                emphasised={emphasised}
                label={label}
              />
              <Legend
                frame={chart.frame}
                unit={chart.unit}
                hidden={hidden}
                onHidden={setHidden}
                onEmphasise={setEmphasised}
              />
            </>
          )}
          {chart.series > chart.frame.series.length && (
            <p className="cap-note">
              {chart.frame.series.length} of {formatCount(chart.series)} series are drawn.
            </p>
          )}
          {chart.allNames > MOST_NAMES && (
            <p className="cap-note">
              The first {MOST_NAMES} of {formatCount(chart.allNames)} names are drawn.
            </p>
          )}
          {chart.covered > 0 && (
            <p className="cap-note">
              {formatCount(chart.covered)} numbers have the place of another of their series: of each place the last one
              is drawn.
            </p>
          )}
        </>
      )}
    </>
  );
}

/** With half the least distance beside the first and the last bar, so that they are whole. */
function roomy({ frame: { times }, from, to }: Drawn): Range {
  let least = Number.POSITIVE_INFINITY;
  for (let i = 1; i < times.length; i++) least = Math.min(least, times[i]! - times[i - 1]!);
  const room = Number.isFinite(least) ? least / 2 : (to - from) / 2 || 0.5;
  return { from: from - room, to: to + room };
}

/** Which of the columns. */
function Columns({
  label,
  all,
  chosen,
  onChange,
}: {
  label: string;
  all: string[];
  chosen: string[];
  onChange: (names: string[]) => void;
}) {
  return (
    <Popover
      label={label}
      align="start"
      trigger={
        <Button disabled={all.length === 0}>
          {label}:{' '}
          {chosen.length === 0
            ? 'none'
            : chosen.length > 2
              ? `${chosen.length} columns`
              : chosen.join(', ').slice(0, 60)}
        </Button>
      }
    >
      <fieldset className="sql-columns">
        <legend>{label}</legend>
        {all.map((name) => (
          <label key={name} className="check">
            <input
              type="checkbox"
              checked={chosen.includes(name)}
              // In the order of the table.
              onChange={(e) =>
                onChange(all.filter((other) => (other === name ? e.target.checked : chosen.includes(other))))
              }
            />
            <bdi>{name}</bdi>
          </label>
        ))}
      </fieldset>
    </Popover>
  );
}

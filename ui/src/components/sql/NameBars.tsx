// Numbers by name: a bar for each series below its name.

import { useMemo } from 'react';
import { assignLooks, seriesColour } from '../../lib/colour';
import type { Frame } from '../../lib/frame';
import { formatValue } from '../../lib/units';
import { useTheme } from '../../state/theme';

export function NameBars({
  frame,
  names,
  unit,
  label,
}: {
  /** A row of values a name. */
  frame: Frame;
  names: string[];
  unit?: string;
  label: string;
}) {
  useTheme();
  const looks = useMemo(() => assignLooks(frame.series.map((s) => s.id)), [frame]);
  const most = Math.max(
    ...frame.series.flatMap((s) => s.values.map((v) => (v === null || !Number.isFinite(v) ? 0 : Math.abs(v)))),
    Number.MIN_VALUE,
  );
  const colour = (at: number): string => seriesColour(looks[at]!.colour);
  return (
    <div className="name-bars" role="group" aria-label={label} tabIndex={0} data-testid="name-bars">
      {frame.series.length > 1 && (
        <ul className="name-bars-key">
          {frame.series.map((s, i) => (
            <li key={s.id}>
              <span className="swatch" style={{ background: colour(i) }} aria-hidden />
              <bdi>{s.name}</bdi>
            </li>
          ))}
        </ul>
      )}
      <ul>
        {names.map((name, row) => (
          <li key={name} className="name-bars-row">
            <bdi className="clip" title={name.slice(0, 2000)}>
              {name === '' ? '(empty)' : name.slice(0, 300)}
            </bdi>
            <span>
              {frame.series.map((s, i) => {
                const value = s.values[row];
                if (value === null || value === undefined) return null;
                const share = Number.isFinite(value) ? Math.abs(value) / most : 0;
                return (
                  <span key={s.id} className="name-bar" title={`${s.name}: ${value}`}>
                    <span className={value < 0 ? 'is-below' : ''} aria-hidden>
                      <span style={{ width: `${share * 100}%`, background: colour(i) }} />
                    </span>
                    {frame.series.length > 1 && <span className="sr-only">{s.name}</span>}
                    <b className="tab-num">{formatValue(value, unit)}</b>
                  </span>
                );
              })}
            </span>
          </li>
        ))}
      </ul>
    </div>
  );
}

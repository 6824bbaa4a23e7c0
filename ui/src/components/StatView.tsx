// A number a series, with its course.

import { useMemo, useState } from 'react';
import { assignLooks, seriesColour } from '../lib/colour';
import { type Frame, reduce } from '../lib/frame';
import { seriesName } from '../lib/labels';
import { formatCount, formatValue } from '../lib/units';
import type { FIGURES } from '../routes';
import { useTheme } from '../state/theme';
import { Sparkline } from './Sparkline';
import { Input } from './ui';
import '../style/stat.css';

/** Series that are shown at once; the filter finds the others. */
const SHOWN = 200;

export default function StatView({
  frame,
  figure,
  dimmed,
}: {
  frame: Frame;
  figure: (typeof FIGURES)[number];
  dimmed: boolean;
}) {
  useTheme();
  const [filter, setFilter] = useState('');
  const looks = useMemo(() => assignLooks(frame.series.map((s) => s.id)), [frame]);
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const found = frame.series
    .map((series, i) => ({ series, look: looks[i]! }))
    .filter(({ series }) => words.every((word) => seriesName(series.labels).toLowerCase().includes(word)));
  return (
    <>
      {frame.series.length > 12 && (
        <Input
          className="legend-filter"
          placeholder={`Filter ${formatCount(frame.series.length)} series`}
          aria-label="Filter series"
          value={filter}
          onChange={(e) => setFilter(e.target.value)}
        />
      )}
      <ul
        className={`stats-grid ${dimmed ? 'is-dimmed' : ''} ${found.length === 1 ? 'is-single' : ''}`}
        data-testid="figures"
      >
        {found.slice(0, SHOWN).map(({ series, look }) => {
          const value = reduce(series.values)[figure];
          return (
            <li key={series.id} title={seriesName(series.labels)}>
              <Sparkline values={series.values} colour={seriesColour(look.colour)} />
              <bdi className="figure-label">{series.name}</bdi>
              <span className="figure-number tab-num" title={value === null ? undefined : String(value)}>
                {formatValue(value)}
              </span>
            </li>
          );
        })}
      </ul>
      {found.length > SHOWN && (
        <p className="cap-note">
          {SHOWN} of {formatCount(found.length)} series are shown. Filter to see the others.
        </p>
      )}
      {found.length === 0 && <p className="muted">No series has these words in its labels.</p>}
    </>
  );
}

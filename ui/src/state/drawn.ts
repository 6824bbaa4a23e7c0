// Which series of an answer a chart draws: the first so many, without those that its legend hides; or those with a value
// of a label, wherever they stand.

import { useCallback, useMemo, useState } from 'react';
import type { Frame, FrameSeries } from '../lib/frame';

/** Series of a query with a value of a label; empty: without the label. */
export interface Only {
  query: number;
  name: string;
  value: string;
}

const has = (series: FrameSeries, { query, name, value }: Only): boolean =>
  series.query === query && (series.labels[name] ?? '') === value;

export function useDrawn(frame: Frame, most: number) {
  const [off, setOff] = useState<ReadonlySet<string>>(new Set());
  const [wanted, setOnly] = useState<Only | null>(null);
  // Another answer may have none of them.
  const only = useMemo(() => (wanted && frame.series.some((s) => has(s, wanted)) ? wanted : null), [frame, wanted]);
  const shown = useMemo(() => {
    if (frame.series.length <= most) return frame;
    const drawn = only ? frame.series.filter((s) => has(s, only)) : frame.series;
    return { ...frame, series: drawn.slice(0, most) };
  }, [frame, most, only]);
  // The others stay in the frame where there is room: series keep their colours.
  const hidden = useMemo(
    () => (only ? new Set(shown.series.filter((s) => !has(s, only)).map((s) => s.id)) : off),
    [shown, only, off],
  );
  const setHidden = useCallback((next: ReadonlySet<string>) => {
    setOnly(null);
    setOff(next);
  }, []);
  return { shown, hidden, setHidden, only, setOnly };
}

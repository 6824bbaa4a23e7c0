// How many records there are over time, by level: exact counts by the server. A drag zooms, one with Shift chooses a part.

import { lazy, Suspense, useMemo, useRef, useState } from 'react';
import type { LogGroup } from '../../api/logs';
import { edgesOf } from '../../lib/edges';
import { LEVELS, type Level, levelOf } from '../../lib/logrow';
import { formatMoment, niceStep, type Range, roundTimes } from '../../lib/time';
import { formatCount } from '../../lib/units';

const PartEdges = lazy(async () => ({ default: (await import('../Part')).PartEdges }));
const PartTools = lazy(async () => ({ default: (await import('../Part')).PartTools }));

/** Where the bars are, without the times below them; as in the style sheet. */
const AREA = '0,0,100%,66px';

/** Counts per step and level, from the range's first step on. */
export function bars(groups: LogGroup[], from: number, to: number, step: number): Map<Level, number[]> {
  const length = Math.min(Math.max(Math.ceil((to - from) / step), 1), 5000);
  const out = new Map<Level, number[]>();
  for (const group of groups) {
    const level = levelOf(group.fields.level);
    const row = out.get(level) ?? new Array<number>(length).fill(0);
    for (const [seconds, count] of group.values) {
      const at = Math.round((seconds * 1000 - from) / step);
      if (at >= 0 && at < length) row[at] = row[at]! + count;
    }
    out.set(level, row);
  }
  return out;
}

export function Histogram({
  groups,
  range,
  step,
  zone,
  dimmed,
  onZoom,
  onLevel,
  part,
  onPart,
  focusPart,
  comparing,
  onCompare,
}: {
  groups: LogGroup[];
  /** Begins at a step. */
  range: Range;
  step: number;
  zone: string;
  dimmed: boolean;
  onZoom: (range: Range) => void;
  onLevel: (level: Level) => void;
  /** What is chosen, in whole bars. */
  part: Range | null;
  /** Chooses, or moves an edge of what is chosen. Without a drag that said what, null chooses nothing and true anything. */
  onPart: (part: Range | null | true, isMoved?: boolean) => void;
  focusPart: boolean;
  comparing: boolean;
  onCompare: () => void;
}) {
  const { from, to } = range;
  const columns = useMemo(() => bars(groups, from, to, step), [groups, from, to, step]);
  const shown = LEVELS.filter((level) => columns.has(level));
  const length = Math.max(1, Math.ceil((to - from) / step));
  const sums = useMemo(() => {
    const out = new Array<number>(length).fill(0);
    for (const row of columns.values()) row.forEach((count, i) => (out[i] = (out[i] ?? 0) + count));
    return out;
  }, [columns, length]);
  const most = Math.max(1, ...sums);
  const plot = useRef<HTMLDivElement>(null);
  const [at, setAt] = useState<number | null>(null);
  const [begun, setBegun] = useState<number | null>(null);
  const choosing = useRef(false);

  const stepUnder = (x: number): number => {
    const box = plot.current?.getBoundingClientRect();
    if (!box || box.width === 0) return 0;
    const share = Math.min(Math.max((x - box.left) / box.width, 0), 0.999_999);
    return Math.floor((share * (to - from)) / step);
  };
  const place = (i: number): string => `${Math.min(100, ((i * step) / (to - from)) * 100)}%`;
  const [low, high] = part ? edgesOf(part, { from, step, count: length }) : [0, 0];
  const inPart = sums.slice(low, high).reduce((a, b) => a + b, 0);
  const chosen = begun === null || at === null ? null : [Math.min(begun, at), Math.max(begun, at) + 1];
  const totals = new Map(shown.map((level) => [level, columns.get(level)!.reduce((a, b) => a + b, 0)]));
  const isLong = to - from > 86_400_000;
  const apart = niceStep(range, 8);
  // A word has to fit between the last one and the end.
  const ticks = roundTimes({ from, to: to - apart * 0.4 }, apart, zone);
  return (
    <div className={`log-histogram ${dimmed ? 'is-dimmed' : ''}`} data-testid="log-histogram">
      <div className="log-levels">
        {shown.map((level) => (
          <button
            key={level}
            type="button"
            className={`lv-${level}`}
            onClick={() => onLevel(level)}
            title={`Only ${level}`}
          >
            <span className="lv-key" aria-hidden /> {level === 'none' ? 'no level' : level}{' '}
            <b className="tab-num">{formatCount(totals.get(level)!)}</b>
          </button>
        ))}
        <span className="spring" />
        {!part && <span className="muted small tab-num">at most {formatCount(most)} a bar</span>}
        <Suspense>
          <PartTools
            part={part}
            said={`${formatCount(inPart)} records`}
            comparing={comparing}
            onZoom={onZoom}
            onCompare={onCompare}
            onChoose={onPart}
          />
        </Suspense>
      </div>
      <div className="log-plot">
        <div
          ref={plot}
          className="log-bars"
          role="img"
          aria-label={`Records over time: ${shown.map((level) => `${formatCount(totals.get(level)!)} ${level}`).join(', ')}`}
          onPointerDown={(event) => {
            event.currentTarget.setPointerCapture(event.pointerId);
            choosing.current = event.shiftKey;
            setBegun(stepUnder(event.clientX));
          }}
          onPointerMove={(event) => setAt(stepUnder(event.clientX))}
          onPointerLeave={() => begun === null && setAt(null)}
          onPointerUp={() => {
            const act = choosing.current ? onPart : onZoom;
            if (chosen) act({ from: from + chosen[0]! * step, to: Math.min(to, from + chosen[1]! * step) });
            setBegun(null);
          }}
        >
          <svg viewBox={`0 0 ${(to - from) / step} ${most}`} preserveAspectRatio="none" aria-hidden="true">
            {sums.map((sum, i) => {
              if (sum === 0) return null;
              let top = most;
              return [...shown].reverse().map((level) => {
                const count = columns.get(level)![i]!;
                if (count === 0) return null;
                top -= count;
                return (
                  <rect
                    key={`${i} ${level}`}
                    className={`lv-${level}`}
                    x={i + 0.08}
                    width={0.84}
                    y={top}
                    height={count}
                  />
                );
              });
            })}
          </svg>
          {ticks.map((tick) => (
            <span key={tick} className="log-tick tab-num" style={{ left: place((tick - from) / step) }}>
              {formatMoment(tick, zone).slice(isLong ? 5 : 11, isLong ? 16 : apart < 60_000 ? 19 : 16)}
            </span>
          ))}
          {chosen && (
            <span
              className="log-chosen"
              style={{ left: place(chosen[0]!), right: `calc(100% - ${place(chosen[1]!)})` }}
            />
          )}
          {at !== null && sums[at] !== undefined && (
            <div
              className={`chart-tip log-tip ${at * step > (to - from) / 2 ? 'is-left' : ''}`}
              style={{ left: place(at) }}
            >
              <div className="chart-tip-time">{formatMoment(from + at * step, zone)}</div>
              {shown.map((level) => (
                <div key={level} className="chart-tip-row">
                  <span className={`chart-tip-key lv-${level}`} />
                  <span className="chart-tip-name">{level}</span>
                  <span className="chart-tip-value">{formatCount(columns.get(level)![at] ?? 0)}</span>
                </div>
              ))}
            </div>
          )}
        </div>
        {part && (
          <Suspense>
            <PartEdges
              area={AREA}
              range={range}
              times={Array.from({ length: length + 1 }, (_, i) => from + i * step)}
              part={part}
              zone={zone}
              focus={focusPart}
              onPart={(next) => onPart({ from: next.from, to: Math.min(to, next.to) }, true)}
            />
          </Suspense>
        )}
      </div>
    </div>
  );
}

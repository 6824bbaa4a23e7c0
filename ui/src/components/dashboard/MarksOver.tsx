// The marks of annotations over a plot: a line or a region each, with a handle below that tells about it. The plot
// takes what the pointer does elsewhere. All is text nodes: what labels and records hold can not become markup.

import { useState } from 'react';
import { type Group, grouped, type Mark, sayings } from '../../lib/dashboard/annotations';
import { type Annotation, safeColour } from '../../lib/dashboard/model';
import { formatMoment, type Range } from '../../lib/time';

/** Pixels within which marks are one. */
const NEAR = 5;
const TOLD_LABELS = 10;
/** About what a line of the tooltip takes. */
const LINE = 20;

export const markColour = (annotation: Annotation): string => safeColour(annotation.colour) ?? 'var(--info)';

export function markTime(mark: Mark, zone: string): string {
  const [from, to] = [formatMoment(mark.from, zone), formatMoment(mark.to, zone)];
  // Of the end, the day is told where it is another.
  const end = from.slice(0, 10) === to.slice(0, 10) ? to.slice(11) : to;
  return `${mark.openStart ? '… ' : ''}${from}${mark.to > mark.from ? ` – ${end}` : ''}${mark.openEnd ? ' …' : ''}`;
}

interface Placed extends Group {
  annotation: Annotation;
}

export function MarksOver({
  area,
  range,
  zone,
  annotations,
  marks,
}: {
  /** Left, top, width and height of the plot within what holds it, as styles say it. */
  area: string;
  range: Range;
  zone: string;
  annotations: Annotation[];
  /** Of each annotation, as far as they are known. */
  marks: (Mark[] | undefined)[];
}) {
  const [left, top, width, height] = area.split(',');
  const wide = Number.parseFloat(width ?? '') || 1;
  const { from, to } = range;
  const least = ((to - from) / wide) * NEAR;
  const [told, setTold] = useState<Placed | null>(null);
  const groups: Placed[] = annotations.flatMap((annotation, i) =>
    grouped(marks[i] ?? [], { from, to }, least).map((group) => ({ ...group, annotation })),
  );
  const share = (ms: number): number => ((ms - from) / (to - from)) * 100;
  // Handles lie over each other: one tells of all that is there.
  const there = told ? groups.filter((g) => g.to >= told.from - least && g.from <= told.to + least) : [];
  return (
    <div className="marks" style={{ left, top, width, height }} data-testid="marks">
      {groups.map((group, i) => {
        const { annotation } = group;
        const region = group.to > group.from;
        const place = {
          left: `${share(group.from)}%`,
          width: region ? `${share(group.to) - share(group.from)}%` : undefined,
          color: markColour(annotation),
        };
        const only = group.marks.length === 1;
        return (
          <span key={i}>
            <span className={`mark ${region ? 'is-region' : ''}`} style={place} />
            <button
              type="button"
              // Hundreds of them are no stops of the Tab key: the list above the panels has them all.
              tabIndex={-1}
              className={`mark-handle ${region ? 'is-region' : ''}`}
              style={place}
              aria-label={`${annotation.name}: ${only ? markTime(group.marks[0]!, zone) : `${group.marks.length} marks`}`}
              onPointerEnter={() => setTold(group)}
              onPointerLeave={() => setTold(null)}
              onFocus={() => setTold(group)}
              onBlur={() => setTold(null)}
            />
          </span>
        );
      })}
      {told && there.length > 0 && (
        <MarkTip
          groups={there}
          zone={zone}
          lines={Math.max(3, Math.floor((Number.parseFloat(height ?? '') || 0) / LINE))}
          right={share(told.from) > 50}
          at={share(told.from)}
        />
      )}
    </div>
  );
}

function MarkTip({
  groups,
  zone,
  lines,
  right,
  at,
}: {
  groups: Placed[];
  zone: string;
  /** How many there is room for. */
  lines: number;
  right: boolean;
  at: number;
}) {
  const whole = groups.length === 1 && groups[0]!.marks.length === 1 ? groups[0]!.marks[0] : undefined;
  const shown = groups.slice(0, Math.max(1, Math.floor(lines / 3)));
  const each = Math.max(1, Math.floor(lines / shown.length / 2));
  return (
    <div
      className="chart-tip mark-tip"
      role="tooltip"
      style={right ? { right: `${100 - at}%` } : { left: `${at}%` }}
      data-testid="mark-tip"
    >
      {shown.map(({ annotation, marks }, i) => {
        const said = sayings(marks);
        return (
          <div key={i}>
            <div className="chart-tip-row is-near">
              <span className="chart-tip-key" style={{ background: markColour(annotation) }} />
              <bdi className="chart-tip-name">{annotation.name}</bdi>
              {marks.length > 1 && <span className="chart-tip-value">{marks.length} marks</span>}
            </div>
            {said.slice(0, each).map(({ mark, count }, j) => (
              <div key={j}>
                <div className="chart-tip-time">
                  {markTime(mark, zone)}
                  {count > 1 && ` × ${count}`}
                </div>
                {mark.text !== '' && (
                  <div className="mark-text" dir="auto">
                    {mark.text}
                  </div>
                )}
                {mark.labels.slice(0, whole ? TOLD_LABELS : mark.text === '' ? 2 : 0).map(([name, value]) => (
                  <div key={name} className="chart-tip-row">
                    <bdi className="chart-tip-name muted">{name}</bdi>
                    <bdi className="chart-tip-name">{value}</bdi>
                  </div>
                ))}
                {whole && mark.labels.length > TOLD_LABELS && (
                  <div className="muted">… {mark.labels.length - TOLD_LABELS} more</div>
                )}
              </div>
            ))}
            {said.length > each && <div className="muted">… {said.length - each} more</div>}
          </div>
        );
      })}
      {groups.length > shown.length && <div className="muted">… {groups.length - shown.length} more</div>}
    </div>
  );
}

// The annotations of a dashboard above its panels: a switch for each, how many marks it has, and a list of them, which is
// also the way to them without a pointer.

import { ChevronDown } from 'lucide-react';
import { countText, type Marks } from '../../lib/dashboard/annotations';
import type { Annotation } from '../../lib/dashboard/model';
import type { Range } from '../../lib/time';
import { type AnnotationContext, useMarks } from '../../state/marks';
import { Popover } from '../floating';
import { IconButton } from '../ui';
import { markColour, markTime } from './MarksOver';

const LISTED = 100;

export function AnnotationBar({
  all,
  marked,
  range,
  zone,
  onSwitch,
}: {
  all: Annotation[];
  marked: AnnotationContext;
  range: Range;
  zone: string;
  onSwitch: (annotation: Annotation) => void;
}) {
  const results = useMarks(marked, range);
  const shown = all.filter((a) => !a.hidden);
  if (shown.length === 0) return null;
  return (
    <div className="variable-bar" role="group" aria-label="Annotations" data-testid="annotations">
      {shown.map((annotation, i) => {
        const at = marked.annotations.indexOf(annotation);
        const result = results[at];
        const error = result?.error;
        return (
          <span key={i} className="variable annotation">
            <label className="check">
              <input type="checkbox" checked={at >= 0} onChange={() => onSwitch(annotation)} />
              <span className="mark-key" style={{ background: markColour(annotation) }} aria-hidden />
              <bdi className={error ? 'critical' : ''}>{annotation.name}</bdi>
            </label>
            {error && (
              <span className="critical small clip annotation-error" role="alert" title={error.message}>
                ■ {error.message}
              </span>
            )}
            {!error && result?.data && (
              <>
                <span className="muted small tab-num">{countText(result.data)}</span>
                <Popover
                  label={`Marks of ${annotation.name}`}
                  align="start"
                  trigger={<IconButton icon={ChevronDown} label={`Marks of ${annotation.name}`} />}
                >
                  <MarkList marks={result.data} zone={zone} />
                </Popover>
              </>
            )}
          </span>
        );
      })}
    </div>
  );
}

function MarkList({ marks, zone }: { marks: Marks; zone: string }) {
  const newest = marks.marks.slice(-LISTED).reverse();
  return (
    <div className="variable-list mark-list">
      {newest.length === 0 && <p className="muted small">nothing in this range</p>}
      <ul tabIndex={0} aria-label="Marks, the newest first">
        {newest.map((mark, i) => (
          <li key={i}>
            <span className="muted small tab-num">{markTime(mark, zone)}</span>
            {mark.text !== '' && (
              <div className="mark-text" dir="auto">
                {mark.text}
              </div>
            )}
            {mark.labels.length > 0 && (
              <div className="muted small clip" dir="auto">
                {mark.labels
                  .slice(0, 10)
                  .map(([name, value]) => `${name}=${value}`)
                  .join(' ')}
              </div>
            )}
          </li>
        ))}
      </ul>
      {newest.length > 0 && countText(marks) !== String(newest.length) && (
        <p className="cap-note small">
          listed: the newest {newest.length}; drawn: {countText(marks)}
        </p>
      )}
    </div>
  );
}

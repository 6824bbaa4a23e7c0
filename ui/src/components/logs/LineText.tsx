// The text of a record's body: with the looks that its program gave it, and what was searched for marked. All of it is
// text: a look is a class of ours, or a colour made of three numbers.

import { type CSSProperties, memo } from 'react';
import type { LogRow } from '../../api/logs';
import type { Ink, Look, Run } from '../../lib/ansi';
import { lineRuns, markedRuns } from '../../lib/logrow';

const FLAGS = ['bold', 'faint', 'italic', 'underline', 'struck'] as const;

const inkClass = (ink: Ink, what: string): string =>
  `ansi-${what} ansi-${what}-${typeof ink === 'number' ? ink : 'own'}`;
const inkText = (ink: Ink | undefined): string | undefined =>
  Array.isArray(ink) ? `rgb(${ink.map(Math.round).join(' ')})` : undefined;

/** Classes and own colours of a look; none where it is plain. */
function looksOf(look: Look): { className: string; style?: CSSProperties } | null {
  // Turned around, what has no colour has that of text, on which a body could not be read: a ground of it is enough.
  const [ink, ground] = look.inverse ? [look.ground, look.ink ?? 15] : [look.ink, look.ground];
  const classes: string[] = FLAGS.filter((flag) => look[flag]).map((flag) => `ansi-${flag}`);
  if (ink !== undefined) classes.push(inkClass(ink, 'ink'));
  if (ground !== undefined) classes.push(inkClass(ground, 'ground'));
  if (classes.length === 0) return null;
  const own: Record<string, string | undefined> = { '--ink': inkText(ink), '--ground': inkText(ground) };
  return { className: classes.join(' '), style: own['--ink'] || own['--ground'] ? (own as CSSProperties) : undefined };
}

export function Runs({ runs, words }: { runs: Run[]; words: string[] }) {
  return markedRuns(runs, words).map(({ text, look, hit }, i) => {
    const looks = looksOf(look);
    if (!looks) return hit ? <mark key={i}>{text}</mark> : text;
    return (
      <span key={i} {...looks}>
        {hit ? <mark>{text}</mark> : text}
      </span>
    );
  });
}

const NONE: string[] = [];

export const LineText = memo(function LineText({
  row,
  wrap,
  raw = false,
  words = NONE,
}: {
  row: LogRow;
  wrap: boolean;
  raw?: boolean;
  words?: string[];
}) {
  return (
    <bdi className="log-body">
      <Runs runs={lineRuns(row, wrap, raw)} words={words} />
    </bdi>
  );
});

// A chosen part of a picture: what can be done with it, the way to choose one without a pointer, and the edges of a part of
// the time.

import { GitCompare, X, ZoomIn } from 'lucide-react';
import { type CSSProperties, type ReactNode, useEffect, useState } from 'react';
import { between, edgesOf } from '../lib/edges';
import { formatDuration, formatMoment, type Range } from '../lib/time';
import { Button, IconButton } from './ui';
import '../style/part.css';

export function Chosen({
  children,
  comparing,
  onZoom,
  onCompare,
  onClear,
}: {
  /** What is chosen. */
  children: ReactNode;
  comparing: boolean;
  onZoom: () => void;
  onCompare: () => void;
  onClear: () => void;
}) {
  return (
    <>
      <span className="tab-num" data-testid="chosen">
        chosen: {children}
      </span>
      <Button icon={ZoomIn} onClick={onZoom}>
        Zoom in
      </Button>
      <Button look="primary" icon={GitCompare} aria-pressed={comparing} onClick={onCompare}>
        Compare selection
      </Button>
      <IconButton icon={X} label="Nothing chosen (Esc)" onClick={onClear} />
    </>
  );
}

/** The same for a part of the time that a page shows. */
export function PartTools({
  part,
  said,
  comparing,
  onZoom,
  onCompare,
  onChoose,
}: {
  part: Range | null;
  /** What is chosen, where there is more to say than how long it is. */
  said?: string;
  comparing: boolean;
  onZoom: (part: Range) => void;
  onCompare: () => void;
  /** Chooses anything, or nothing. */
  onChoose: (part: true | null) => void;
}) {
  return part ? (
    <Chosen comparing={comparing} onZoom={() => onZoom(part)} onCompare={onCompare} onClear={() => onChoose(null)}>
      <b>{said ?? formatDuration(part.to - part.from)}</b>
    </Chosen>
  ) : (
    <Button
      look="ghost"
      icon={GitCompare}
      title="A drag with Shift chooses a part of the time; this button, or c, the middle of it"
      onClick={() => onChoose(true)}
    >
      Compare a part
    </Button>
  );
}

const NAMES = ['First moment of the chosen part', 'Last moment of the chosen part'];

/** The chosen part with its two edges: they are dragged, or moved by arrow keys. Lies over the plot. */
export function PartEdges({
  area,
  range,
  times,
  part,
  zone,
  focus,
  onPart,
}: {
  /** Left, top, width and height of the plot within what holds it, as styles say it. */
  area: string;
  /** What the plot shows from its left to its right. */
  range: Range;
  /** The moments that edges lie at, evenly apart. */
  times: number[];
  part: Range;
  zone: string;
  /** Whether the first edge takes the keys. */
  focus: boolean;
  onPart: (part: Range) => void;
}) {
  const [first, second] = [times[0] ?? range.from, times[1] ?? range.to];
  const grid = { from: first, step: second - first, count: Math.max(1, times.length - 1) };
  const [left, top, width, height] = area.split(',');
  const [moved, setMoved] = useState<[number, number] | null>(null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: a part that is said anew is the one
  useEffect(() => setMoved(null), [part.from, part.to]);
  const edges = moved ?? edgesOf(part, grid);
  const shown = moved ? between(moved, grid) : part;
  const share = (ms: number): number => ((ms - range.from) / (range.to - range.from)) * 100;
  const [begin, end] = [Math.max(0, share(shown.from)), Math.min(100, share(shown.to))];
  /** The address changes when an edge is let go. */
  const settle = () => moved && onPart(between(moved, grid));
  const ends = between([0, grid.count], grid);
  return (
    <div className="part" style={{ left, top, width, height, '--plot': height } as CSSProperties} data-testid="part">
      <span className="part-held" style={{ left: `${begin}%`, width: `${Math.max(0, end - begin)}%` }} />
      {edges.map((at, i) => (
        <input
          key={NAMES[i]}
          type="range"
          className="part-edge"
          style={
            {
              '--from': `${share(ends.from)}%`,
              '--wide': `${share(ends.to) - share(ends.from)}%`,
            } as CSSProperties
          }
          aria-label={NAMES[i]}
          aria-valuetext={formatMoment(grid.from + at * grid.step, zone)}
          title="An edge of the chosen part: drag it, or use the arrow keys"
          min={0}
          max={grid.count}
          value={at}
          autoFocus={focus && i === 0}
          onChange={(event) => {
            const to = Number(event.target.value);
            setMoved(i === 0 ? [Math.min(to, edges[1] - 1), edges[1]] : [edges[0], Math.max(to, edges[0] + 1)]);
          }}
          onPointerUp={settle}
          onKeyUp={settle}
          onBlur={settle}
        />
      ))}
    </div>
  );
}

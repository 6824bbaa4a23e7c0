// What the strips of a trace's time share: a drag over them is a stretch of time.

import { type PointerEvent, type RefObject, useState } from 'react';
import type { Range } from '../../lib/time';
import type { Axis } from '../../lib/trace';

/** Pixels that a pointer has to go for a drag. */
const LEAST = 4;

export interface AxisDrag {
  /** Shares of the strip, the smaller first. */
  span: [number, number] | null;
  handlers: {
    onPointerDown: (event: PointerEvent) => void;
    onPointerMove: (event: PointerEvent) => void;
    onPointerUp: (event: PointerEvent) => void;
    onPointerCancel: () => void;
  };
}

export function useAxisDrag(box: RefObject<HTMLElement | null>, axis: Axis, onRange: (range: Range) => void): AxisDrag {
  const [drag, setDrag] = useState<[number, number] | null>(null);
  const share = (event: PointerEvent): number => {
    const rect = box.current?.getBoundingClientRect();
    if (!rect || rect.width === 0) return 0;
    return Math.min(Math.max((event.clientX - rect.left) / rect.width, 0), 1);
  };
  const span: [number, number] | null = drag && [Math.min(...drag), Math.max(...drag)];
  return {
    span,
    handlers: {
      onPointerDown: (event) => {
        if (event.button !== 0) return;
        event.currentTarget.setPointerCapture(event.pointerId);
        setDrag([share(event), share(event)]);
      },
      onPointerMove: (event) => drag && setDrag([drag[0], share(event)]),
      onPointerUp: () => {
        const width = box.current?.getBoundingClientRect().width ?? 0;
        if (span && (span[1] - span[0]) * width >= LEAST) onRange({ from: axis.ns(span[0]), to: axis.ns(span[1]) });
        setDrag(null);
      },
      onPointerCancel: () => setDrag(null),
    },
  };
}

export const percent = (share: number): string => `${share * 100}%`;

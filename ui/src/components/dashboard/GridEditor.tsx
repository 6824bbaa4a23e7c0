// The grid while it is edited: panels are dragged by their heads and resized at their corners. Rows are lines in it.

import { GripVertical, Trash2 } from 'lucide-react';
import type { ReactNode } from 'react';
import ReactGridLayout, { useContainerWidth, verticalCompactor } from 'react-grid-layout';
import 'react-grid-layout/css/styles.css';
import { COLUMNS, type Panel } from '../../lib/dashboard/model';
import { IconButton, Input } from '../ui';

/** Height of a line of the grid, and the room between panels; as in the style of the shown grid. */
export const LINE = 30;
export const GAP = 8;

// What drags would put a style of its own into the page, which the page's policy forbids. It looks for an element of this
// name first; its rule stands in our own styles.
const DRAG_STYLE = 'react-draggable-style-el';
if (!document.getElementById(DRAG_STYLE)) {
  const stand = document.createElement('meta');
  stand.id = DRAG_STYLE;
  document.head.append(stand);
}

export const pixels = (h: number): number => h * LINE + (h - 1) * GAP;

export default function GridEditor({
  panels,
  onChange,
  render,
  onRow,
  onRemove,
}: {
  panels: Panel[];
  onChange: (panels: Panel[]) => void;
  render: (panel: Panel, height: number, width: number) => ReactNode;
  onRow: (row: Panel, title: string) => void;
  onRemove: (id: string) => void;
}) {
  const { width, containerRef, mounted } = useContainerWidth();
  const layout = panels.map((p) => ({
    i: p.id,
    ...p.grid,
    minW: p.kind === 'row' ? COLUMNS : 2,
    minH: p.kind === 'row' ? 1 : 2,
    ...(p.kind === 'row' ? { maxH: 1, isResizable: false } : {}),
  }));
  const column = (width + GAP) / COLUMNS;
  return (
    <div ref={containerRef} className="grid-editor">
      {mounted && (
        <ReactGridLayout
          width={width}
          layout={layout}
          gridConfig={{ cols: COLUMNS, rowHeight: LINE, margin: [GAP, GAP], containerPadding: [0, 0] }}
          dragConfig={{ enabled: true, handle: '.drag-handle', cancel: 'button, input' }}
          resizeConfig={{ enabled: true, handles: ['se'] }}
          compactor={verticalCompactor}
          onLayoutChange={(next) => {
            const places = new Map(next.map((item) => [item.i, item]));
            let changed = false;
            const moved = panels.map((panel) => {
              const place = places.get(panel.id);
              if (!place) return panel;
              const grid = { x: place.x, y: place.y, w: place.w, h: place.h };
              if (
                grid.x === panel.grid.x &&
                grid.y === panel.grid.y &&
                grid.w === panel.grid.w &&
                grid.h === panel.grid.h
              )
                return panel;
              changed = true;
              return { ...panel, grid };
            });
            if (changed) onChange(moved);
          }}
        >
          {panels.map((panel) => (
            <div key={panel.id}>
              {panel.kind === 'row' ? (
                <div className="dash-row is-edited">
                  <GripVertical size={14} className="drag-handle" aria-hidden />
                  <Input
                    aria-label="Title of the row"
                    value={panel.title}
                    onChange={(e) => onRow(panel, e.target.value)}
                  />
                  <IconButton
                    icon={Trash2}
                    label="Remove the row; its panels stay"
                    onClick={() => onRemove(panel.id)}
                  />
                </div>
              ) : (
                render(panel, pixels(panel.grid.h), Math.floor(panel.grid.w * column - GAP))
              )}
            </div>
          ))}
        </ReactGridLayout>
      )}
    </div>
  );
}

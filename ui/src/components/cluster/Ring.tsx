// Nodes around a ring, each as long as what it holds; a line from the leader to the replicas of a shard under the pointer, and
// from where a replica is copied to where it goes. The matrix says the same for keyboards and screen readers.

import { useMemo, useState } from 'react';
import type { ClusterStatus } from '../../api/cluster';
import { movesOf, type RingCell, ringChord, ringOf, ringPath, ringPoint } from '../../lib/balance';
import { cellName, cellState } from '../../lib/cells';
import { formatCount } from '../../lib/units';

const OUTER = 190;
const INNER = 150;
const CHORD = 146;
const NAMES = 214;

export function Ring({
  status,
  shown,
  picked,
  onPick,
}: {
  status: ClusterStatus;
  /** Groups that the filter leaves. */
  shown: ReadonlySet<number>;
  picked: number | undefined;
  onPick: (shard: number) => void;
}) {
  const [hovered, setHovered] = useState<RingCell | null>(null);
  const arcs = useMemo(() => ringOf(status), [status]);
  const moves = useMemo(() => movesOf(status), [status]);
  const near = hovered?.shard.id ?? picked;
  const cells = arcs.flatMap((arc) => arc.cells);
  const middle = (node: number | null, shard: number): number | null => {
    const cell = cells.find((one) => one.node === node && one.shard.id === shard);
    return cell ? (cell.from + cell.to) / 2 : null;
  };
  const chords = cells
    .filter((cell) => cell.shard.id === near && cell.node !== cell.shard.leader)
    .map((cell) => [middle(cell.shard.leader, cell.shard.id), (cell.from + cell.to) / 2] as const);
  const moving = moves
    .filter((move) => shown.has(move.shard))
    .flatMap((move) => {
      const leader = cells.find((cell) => cell.shard.id === move.shard)?.shard.leader ?? null;
      const from = middle(move.from[0] ?? leader, move.shard) ?? middle(leader, move.shard);
      return move.to.map((to) => ({ shard: move.shard, from, to: middle(to, move.shard) }));
    });
  const node = hovered && status.nodes.find((one) => one.id === hovered.node);
  const shard = cells.find((cell) => cell.shard.id === picked)?.shard;
  const said =
    hovered && node
      ? cellName(node, hovered.shard)
      : shard
        ? `${shard.id === 0 ? 'meta group' : `shard ${shard.id}`}: ${shard.leader === null ? 'without a leader' : `led by node ${shard.leader}`}`
        : null;
  const leads = arcs
    .map((arc) => `node ${arc.node.id} ${arc.cells.filter((cell) => cell.shard.leader === arc.node.id).length}`)
    .join(', ');
  return (
    <div className="ring" data-testid="ring">
      <svg viewBox="-260 -240 520 480" role="img" aria-label={`Groups that nodes lead: ${leads}`}>
        {arcs.map((arc) => {
          const turns = (arc.from + arc.to) / 2;
          const [x, y] = ringPoint(turns, NAMES);
          return (
            <g key={arc.node.id} className={arc.node.reachable ? '' : 'is-down'}>
              <path className="ring-arc" d={ringPath(arc.from, arc.to, OUTER + 3, OUTER + 6)} />
              <text x={x} y={y} textAnchor={Math.abs(x) < 30 ? 'middle' : x > 0 ? 'start' : 'end'}>
                node {arc.node.id}
              </text>
              {arc.cells.length === 0 && (
                <path className="ring-empty" d={ringPath(arc.from, arc.to, INNER, OUTER)}>
                  <title>node {arc.node.id} holds nothing</title>
                </path>
              )}
              {arc.cells.map((cell) => {
                const { state } = cellState(arc.node, cell.shard);
                const isFaint = !shown.has(cell.shard.id) || (near !== undefined && near !== cell.shard.id);
                return (
                  // biome-ignore lint/a11y/noStaticElementInteractions: the matrix is for keyboards
                  <path
                    key={cell.shard.id}
                    className={`ring-cell cell-${state} ${isFaint ? 'is-faint' : ''} ${picked === cell.shard.id ? 'is-picked' : ''}`}
                    d={ringPath(cell.from, cell.to, state === 'leader' ? INNER - 10 : INNER, OUTER)}
                    onPointerEnter={() => setHovered(cell)}
                    onPointerLeave={() => setHovered(null)}
                    onClick={() => onPick(cell.shard.id)}
                  />
                );
              })}
            </g>
          );
        })}
        {chords.map(
          ([from, to], i) => from !== null && <path key={i} className="ring-chord" d={ringChord(from, to, CHORD)} />,
        )}
        {moving.map(
          ({ shard, from, to }) =>
            from !== null &&
            to !== null && (
              <path key={`${shard} ${to}`} className="ring-move" d={ringChord(from, to, CHORD)}>
                <title>shard {shard} moves</title>
              </path>
            ),
        )}
        <text className="ring-middle" textAnchor="middle" y={said ? -4 : -8}>
          {said ? said.slice(0, said.indexOf(':')) : `${formatCount(status.shards.length)} shards`}
        </text>
        <text className="ring-said" textAnchor="middle" y={16}>
          {said
            ? said.slice(said.indexOf(':') + 2)
            : `${formatCount(cells.length)} replicas${moves.length > 0 ? `, ${formatCount(moves.length)} on the move` : ''}`}
        </text>
      </svg>
      <p className="muted small">
        Clockwise by node; a longer cell leads. The pointer shows where the other replicas of a shard are, a click opens
        it.
      </p>
    </div>
  );
}

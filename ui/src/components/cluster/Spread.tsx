// What each node holds beside an even share, and which replicas are on their way.

import { ArrowRight, Truck } from 'lucide-react';
import { useMemo } from 'react';
import type { ClusterStatus } from '../../api/cluster';
import { balanceOf, MEASURES, type Measure, movesOf } from '../../lib/balance';
import { LATE } from '../../lib/cells';
import { formatBytes, formatCount } from '../../lib/units';
import { Panel, StatusTag } from '../ui';

const FORMATS: Record<Measure, (n: number) => string> = {
  replicas: formatCount,
  leads: formatCount,
  bytes: formatBytes,
  series: formatCount,
};

const TITLES: Record<Measure, string> = {
  replicas: 'replicas',
  leads: 'leads',
  bytes: 'segments and logs',
  series: 'series',
};

const evenText = (measure: Measure, share: number): string =>
  measure === 'replicas' || measure === 'leads'
    ? String(Math.round(share * 10) / 10)
    : FORMATS[measure](Math.round(share));

const SAID = 4;

export function Spread({ status }: { status: ClusterStatus }) {
  const { shares, even, uneven } = useMemo(() => balanceOf(status, FORMATS), [status]);
  const most = Object.fromEntries(
    MEASURES.map((measure) => [measure, Math.max(1, even[measure], ...shares.map((share) => share[measure]))]),
  ) as Record<Measure, number>;
  return (
    <Panel title="Spread" note="what each node holds; the line is an even share">
      {uneven.length > 0 && (
        <ul className="uneven" data-testid="uneven">
          {uneven.slice(0, SAID).map((text) => (
            <li key={text}>
              <span className="warn" aria-hidden>
                ▲
              </span>{' '}
              {text}
            </li>
          ))}
          {uneven.length > SAID && <li className="muted">and {uneven.length - SAID} more</li>}
        </ul>
      )}
      <table className="spread" data-testid="spread">
        <thead>
          <tr>
            <th scope="col">node</th>
            {MEASURES.map((measure) => (
              <th key={measure} scope="col">
                {TITLES[measure]}
                <span className="muted"> · even {evenText(measure, even[measure])}</span>
              </th>
            ))}
            <th scope="col" className="num">
              behind, at most
            </th>
          </tr>
        </thead>
        <tbody>
          {shares.map((share) => (
            <tr key={share.node.id} className={share.takes ? '' : 'is-apart'}>
              <th scope="row">
                node {share.node.id}{' '}
                {!share.takes && (
                  <span className="kind">{share.node.reachable ? share.node.state : 'does not answer'}</span>
                )}
              </th>
              {MEASURES.map((measure) => (
                <td key={measure}>
                  <span className="spread-bar">
                    <span style={{ width: `${(share[measure] / most[measure]) * 100}%` }} />
                    <i style={{ left: `${(even[measure] / most[measure]) * 100}%` }} aria-hidden />
                  </span>
                  <span className="tab-num">{FORMATS[measure](share[measure])}</span>
                </td>
              ))}
              <td className={`num tab-num ${share.lag > LATE ? 'warn' : ''}`}>
                {share.lag > LATE && <span aria-hidden>▲ </span>}
                {share.lag === 0 ? 'nothing' : formatCount(share.lag)}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </Panel>
  );
}

const nodesText = (ids: number[]): string => ids.map((id) => `node ${id}`).join(', ');

/** Nothing, while nothing moves. */
export function Moves({ status }: { status: ClusterStatus }) {
  const moves = useMemo(() => movesOf(status), [status]);
  if (moves.length === 0) return null;
  return (
    <Panel title="On the move" note={`${formatCount(moves.length)} ${moves.length === 1 ? 'shard' : 'shards'}`}>
      <ul className="moves" data-testid="moves">
        {moves.slice(0, 50).map((move) => (
          <li key={move.shard}>
            <Truck size={14} aria-hidden />
            <b>{move.shard === 0 ? 'meta group' : `shard ${move.shard}`}</b>
            <span>
              {move.from.length > 0 ? nodesText(move.from) : 'a new replica'}
              {move.to.length > 0 && (
                <>
                  {' '}
                  <ArrowRight size={12} aria-label="to" /> {nodesText(move.to)}
                </>
              )}
            </span>
            <StatusTag tone={move.stage === 'waits' ? 'warn' : 'info'}>
              {move.stage === 'waits'
                ? 'not begun'
                : move.stage === 'copies'
                  ? `copies ${formatBytes(move.bytes)}`
                  : move.stage === 'catches up'
                    ? `${formatCount(move.lag)} entries to go`
                    : 'to be given up'}
            </StatusTag>
          </li>
        ))}
        {moves.length > 50 && <li className="muted">and {moves.length - 50} more</li>}
      </ul>
    </Panel>
  );
}

// The cluster as it is this second: which node holds what, who leads, who is behind. Pushed, not asked for.

import { useNavigate, useSearch } from '@tanstack/react-router';
import { ArrowRightLeft, CircleDashed, Ellipsis, Grid3x3, PowerOff, Search, Trash2 } from 'lucide-react';
import { type ReactNode, useState } from 'react';
import {
  type ClusterNode,
  type ClusterStatus,
  drainNode,
  health,
  moveReplica,
  type Replica,
  removeNode,
  type Shard,
} from '../api/cluster';
import { Ring } from '../components/cluster/Ring';
import { Moves, Spread } from '../components/cluster/Spread';
import { FilteredOut } from '../components/Filtered';
import { Dialog } from '../components/floating';
import { Menu } from '../components/menu';
import { PageHead } from '../components/Shell';
import { ErrorBox, Skeleton } from '../components/states';
import { Button, Field, IconButton, Input, Panel, Segmented, Select, StatusTag, type Tone } from '../components/ui';
import { type CellState, cellName, cellState, findCells, LATE, MARKS, ONLY_WORDS } from '../lib/cells';
import { formatBytes, formatCount } from '../lib/units';
import { type ClusterSearch, ONLY, type Only } from '../routes';
import { useLiveCluster } from '../state/live';
import '../style/cluster.css';

type Act =
  | { kind: 'drain'; node: ClusterNode }
  | { kind: 'remove'; node: ClusterNode }
  | { kind: 'move'; shard: Shard; from: number };

export default function Cluster() {
  const { status, error } = useLiveCluster();
  const search = useSearch({ from: '/cluster' });
  const [act, setAct] = useState<Act | null>(null);
  if (!status) {
    return (
      <div className="page">
        <PageHead title="Cluster" />
        {error ? <ErrorBox error={new Error(error)} /> : <Skeleton rows={8} />}
      </div>
    );
  }
  const h = health(status);
  return (
    <div className={`page cluster ${search.shard === undefined ? '' : 'has-drawer'}`}>
      <PageHead title="Cluster">
        <span className="muted small">
          {status.cluster_id.slice(0, 12)} · seen from node {status.node}
        </span>
      </PageHead>
      <section className={`strip strip-${h.state}`} aria-label="State of the cluster" data-testid="health">
        <div className="strip-state">
          <StatusTag tone={h.state}>
            {h.state === 'ok' ? 'Healthy' : h.state === 'warn' ? 'Degraded' : 'Critical'}
          </StatusTag>
          <span>{h.words}</span>
        </div>
        <dl>
          <Count
            name="nodes that answer"
            value={`${h.reachable} of ${h.members}`}
            tone={h.reachable < h.members ? 'warn' : undefined}
          />
          <Count
            name="groups without leader"
            value={String(h.leaderless.length)}
            tone={h.leaderless.length > 0 ? 'critical' : undefined}
          />
          <Count
            name="under-replicated"
            value={String(h.underReplicated.length)}
            tone={h.underReplicated.length > 0 ? 'warn' : undefined}
          />
          <Count
            name="replicas that differ"
            value={String(h.diverged.length)}
            tone={h.diverged.length > 0 ? 'critical' : undefined}
          />
          <Count
            name="entries behind, at most"
            value={formatCount(h.maxLag)}
            tone={h.maxLag > LATE ? 'warn' : undefined}
          />
          <Count name="series in the head" value={formatCount(h.series)} />
          <Count name="on disk, all copies" value={formatBytes(h.bytes)} />
        </dl>
      </section>
      <Moves status={status} />
      <Shards status={status} onAct={setAct} />
      <Spread status={status} />
      <Nodes status={status} onAct={setAct} />
      <Details status={status} onAct={setAct} />
      {act && <ActDialog key={JSON.stringify(act)} act={act} status={status} onClose={() => setAct(null)} />}
    </div>
  );
}

function Count({ name, value, tone }: { name: string; value: string; tone?: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd className={`tab-num ${tone ?? ''}`}>{value}</dd>
    </div>
  );
}

function Shards({ status, onAct }: { status: ClusterStatus; onAct: (act: Act) => void }) {
  const navigate = useNavigate({ from: '/cluster' });
  const search = useSearch({ from: '/cluster' });
  const change = (part: Partial<ClusterSearch>, replace = false) =>
    void navigate({ search: (old) => ({ ...old, ...part }), replace });
  const { nodes, groups } = findCells(status, search.only, search.find ?? '');
  const all = status.shards.length + (status.meta ? 1 : 0);
  const isRing = search.view === 'ring';
  return (
    <Panel
      title="Nodes × shards"
      note={groups.length < all ? `${groups.length} of ${all} groups` : 'each cell is a replica; a click shows it'}
      actions={<MatrixKey />}
    >
      <div className="cluster-bar">
        <Segmented
          label="View"
          value={isRing ? 'ring' : 'matrix'}
          choices={[
            { id: 'matrix', label: 'Matrix', icon: Grid3x3 },
            { id: 'ring', label: 'Ring', icon: CircleDashed },
          ]}
          onChange={(id) => change({ view: id === 'ring' ? 'ring' : undefined })}
        />
        <Segmented
          label="Which shards"
          value={search.only ?? 'all'}
          choices={[{ id: 'all', label: 'All' }, ...ONLY.map((id) => ({ id, label: ONLY_WORDS[id] }))]}
          onChange={(id) => change({ only: id === 'all' ? undefined : (id as Only) })}
        />
        <span className="search-box">
          <Search size={14} aria-hidden />
          <Input
            aria-label="Find a shard or a node"
            placeholder="7, node 2, an address"
            value={search.find ?? ''}
            onChange={(event) => change({ find: event.target.value || undefined }, true)}
          />
        </span>
      </div>
      {groups.length === 0 ? (
        <FilteredOut
          what="groups"
          of={all}
          filters={[
            {
              name: 'the state',
              value: search.only ? ONLY_WORDS[search.only] : '',
              onClear: () => change({ only: undefined }),
            },
            { name: 'the words', value: search.find ?? '', onClear: () => change({ find: undefined }) },
          ]}
        >
          {search.only && 'That is good news.'}
        </FilteredOut>
      ) : isRing ? (
        <Ring
          status={status}
          shown={new Set(groups.map((shard) => shard.id))}
          picked={search.shard}
          onPick={(shard) => change({ shard })}
        />
      ) : (
        <Matrix nodes={nodes} groups={groups} onAct={onAct} />
      )}
    </Panel>
  );
}

function Matrix({ nodes, groups, onAct }: { nodes: ClusterNode[]; groups: Shard[]; onAct: (act: Act) => void }) {
  const navigate = useNavigate({ from: '/cluster' });
  const search = useSearch({ from: '/cluster' });
  return (
    <section className="matrix-scroll" tabIndex={0} aria-label="Replicas">
      <table className="matrix" data-testid="matrix">
        <thead>
          <tr>
            <th scope="col">node</th>
            {groups.map((shard) => (
              <th key={shard.id} scope="col" className={search.shard === shard.id ? 'is-picked' : ''}>
                {shard.id === 0 ? 'meta' : shard.id}
              </th>
            ))}
            <th scope="col" className="num">
              leads
            </th>
          </tr>
        </thead>
        <tbody>
          {nodes.map((node) => (
            <tr key={node.id} className={node.reachable ? '' : 'is-down'}>
              <th scope="row">
                <span className={`node-dot ${node.reachable ? (node.ready ? 'ok' : 'warn') : 'critical'}`} aria-hidden>
                  {node.reachable ? (node.ready ? '●' : '▲') : '■'}
                </span>
                node {node.id}
                <span className="muted small"> {node.addr}</span>
                {node.state !== 'active' && <span className="kind">{node.state}</span>}
              </th>
              {groups.map((shard) => {
                const { state, replica } = cellState(node, shard);
                const name = cellName(node, shard);
                return (
                  <td key={shard.id}>
                    <button
                      type="button"
                      className={`cell cell-${state} ${search.shard === shard.id ? 'is-picked' : ''}`}
                      title={name}
                      aria-label={name}
                      onClick={() => void navigate({ search: (old) => ({ ...old, shard: shard.id, node: undefined }) })}
                      onContextMenu={(event) => {
                        if (!replica || shard.id === 0) return;
                        event.preventDefault();
                        onAct({ kind: 'move', shard, from: node.id });
                      }}
                    >
                      {MARKS[state]}
                    </button>
                  </td>
                );
              })}
              <td className="num tab-num">{groups.filter((s) => s.leader === node.id).length}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function MatrixKey() {
  const shown: CellState[] = ['leader', 'follower', 'learner', 'late', 'lost', 'missing'];
  const names: Record<string, string> = {
    leader: 'leader',
    follower: 'follower',
    learner: 'learner',
    late: 'late',
    lost: 'lost',
    missing: 'wanted',
  };
  return (
    <ul className="matrix-key">
      {shown.map((state) => (
        <li key={state}>
          <span className={`cell cell-${state}`} aria-hidden>
            {MARKS[state]}
          </span>
          {names[state]}
        </li>
      ))}
    </ul>
  );
}

function Nodes({ status, onAct }: { status: ClusterStatus; onAct: (act: Act) => void }) {
  return (
    <Panel title="Nodes">
      <table className="facts-table">
        <thead>
          <tr>
            <th>node</th>
            <th>address for peers</th>
            <th>state</th>
            <th className="num">replicas</th>
            <th className="num">leads</th>
            <th className="num">series</th>
            <th className="num">segments</th>
            <th className="num">memtables</th>
            <th className="num">log</th>
            <th className="num">clock off by</th>
            <th>version</th>
            <th>
              <span className="sr-only">actions</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {status.nodes.map((node) => {
            const replicas = status.shards.flatMap((s) => s.replicas.filter((r) => r.node === node.id));
            const sum = (pick: (r: Replica) => number): number => replicas.reduce((n, r) => n + pick(r), 0);
            const [tone, word]: [Tone, string] =
              node.state === 'removed'
                ? ['none', 'removed']
                : !node.reachable
                  ? ['critical', 'does not answer']
                  : node.ready
                    ? ['ok', node.state === 'draining' ? 'draining' : 'ready']
                    : ['warn', 'catching up'];
            return (
              <tr key={node.id}>
                <td>
                  <b>{node.id}</b>
                  {status.meta_leader === node.id && <span className="kind">leads the meta group</span>}
                </td>
                <td className="mono">{node.addr}</td>
                <td>
                  <StatusTag tone={tone}>{word}</StatusTag>
                </td>
                <td className="num">{replicas.length}</td>
                <td className="num">{status.shards.filter((s) => s.leader === node.id).length}</td>
                <td className="num">{formatCount(sum((r) => r.data?.series ?? 0))}</td>
                <td className="num">{formatBytes(sum((r) => r.data?.segment_bytes ?? 0))}</td>
                <td className="num">{formatBytes(sum((r) => r.data?.memtable_bytes ?? 0))}</td>
                <td className="num">{node.log_bytes === undefined ? '–' : formatBytes(node.log_bytes)}</td>
                <td className={`num ${node.clock_disagrees ? 'critical' : ''}`}>
                  {node.clock_offset_ms === undefined ? '–' : `${node.clock_offset_ms} ms`}
                </td>
                <td>{node.version ?? '–'}</td>
                <td>
                  {node.state !== 'removed' && (
                    <Menu
                      trigger={<IconButton icon={Ellipsis} label={`Actions for node ${node.id}`} />}
                      entries={[
                        {
                          label: 'Drain: move all its replicas away',
                          icon: PowerOff,
                          onSelect: () => onAct({ kind: 'drain', node }),
                        },
                        {
                          label: 'Remove for good',
                          icon: Trash2,
                          danger: true,
                          onSelect: () => onAct({ kind: 'remove', node }),
                        },
                      ]}
                    />
                  )}
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </Panel>
  );
}

function Details({ status, onAct }: { status: ClusterStatus; onAct: (act: Act) => void }) {
  const search = useSearch({ from: '/cluster' });
  const navigate = useNavigate({ from: '/cluster' });
  const groups = status.meta ? [status.meta, ...status.shards] : status.shards;
  const shard = search.shard === undefined ? undefined : groups.find((s) => s.id === search.shard);
  const close = () => void navigate({ search: (old) => ({ ...old, shard: undefined }) });
  if (!shard) return null;
  return (
    <aside className="side-drawer" aria-label={`Shard ${shard.id}`}>
      <header className="dialog-head">
        <h2 className="dialog-title">{shard.id === 0 ? 'Meta group' : `Shard ${shard.id}`}</h2>
        <Button look="ghost" onClick={close}>
          Close
        </Button>
      </header>
      <dl className="facts">
        <Fact name="leader">
          {shard.leader === null ? <StatusTag tone="critical">none</StatusTag> : `node ${shard.leader}`}
        </Fact>
        <Fact name="term">{shard.term}</Fact>
        <Fact name="applied entry">{formatCount(shard.applied ?? 0)}</Fact>
        <Fact name="voters">{shard.voters.map((n) => `node ${n}`).join(', ') || 'not known without a leader'}</Fact>
        {shard.learners.length > 0 && <Fact name="learners">{shard.learners.map((n) => `node ${n}`).join(', ')}</Fact>}
        <Fact name="wanted on">{shard.wanted.map((n) => `node ${n}`).join(', ')}</Fact>
        <Fact name="replicas equal">
          {shard.consistent ? (
            <StatusTag tone="ok">same digest at the same position</StatusTag>
          ) : (
            <StatusTag tone="critical">they differ</StatusTag>
          )}
        </Fact>
      </dl>
      {shard.replicas.map((replica) => (
        <div key={replica.replica} className="replica-card">
          <h3>
            node {replica.node} <span className="kind">{replica.role}</span>
          </h3>
          <dl className="facts">
            <Fact name="log ends at">{formatCount(replica.last_log)}</Fact>
            <Fact name="applied">{formatCount(replica.applied)}</Fact>
            <Fact name="behind the leader">
              {replica.lag === 0 ? 'nothing' : `${formatCount(replica.lag)} entries`}
            </Fact>
            {replica.data && (
              <>
                <Fact name="series">{formatCount(replica.data.series)}</Fact>
                <Fact name="segments">
                  {replica.data.segments}, {formatBytes(replica.data.segment_bytes)}
                </Fact>
                <Fact name="memtables">{formatBytes(replica.data.memtable_bytes)}</Fact>
                <Fact name="digest">
                  <code className="clip" title={replica.data.digest}>
                    {replica.data.digest.slice(0, 16)}
                  </code>{' '}
                  at {formatCount(replica.data.digest_index)}
                </Fact>
              </>
            )}
          </dl>
          {shard.id !== 0 && (
            <Button icon={ArrowRightLeft} onClick={() => onAct({ kind: 'move', shard, from: replica.node })}>
              Move to another node
            </Button>
          )}
        </div>
      ))}
    </aside>
  );
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd className="tab-num">{children}</dd>
    </div>
  );
}

/** An act that moves data: first what it would do, then a name to type, then the act. */
function ActDialog({ act, status, onClose }: { act: Act; status: ClusterStatus; onClose: () => void }) {
  const others = status.nodes.filter((n) => n.state === 'active' && n.reachable);
  const targets = act.kind === 'move' ? others.filter((n) => !act.shard.wanted.includes(n.id)) : [];
  const [typed, setTyped] = useState('');
  const [to, setTo] = useState(targets[0]?.id);
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState<unknown>(null);
  const [done, setDone] = useState(false);

  const node = act.kind === 'move' ? act.from : act.node.id;
  const name = act.kind === 'move' ? `shard ${act.shard.id}` : `node ${node}`;
  const held = status.shards.filter((s) => s.replicas.some((r) => r.node === node));
  const led = status.shards.filter((s) => s.leader === node);
  const bytes = held.reduce((sum, s) => sum + (s.replicas.find((r) => r.node === node)?.data?.segment_bytes ?? 0), 0);
  const rest = others.filter((n) => n.id !== node).length;
  const title =
    act.kind === 'move'
      ? `Move shard ${act.shard.id} off node ${node}`
      : act.kind === 'drain'
        ? `Drain node ${node}`
        : `Remove node ${node}`;
  const blocked =
    act.kind === 'move' && targets.length === 0
      ? 'Every node that could take it holds it already.'
      : act.kind === 'remove' && held.length > 0
        ? `Node ${node} still holds ${held.length} shards: drain it first.`
        : null;
  const effects: string[] =
    act.kind === 'move'
      ? [
          `A new replica of shard ${act.shard.id} is made on node ${to ?? '?'} and copies ${formatBytes(act.shard.replicas.find((r) => r.node === node)?.data?.segment_bytes ?? 0)}.`,
          `Then the replica on node ${node} is given up. Reads and writes go on.`,
        ]
      : act.kind === 'drain'
        ? [
            `${held.length} replicas (${formatBytes(bytes)}) move to other nodes; ${led.length} leaderships are handed over.`,
            rest < 3
              ? `Only ${rest} other nodes can hold data: shards will have ${rest} replicas instead of ${Math.max(3, rest)}.`
              : `${rest} other nodes can hold data.`,
            'The node stays a member and answers requests until it is removed.',
          ]
        : [`Node ${node} leaves the cluster. Its id is never used again.`];

  const run = () => {
    setBusy(true);
    setFailed(null);
    const wanted =
      act.kind === 'move'
        ? moveReplica(act.shard.id, act.from, to ?? 0)
        : act.kind === 'drain'
          ? drainNode(node)
          : removeNode(node);
    wanted.then(
      () => setDone(true),
      (error: unknown) => {
        setBusy(false);
        setFailed(error);
      },
    );
  };

  return (
    <Dialog open onClose={onClose} title={title}>
      {done ? (
        <>
          <p>
            <StatusTag tone="ok">Done</StatusTag> {title}.
          </p>
          <div className="dialog-actions">
            <Button look="primary" onClick={onClose}>
              Close
            </Button>
          </div>
        </>
      ) : (
        <>
          <ul className="effects">
            {effects.map((effect) => (
              <li key={effect}>{effect}</li>
            ))}
          </ul>
          {blocked && <p className="warn">▲ {blocked}</p>}
          {act.kind === 'move' && targets.length > 0 && (
            <Field label="To node">
              <Select value={to} onChange={(e) => setTo(Number(e.target.value))}>
                {targets.map((n) => (
                  <option key={n.id} value={n.id}>
                    node {n.id} ({n.addr})
                  </option>
                ))}
              </Select>
            </Field>
          )}
          {!blocked && (
            <Field label={`Type "${name}" to go on`}>
              <Input value={typed} onChange={(e) => setTyped(e.target.value)} spellCheck={false} autoComplete="off" />
            </Field>
          )}
          {failed !== null && <ErrorBox error={failed} />}
          <div className="dialog-actions">
            <Button onClick={onClose}>Cancel</Button>
            <Button look="danger" disabled={blocked !== null || typed !== name || busy} onClick={run}>
              {busy ? 'In work; this can take minutes' : title}
            </Button>
          </div>
        </>
      )}
    </Dialog>
  );
}

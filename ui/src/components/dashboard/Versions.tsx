// The versions of a dashboard: opened as they were, compared with each other, restored.

import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { ArrowRight, GitCompare, RotateCcw } from 'lucide-react';
import { useMemo, useState } from 'react';
import { getVersion, listVersions, saveDashboard } from '../../api/dashboards';
import { type Change, compareDashboards, type FieldChange, pieces } from '../../lib/dashboard/diff';
import { checkDashboard, type Dashboard } from '../../lib/dashboard/model';
import { formatAgo, formatMoment } from '../../lib/time';
import { Dialog } from '../floating';
import { Empty, ErrorBox, Skeleton } from '../states';
import { Button, Field, Select } from '../ui';

/** A version by its number; 0 is what is shown now and not saved. */
type Which = number;
const NOW: Which = 0;

/** `FROM-TO`, as the address has it. */
export function parsePair(text: string | undefined): [Which, Which] | null {
  const found = /^(\d{1,9})-(\d{1,9})$/.exec(text ?? '');
  return found ? [Number(found[1]), Number(found[2])] : null;
}

export default function Versions({
  uid,
  current,
  shown,
  isChanged,
  zone,
  pair,
  onPair,
  onClose,
  onRestored,
}: {
  uid: string;
  /** The version that is open. */
  current: number;
  shown: Dashboard;
  /** Whether what is shown is not saved. */
  isChanged: boolean;
  zone: string;
  /** The two that are compared. */
  pair: [Which, Which] | null;
  onPair: (pair: [Which, Which] | null) => void;
  onClose: () => void;
  onRestored: (version: number, dashboard: Dashboard) => void;
}) {
  const list = useQuery({ queryKey: ['versions', uid, current], queryFn: ({ signal }) => listVersions(uid, signal) });
  const rows = list.data?.data ?? [];
  const newest = rows[0]?.version;
  const [restoring, setRestoring] = useState<number | null>(null);
  if (restoring !== null && newest !== undefined)
    return (
      <Restore
        uid={uid}
        version={restoring}
        newest={newest}
        isChanged={isChanged}
        onClose={() => setRestoring(null)}
        onRestored={onRestored}
      />
    );
  if (pair)
    return (
      <Dialog open onClose={onClose} title="What changed" width={900}>
        {list.error && <ErrorBox error={list.error} />}
        <div className="version-pair">
          <VersionSelect label="From" value={pair[0]} rows={rows} onChange={(from) => onPair([from, pair[1]])} />
          <ArrowRight size={15} aria-hidden />
          <VersionSelect
            label="To"
            value={pair[1]}
            rows={rows}
            now={isChanged}
            onChange={(to) => onPair([pair[0], to])}
          />
          <span className="spring" />
          <Button onClick={() => onPair(null)}>All versions</Button>
          {pair[0] !== newest && pair[0] !== NOW && (
            <Button icon={RotateCcw} onClick={() => setRestoring(pair[0])}>
              Restore version {pair[0]}
            </Button>
          )}
        </div>
        <Compared uid={uid} pair={pair} shown={shown} />
      </Dialog>
    );
  return (
    <Dialog open onClose={onClose} title="Versions" drawer>
      <p className="muted">Opening one shows it as it was; restoring it makes it the newest. The last 20 are kept.</p>
      {isChanged && newest !== undefined && (
        <Button icon={GitCompare} onClick={() => onPair([current || newest, NOW])}>
          What is changed and not saved
        </Button>
      )}
      {list.error && <ErrorBox error={list.error} />}
      {!list.data && !list.error && <Skeleton rows={4} />}
      <ul className="version-list">
        {rows.map((row, i) => {
          const before = rows[i + 1]?.version;
          return (
            <li key={row.version}>
              <Link
                to="/dashboards/$uid"
                params={{ uid }}
                search={(old) => ({ ...old, version: row.version, diff: undefined })}
                onClick={onClose}
              >
                version {row.version}
              </Link>
              {row.version === newest && <span className="kind">newest</span>}
              <span className="muted" title={formatMoment(row.updated, zone)}>
                {formatAgo(row.updated, Date.now())}
              </span>
              <p>
                <bdi>{row.message}</bdi>
              </p>
              <div className="join-row">
                {before !== undefined && (
                  <Button look="ghost" icon={GitCompare} onClick={() => onPair([before, row.version])}>
                    Changes since version {before}
                  </Button>
                )}
                {row.version !== newest && (
                  <Button look="ghost" icon={RotateCcw} onClick={() => setRestoring(row.version)}>
                    Restore version {row.version}
                  </Button>
                )}
              </div>
            </li>
          );
        })}
      </ul>
    </Dialog>
  );
}

function VersionSelect({
  label,
  value,
  rows,
  now = false,
  onChange,
}: {
  label: string;
  value: Which;
  rows: { version: number; message: string }[];
  now?: boolean;
  onChange: (version: Which) => void;
}) {
  const known = rows.some((row) => row.version === value) || value === NOW;
  return (
    <Field label={label}>
      <Select value={value} onChange={(e) => onChange(Number(e.target.value))}>
        {(now || value === NOW) && <option value={NOW}>as it is now, not saved</option>}
        {!known && <option value={value}>version {value}</option>}
        {rows.map((row) => (
          <option key={row.version} value={row.version}>
            version {row.version}
            {row.message ? ` – ${row.message.slice(0, 60)}` : ''}
          </option>
        ))}
      </Select>
    </Field>
  );
}

function Compared({ uid, pair, shown }: { uid: string; pair: [Which, Which]; shown: Dashboard }) {
  const [from, to] = pair;
  const both = useQuery({
    queryKey: ['version-pair', uid, from, to],
    staleTime: Number.POSITIVE_INFINITY,
    placeholderData: undefined,
    queryFn: async ({ signal }) =>
      Promise.all(
        pair.map(async (version) =>
          version === NOW ? null : checkDashboard((await getVersion(uid, version, signal)).data.dashboard),
        ),
      ),
  });
  const changes = useMemo(
    () => both.data && compareDashboards(both.data[0] ?? shown, both.data[1] ?? shown),
    [both.data, shown],
  );
  if (both.error) return <ErrorBox error={both.error} onRetry={() => void both.refetch()} />;
  if (!changes) return <Skeleton rows={8} />;
  if (changes.length === 0)
    return <Empty title="They are the same">Nothing that is stored differs between the two.</Empty>;
  // What only moved is told in one line: a drag moves all that is below it.
  const isMoved = (change: Change): boolean =>
    change.kind === 'changed' && change.fields.every((field) => field.field === 'place');
  const moved = changes.filter(isMoved);
  return (
    <div className="changes" data-testid="changes">
      {changes
        .filter((change) => !isMoved(change))
        .map((change, i) => (
          <ChangeEntry key={i} change={change} />
        ))}
      {moved.length > 0 && (
        <details className="change">
          <summary>
            <span className="kind">moved</span> {moved.length} {moved.length === 1 ? 'panel lies' : 'panels lie'}{' '}
            elsewhere
          </summary>
          <dl>
            {moved.map((change, i) => (
              <FieldEntry key={i} field={{ ...change.fields[0]!, field: change.name }} />
            ))}
          </dl>
        </details>
      )}
    </div>
  );
}

const SIGNS: Record<Change['kind'], string> = { added: '+', removed: '−', changed: '~' };

function ChangeEntry({ change }: { change: Change }) {
  return (
    <section className={`change is-${change.kind}`}>
      <h3>
        <span aria-hidden className="change-sign">
          {SIGNS[change.kind]}
        </span>
        <span className="kind">
          {change.of} {change.kind}
        </span>{' '}
        <bdi>{change.name}</bdi>
      </h3>
      <dl>
        {change.fields.map((field) => (
          <FieldEntry key={field.field} field={field} />
        ))}
      </dl>
    </section>
  );
}

const LONGEST = 20_000;

function FieldEntry({ field: { field, before, after } }: { field: FieldChange }) {
  const parts = pieces((before ?? '').slice(0, LONGEST), (after ?? '').slice(0, LONGEST));
  return (
    <div>
      <dt>{field}</dt>
      <dd>
        {parts.map((part, i) =>
          part.kind === 'same' ? (
            <span key={i}>{part.text}</span>
          ) : part.kind === 'cut' ? (
            <del key={i}>{part.text}</del>
          ) : (
            <ins key={i}>{part.text}</ins>
          ),
        )}
        {before === '' || after === '' ? <span className="muted"> (empty)</span> : null}
      </dd>
    </div>
  );
}

function Restore({
  uid,
  version,
  newest,
  isChanged,
  onClose,
  onRestored,
}: {
  uid: string;
  version: number;
  newest: number;
  isChanged: boolean;
  onClose: () => void;
  onRestored: (version: number, dashboard: Dashboard) => void;
}) {
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState<unknown>(null);
  const restore = async () => {
    setBusy(true);
    setFailed(null);
    try {
      const dashboard = checkDashboard((await getVersion(uid, version)).data.dashboard);
      const answer = await saveDashboard(uid, newest, dashboard, `version ${version} restored`);
      onRestored(answer.version, dashboard);
    } catch (error) {
      setFailed(error);
      setBusy(false);
    }
  };
  return (
    <Dialog open onClose={onClose} title={`Restore version ${version}`}>
      <p>
        What version {version} was is saved as version {newest + 1}. Version {newest} stays in the list.
        {isChanged && <b> What is changed now and not saved is lost.</b>}
      </p>
      {failed !== null && <ErrorBox error={failed} />}
      <div className="dialog-actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button look="primary" disabled={busy} onClick={() => void restore()}>
          {busy ? 'Restoring…' : 'Restore'}
        </Button>
      </div>
    </Dialog>
  );
}

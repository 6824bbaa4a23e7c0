// All dashboards: one's own by folder, those that come with the server, and the way in for Grafana's.

import '../style/dashboards.css';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { Link, useNavigate, useSearch } from '@tanstack/react-router';
import { FileUp, LayoutDashboard, Plus, Search, Star } from 'lucide-react';
import { useMemo, useRef, useState } from 'react';
import { type DashboardRow, listDashboards, saveDashboard } from '../api/dashboards';
import { FilteredOut } from '../components/Filtered';
import { Dialog } from '../components/floating';
import { PageHead } from '../components/Shell';
import { Empty, ErrorBox, Skeleton } from '../components/states';
import { Button, Field, IconButton, Input, Panel, StatusTag } from '../components/ui';
import { BUILTIN } from '../dashboards';
import { type Imported, importText } from '../lib/dashboard/grafana';
import { freshUid } from '../lib/dashboard/uid';
import { formatAgo } from '../lib/time';
import { currentTenant, usePrefs } from '../state/prefs';

export default function Dashboards() {
  const search = useSearch({ from: '/dashboards' });
  const navigate = useNavigate({ from: '/dashboards' });
  const prefs = usePrefs();
  const stored = useQuery({
    queryKey: ['dashboards', currentTenant()],
    queryFn: ({ signal }) => listDashboards(signal),
  });
  const words = (search.find ?? '').toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (text: string): boolean => words.every((w) => text.toLowerCase().includes(w));
  const rows = (stored.data?.data ?? []).filter((r) => fits(`${r.title} ${r.folder} ${r.tags.join(' ')}`));
  const folders = useMemo(() => {
    const map = new Map<string, DashboardRow[]>();
    for (const row of [...rows].sort((a, b) => a.title.localeCompare(b.title)))
      map.set(row.folder, [...(map.get(row.folder) ?? []), row]);
    return [...map].sort((a, b) => a[0].localeCompare(b[0]));
  }, [rows]);
  const builtin = BUILTIN.filter((b) => fits(`${b.title} ${b.what}`));
  const star = (uid: string, title: string) => (
    <IconButton
      icon={Star}
      label={prefs.starred.includes(uid) ? `Unstar ${title}` : `Star ${title}`}
      active={prefs.starred.includes(uid)}
      onClick={() => prefs.star(uid)}
    />
  );
  return (
    <div className="page">
      <PageHead title="Dashboards">
        <Button icon={FileUp} onClick={() => void navigate({ search: (old) => ({ ...old, import: true }) })}>
          Import
        </Button>
        <Link to="/dashboards/$uid" params={{ uid: 'new' }} className="btn btn-primary">
          <Plus size={14} aria-hidden />
          New dashboard
        </Link>
      </PageHead>
      <div className="filter-bar">
        <span className="search-box">
          <Search size={14} aria-hidden />
          <Input
            placeholder="Title, folder or tag"
            aria-label="Find a dashboard"
            value={search.find ?? ''}
            onChange={(e) =>
              void navigate({ search: (old) => ({ ...old, find: e.target.value || undefined }), replace: true })
            }
          />
        </span>
      </div>
      {stored.error ? (
        <ErrorBox error={stored.error} onRetry={() => void stored.refetch()} />
      ) : !stored.data ? (
        <Skeleton rows={3} />
      ) : stored.data.data.length === 0 ? (
        <Panel title="Yours">
          <Empty icon={LayoutDashboard} title="None is stored yet">
            Make one, import one from Grafana, or open one below and save a copy. They are kept on every node of the
            cluster.
          </Empty>
        </Panel>
      ) : folders.length === 0 ? (
        <Panel title="Yours">
          <FilteredOut
            small
            what="dashboards"
            of={stored.data.data.length}
            filters={[
              {
                name: 'the words',
                value: search.find ?? '',
                onClear: () => void navigate({ search: (old) => ({ ...old, find: undefined }), replace: true }),
              },
            ]}
          />
        </Panel>
      ) : (
        folders.map(([folder, list]) => (
          <Panel key={folder} title={folder || 'Yours'} note={`${list.length}`}>
            <table className="facts-table dashboard-table">
              <thead className="sr-only">
                <tr>
                  <th>star</th>
                  <th>title</th>
                  <th>tags</th>
                  <th>version</th>
                  <th>saved</th>
                </tr>
              </thead>
              <tbody>
                {list.map((row) => (
                  <tr key={row.uid}>
                    <td>{star(row.uid, row.title)}</td>
                    <td>
                      <Link to="/dashboards/$uid" params={{ uid: row.uid }}>
                        <bdi>{row.title}</bdi>
                      </Link>
                    </td>
                    <td>
                      {row.tags.map((tag) => (
                        <span key={tag} className="kind">
                          <bdi>{tag}</bdi>
                        </span>
                      ))}
                    </td>
                    <td className="num muted">version {row.version}</td>
                    <td className="num muted">{formatAgo(row.updated, Date.now())}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </Panel>
        ))
      )}
      {builtin.length > 0 && (
        <Panel title="Built in" note="read-only; save a copy to change one">
          <ul className="builtin-list">
            {builtin.map((row) => (
              <li key={row.uid}>
                {star(row.uid, row.title)}
                <div>
                  <Link to="/dashboards/$uid" params={{ uid: row.uid }}>
                    {row.title}
                  </Link>
                  <p className="muted small">{row.what}</p>
                </div>
              </li>
            ))}
          </ul>
        </Panel>
      )}
      {search.import && (
        <ImportDialog onClose={() => void navigate({ search: (old) => ({ ...old, import: undefined }) })} />
      )}
    </div>
  );
}

const SOURCES: Record<Imported['source'], string> = {
  classic: "Grafana's classic model",
  v1: 'a Grafana resource of version 1',
  v2: 'a Grafana resource of version 2',
  pharos: 'a dashboard of Pharos',
};

function ImportDialog({ onClose }: { onClose: () => void }) {
  const [text, setText] = useState('');
  const [found, setFound] = useState<Imported | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [title, setTitle] = useState('');
  const [folder, setFolder] = useState('');
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState<unknown>(null);
  const file = useRef<HTMLInputElement>(null);
  const navigate = useNavigate();
  const client = useQueryClient();

  const read = (source: string) => {
    setText(source);
    setFailed(null);
    if (source.trim() === '') {
      setFound(null);
      setProblem(null);
      return;
    }
    try {
      const imported = importText(source);
      setFound(imported);
      setTitle(imported.dashboard.title);
      setFolder(imported.dashboard.folder ?? '');
      setProblem(null);
    } catch (error) {
      setFound(null);
      setProblem(error instanceof Error ? error.message : String(error));
    }
  };
  const store = () => {
    if (!found) return;
    setBusy(true);
    setFailed(null);
    const uid = freshUid(title);
    saveDashboard(
      uid,
      0,
      { ...found.dashboard, title: title.trim(), folder: folder.trim() || undefined },
      `imported from ${SOURCES[found.source]}`,
    ).then(
      async () => {
        await client.invalidateQueries({ queryKey: ['dashboards'] });
        void navigate({ to: '/dashboards/$uid', params: { uid } });
      },
      (error: unknown) => {
        setBusy(false);
        setFailed(error);
      },
    );
  };
  const dropped = found?.notes.filter((n) => n.severity === 'dropped') ?? [];
  const changed = found?.notes.filter((n) => n.severity === 'changed') ?? [];
  return (
    <Dialog open onClose={onClose} title="Import a dashboard" width={760}>
      <p className="muted">
        Paste the JSON of a dashboard, or choose a file: Grafana's classic model, its resources of version 1 and 2, or
        an export of this server. What it is, is found out.
      </p>
      <div className="join-row">
        <Button icon={FileUp} onClick={() => file.current?.click()}>
          Choose a file
        </Button>
        <input
          ref={file}
          type="file"
          accept=".json,application/json"
          className="sr-only"
          aria-label="A file with a dashboard"
          tabIndex={-1}
          onChange={(e) => {
            const chosen = e.target.files?.[0];
            if (chosen) void chosen.text().then(read);
          }}
        />
        {found && (
          <span>
            <StatusTag tone="ok">{SOURCES[found.source]}</StatusTag> {found.panels} panels, {found.queries} queries,{' '}
            {found.dashboard.variables.length} variables, {found.dashboard.annotations.length} annotations
          </span>
        )}
      </div>
      <textarea
        className="input"
        rows={found ? 4 : 10}
        aria-label="JSON of a dashboard"
        placeholder='{"title": "…", "panels": […]}'
        spellCheck={false}
        value={text.length > 200_000 ? `${text.slice(0, 2000)}\n… ${text.length} characters` : text}
        onChange={(e) => read(e.target.value)}
      />
      {problem && <p className="critical">■ {problem}</p>}
      {found && (
        <>
          <div className="two-fields">
            <Field label="Title">
              <Input value={title} onChange={(e) => setTitle(e.target.value)} />
            </Field>
            <Field label="Folder">
              <Input value={folder} onChange={(e) => setFolder(e.target.value)} placeholder="none" />
            </Field>
          </div>
          <section className="import-report" data-testid="import-report">
            {found.notes.length === 0 ? (
              <p>
                <StatusTag tone="ok">Whole</StatusTag> Everything in it is understood.
              </p>
            ) : (
              <>
                {dropped.length > 0 && <h3>Does not come along ({dropped.length})</h3>}
                <NoteList notes={dropped} />
                {changed.length > 0 && <h3>Comes along changed ({changed.length})</h3>}
                <NoteList notes={changed} />
              </>
            )}
          </section>
        </>
      )}
      {failed !== null && <ErrorBox error={failed} />}
      <div className="dialog-actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button look="primary" disabled={!found || title.trim() === '' || busy} onClick={store}>
          {busy ? 'Saving…' : 'Import'}
        </Button>
      </div>
    </Dialog>
  );
}

function NoteList({ notes }: { notes: Imported['notes'] }) {
  const byText = new Map<string, string[]>();
  for (const note of notes)
    byText.set(note.text, [...(byText.get(note.text) ?? []), ...(note.subject ? [note.subject] : [])]);
  return (
    <ul>
      {[...byText].map(([text, subjects]) => (
        <li key={text}>
          {text}
          {subjects.length > 0 && (
            <span className="muted">
              {' '}
              — <bdi>{subjects.slice(0, 4).join(', ')}</bdi>
              {subjects.length > 4 ? ` and ${subjects.length - 4} more` : ''}
            </span>
          )}
        </li>
      ))}
    </ul>
  );
}

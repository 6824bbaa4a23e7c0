// One dashboard: shown, edited, saved. An edit is local until it is saved; a save names the version it was made from.

import '../style/dashboards.css';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { Link, useBlocker, useNavigate, useParams, useSearch } from '@tanstack/react-router';
import {
  ChevronDown,
  ChevronRight,
  Code,
  Copy,
  Ellipsis,
  Expand,
  FileJson,
  GitCompare,
  History,
  Info,
  Pencil,
  Plus,
  Redo2,
  Save,
  Search,
  Settings2,
  Star,
  Trash2,
  Undo2,
  X,
} from 'lucide-react';
import { lazy, Suspense, useCallback, useEffect, useMemo, useRef, useState } from 'react';
import { ApiError } from '../api/client';
import { deleteDashboard, getDashboard, getVersion, saveDashboard } from '../api/dashboards';
import { AnnotationBar } from '../components/dashboard/AnnotationBar';
import { DashboardState } from '../components/dashboard/DashboardState';
import { DashboardLinks, PanelLinks } from '../components/dashboard/Links';
import { type ChosenPart, PanelBody, type PanelContext, panelRange } from '../components/dashboard/PanelView';
import { VariableBar } from '../components/dashboard/VariableBar';
import { Dialog } from '../components/floating';
import { Menu } from '../components/menu';
import { PageHead } from '../components/Shell';
import { Empty, ErrorBox, Skeleton } from '../components/states';
import { Button, CopyButton, Field, IconButton, Input, StatusTag } from '../components/ui';
import { BUILTIN } from '../dashboards';
import { isOn, switched } from '../lib/dashboard/annotations';
import { askedText, type Rewrite } from '../lib/dashboard/asked';
import { begin, edit, redo, undo } from '../lib/dashboard/history';
import { layOut, type Shown } from '../lib/dashboard/layout';
import type { LinkContext } from '../lib/dashboard/links';
import {
  checkDashboard,
  type Dashboard,
  emptyDashboard,
  freshId,
  freshPanel,
  languageOf,
  MAX_REPEATS,
  PANEL_KINDS,
  type Panel,
  type QueryLanguage,
} from '../lib/dashboard/model';
import { freshUid } from '../lib/dashboard/uid';
import { ALL, builtins, interpolate } from '../lib/dashboard/variables';
import { middleOf, partText, snapped } from '../lib/part';
import { niceStep, type Range } from '../lib/time';
import { useClock, useRange } from '../state/clock';
import { useRewrite } from '../state/filters';
import { useKeys } from '../state/keys';
import type { AnnotationContext } from '../state/marks';
import { runAgain, useInspected } from '../state/panels';
import { usePrefs } from '../state/prefs';
import { useSystemMetrics } from '../state/system';
import { useVariables } from '../state/variables';

const GridEditor = lazy(() => import('../components/dashboard/GridEditor'));
const PanelEditor = lazy(() => import('../components/dashboard/PanelEditor'));
const Versions = lazy(() => import('../components/dashboard/Versions'));
const DashboardSettings = lazy(() => import('../components/dashboard/DashboardSettings'));

const asIs: Rewrite = (expression) => expression;

/** `FROM-TO`, two versions that are compared. */
function parsePair(text: string | undefined): [number, number] | null {
  const found = /^(\d{1,9})-(\d{1,9})$/.exec(text ?? '');
  return found ? [Number(found[1]), Number(found[2])] : null;
}

interface Loaded {
  dashboard: Dashboard;
  /** 0 where it is not stored. */
  version: number;
  builtin: boolean;
  system: boolean;
}

export default function DashboardPage() {
  const { uid } = useParams({ from: '/dashboards/$uid' });
  const search = useSearch({ from: '/dashboards/$uid' });
  const builtin = BUILTIN.find((b) => b.uid === uid);
  const loaded = useQuery({
    queryKey: ['dashboard', uid, search.version ?? null],
    staleTime: Number.POSITIVE_INFINITY,
    gcTime: 0,
    placeholderData: undefined,
    queryFn: async ({ signal }): Promise<Loaded> => {
      if (builtin) return { dashboard: await builtin.load(), version: 0, builtin: true, system: builtin.system };
      if (uid === 'new') {
        const asked = search['v-query'];
        const queries = asked === undefined ? [] : Array.isArray(asked) ? asked : [asked];
        const dashboard = emptyDashboard();
        for (const query of queries) dashboard.panels.push(freshPanel(dashboard, 'timeseries', [query]));
        return { dashboard, version: 0, builtin: false, system: false };
      }
      const answer =
        search.version === undefined ? await getDashboard(uid, signal) : await getVersion(uid, search.version, signal);
      return {
        dashboard: checkDashboard(answer.data.dashboard),
        version: answer.data.version,
        builtin: false,
        system: false,
      };
    },
  });
  if (loaded.error) {
    return (
      <div className="page">
        <PageHead title="Dashboard" parent={<Link to="/dashboards">Dashboards</Link>} />
        {loaded.error instanceof ApiError && loaded.error.type === 'not_found' ? (
          <Empty title="There is no such dashboard" actions={<Link to="/dashboards">All dashboards</Link>}>
            It may have been deleted, or belong to another tenant.
          </Empty>
        ) : (
          <ErrorBox error={loaded.error} onRetry={() => void loaded.refetch()} />
        )}
      </div>
    );
  }
  if (!loaded.data) {
    return (
      <div className="page">
        <PageHead title="Dashboard" parent={<Link to="/dashboards">Dashboards</Link>} />
        <Skeleton rows={8} />
      </div>
    );
  }
  return <Loaded key={`${uid}:${search.version ?? ''}`} uid={uid} loaded={loaded.data} />;
}

function Loaded({ uid, loaded }: { uid: string; loaded: Loaded }) {
  const search = useSearch({ from: '/dashboards/$uid' });
  const navigate = useNavigate({ from: '/dashboards/$uid' });
  const client = useQueryClient();
  const prefs = usePrefs();
  const system = useSystemMetrics();
  const fresh = uid === 'new';
  const [edits, setEdits] = useState(() => begin(loaded.dashboard));
  const [saved, setSaved] = useState({ dashboard: loaded.dashboard, version: loaded.version });
  const [editing, setEditing] = useState(fresh);
  const [dialog, setDialog] = useState<'save' | 'copy' | 'settings' | 'json' | 'versions' | 'delete' | null>(null);
  const [folded, setFolded] = useState<ReadonlySet<string>>(
    () => new Set(loaded.dashboard.panels.filter((p) => p.kind === 'row' && p.options.collapsed).map((p) => p.id)),
  );
  const dashboard = edits.now;
  const dirty = dashboard !== saved.dashboard || (fresh && dashboard.panels.length > 0);
  const { range, zone, zoom, text: rangeText } = useRange(dashboard.time, dashboard.refresh);
  const variables = useVariables(dashboard.variables, search as Record<string, unknown>, range);

  const change = useCallback(
    (next: Dashboard, what: string) => setEdits((old) => edit(old, next, what, Date.now())),
    [],
  );
  const openings = useRef(0);
  const changeSettings = (next: Dashboard) =>
    setEdits((old) => edit(old, next, `settings ${openings.current}`, Date.now(), Number.POSITIVE_INFINITY));
  const changePanel = useCallback(
    (panel: Panel, what: string) =>
      setEdits((old) =>
        edit(
          old,
          { ...old.now, panels: old.now.panels.map((p) => (p.id === panel.id ? panel : p)) },
          `${what}:${panel.id}`,
          Date.now(),
        ),
      ),
    [],
  );

  // biome-ignore lint/correctness/useExhaustiveDependencies: once, for the list of what was opened
  useEffect(() => {
    if (!fresh) prefs.visited(uid, loaded.dashboard.title);
  }, [uid]);

  useBlocker({
    shouldBlockFn: ({ current, next }) =>
      dirty && current.pathname !== next.pathname && !window.confirm('Leave without saving? The changes are lost.'),
    enableBeforeUnload: () => dirty,
  });

  /** Chooses a part of a panel's time; it is shown alone then, for there is room to compare. */
  const [byKey, setByKey] = useState(false);
  const choosePart = useCallback(
    (panel: string, part: Range, compare: boolean, key = false) => {
      setByKey(key);
      void navigate({
        search: (old) => ({
          ...old,
          panel,
          part: partText(snapped(part, 1000)),
          compare: compare || old.compare || undefined,
        }),
        resetScroll: false,
      });
    },
    [navigate],
  );
  const [below, setBelow] = useState<HTMLElement | null>(null);
  const chosen: ChosenPart = {
    part: search.part,
    comparing: search.compare === true,
    query: (search.of ?? 1) - 1,
    focus: byKey,
    below,
    onZoom: (part) => {
      useClock.getState().tick();
      const [from, to] = [part.from, part.to].map((ms) => String(Math.round(ms)));
      void navigate({
        search: (old) => ({ ...old, from, to, part: undefined, compare: undefined, of: undefined }),
        resetScroll: false,
      });
    },
    onMove: (part) =>
      void navigate({ search: (old) => ({ ...old, part: partText(part) }), replace: true, resetScroll: false }),
    onChange: (change) => void navigate({ search: (old) => ({ ...old, ...change }), resetScroll: false }),
  };

  const pair = saved.version > 0 ? parsePair(search.diff) : null;
  const comparePair = (next: [number, number] | null) => {
    setDialog('versions');
    void navigate({ search: (old) => ({ ...old, diff: next?.join('-') }), resetScroll: false });
  };
  useEffect(() => () => runAgain(), []);

  const compareAlone = useRef(() => {});
  useKeys(
    useMemo(
      () => [
        { keys: 'd e', label: 'Edit', run: () => setEditing((on) => !on) },
        { keys: 'mod+s', label: 'Save', run: () => setDialog(loaded.builtin ? 'copy' : 'save') },
        { keys: 'mod+z', label: 'Undo', run: () => setEdits(undo) },
        { keys: 'mod+y', label: 'Redo', run: () => setEdits(redo) },
        {
          keys: 'esc',
          label: 'Close the panel',
          run: () =>
            void navigate({
              search: (old) =>
                old.part
                  ? { ...old, part: undefined, compare: undefined, of: undefined }
                  : { ...old, panel: undefined, edit: undefined },
            }),
        },
        {
          keys: 'c',
          label: 'Of a panel that is shown alone: choose a part of its time; compare it with the rest',
          run: () => compareAlone.current(),
        },
      ],
      [loaded.builtin, navigate],
    ),
  );

  const step = niceStep(range, 300);
  // Choices are new objects at each look; what panels depend on is what is chosen.
  const choice = JSON.stringify(
    variables.chosen.map((c) => [c.variable.name, c.values, c.values.includes(ALL) ? c.options : 0]),
  );
  // biome-ignore lint/correctness/useExhaustiveDependencies: `choice` stands for the variables
  const scope = useMemo(
    () => ({ ...builtins({ from: range.from, to: range.to }, step), ...variables.scope }),
    [range.from, range.to, step, choice],
  );
  const tenant = loaded.system ? system.tenant : undefined;
  const filtered = useRewrite(variables.chosen);
  const rewrite = filtered.rewrite ?? asIs;
  const waiting = !variables.ready || filtered.rewrite === null || (loaded.system && system.tenant === undefined);
  // biome-ignore lint/correctness/useExhaustiveDependencies: `choice` stands for the variables
  const linked = useMemo<LinkContext>(
    () => ({
      scope,
      text: { from: rangeText.from, to: rangeText.to },
      chosen: variables.chosen,
      tenant: search.tenant,
    }),
    [scope, rangeText.from, rangeText.to, choice, search.tenant],
  );
  const marked: AnnotationContext = {
    annotations: waiting ? [] : dashboard.annotations.filter((a) => isOn(a, search.marks)),
    scope: variables.scope,
    tenant,
    rewrite,
  };
  const context: PanelContext = {
    range,
    zone,
    scope: variables.scope,
    tenant,
    sync: uid,
    onZoom: zoom,
    marked,
    rewrite,
    linked,
  };
  const laid = useMemo(() => layOut(dashboard.panels, scope, folded), [dashboard.panels, scope, folded]);
  const single = search.panel ?? search.edit;
  const focus = single ? laid.panels.find((s) => s.key === single || s.panel.id === single) : undefined;

  compareAlone.current = () => {
    if (search.part) chosen.onChange({ compare: !search.compare || undefined });
    else if (search.panel && focus?.panel.kind === 'timeseries')
      choosePart(focus.key, middleOf(panelRange(focus.panel, range, scope, zone)), false, true);
  };

  const addPanel = (kind: Panel['kind']) => {
    const panel = freshPanel(dashboard, kind);
    change({ ...dashboard, panels: [...dashboard.panels, panel] }, 'add');
    setEditing(true);
    if (kind !== 'row') void navigate({ search: (old) => ({ ...old, edit: panel.id }) });
  };
  const removePanel = (id: string) =>
    change({ ...dashboard, panels: dashboard.panels.filter((p) => p.id !== id) }, `remove:${id}`);
  const copyPanel = (panel: Panel) => {
    const bottom = dashboard.panels.reduce((y, p) => Math.max(y, p.grid.y + p.grid.h), 0);
    const copy = { ...structuredClone(panel), id: freshId(dashboard), grid: { ...panel.grid, y: bottom } };
    change({ ...dashboard, panels: [...dashboard.panels, copy] }, 'copy');
  };
  /** Its queries on the pages of their languages. */
  const waysOut = (shown: Shown) => {
    const { panel } = shown;
    const own = { ...scope, ...shown.own };
    const at = panelRange(panel, range, own, zone);
    const asked = panel.queries
      .filter((q) => !q.hidden)
      .map((q) => ({ language: languageOf(panel.kind, q), expr: q.expr }))
      .map(({ language, expr }) => ({ language, text: askedText(language, expr, own, { range: at, step }, rewrite) }));
    const texts = (language: QueryLanguage) => asked.filter((q) => q.language === language).map((q) => q.text);
    const promql = texts('promql').filter((q) => q.trim() !== '');
    const [search] = texts('search');
    const [traceql] = texts('traceql');
    const [sql] = texts('sql');
    const go = (label: string, to: string, params: object) => ({
      label,
      icon: Search,
      onSelect: () => void navigate({ to, search: params as never }),
    });
    return [
      ...(promql.length > 0 ? [go('Explore its queries', '/explore', { q: promql })] : []),
      ...(search !== undefined ? [go('Open in Logs', '/logs', { q: search.trim() || undefined })] : []),
      ...(traceql !== undefined ? [go('Open in Traces', '/traces', { q: traceql.trim() || undefined })] : []),
      ...(sql ? [go('Open in SQL', '/sql', { c: [sql] })] : []),
    ];
  };
  const menuOf = (shown: Shown) => [
    { label: 'View', icon: Expand, onSelect: () => void navigate({ search: (old) => ({ ...old, panel: shown.key }) }) },
    {
      label: 'Edit',
      icon: Pencil,
      onSelect: () => {
        setEditing(true);
        void navigate({ search: (old) => ({ ...old, edit: shown.panel.id }) });
      },
    },
    ...(shown.panel.kind === 'timeseries'
      ? [
          {
            label: 'Compare a part',
            icon: GitCompare,
            hint: 'Shift drag',
            onSelect: () => choosePart(shown.key, middleOf(panelRange(shown.panel, range, scope, zone)), true, true),
          },
        ]
      : []),
    { label: 'Inspect', icon: Code, onSelect: () => useInspected.setState({ panel: shown.key }) },
    ...waysOut(shown),
    {
      label: 'Duplicate',
      icon: Copy,
      onSelect: () => {
        setEditing(true);
        copyPanel(shown.panel);
      },
    },
    'line' as const,
    {
      label: 'Remove',
      icon: Trash2,
      danger: true,
      onSelect: () => {
        setEditing(true);
        removePanel(shown.panel.id);
      },
    },
  ];

  if (search.edit && focus) {
    return (
      <Suspense fallback={<Skeleton rows={8} />}>
        <PageHead
          title={focus.panel.title || 'Panel'}
          parent={
            <Link to="/dashboards/$uid" params={{ uid }} search={(old) => ({ ...old, edit: undefined })}>
              {dashboard.title}
            </Link>
          }
          time
          fallback={dashboard.time}
        >
          <UndoButtons edits={edits} onUndo={() => setEdits(undo)} onRedo={() => setEdits(redo)} />
          <Button look="primary" onClick={() => void navigate({ search: (old) => ({ ...old, edit: undefined }) })}>
            Done
          </Button>
        </PageHead>
        <PanelEditor
          panel={focus.panel}
          variables={dashboard.variables}
          context={{ ...context, scope: { ...context.scope, ...focus.own } }}
          onChange={changePanel}
        />
      </Suspense>
    );
  }

  return (
    <div className={`page dashboard ${editing ? 'is-editing' : ''}`}>
      <PageHead
        title={`${dashboard.title}${dirty ? ' •' : ''}`}
        parent={<Link to="/dashboards">Dashboards</Link>}
        time
        fallback={dashboard.time}
        fallbackRefresh={dashboard.refresh}
      >
        <DashboardState stoppedVariables={variables.stopped} />
        {search.version !== undefined && <StatusTag tone="info">version {search.version}</StatusTag>}
        {!fresh && (
          <IconButton
            icon={Star}
            label={prefs.starred.includes(uid) ? 'Unstar' : 'Star'}
            active={prefs.starred.includes(uid)}
            onClick={() => prefs.star(uid)}
          />
        )}
        {editing ? (
          <>
            <UndoButtons edits={edits} onUndo={() => setEdits(undo)} onRedo={() => setEdits(redo)} />
            <Menu
              trigger={<Button icon={Plus}>Add</Button>}
              entries={PANEL_KINDS.map((kind) => ({ label: kind.label, onSelect: () => addPanel(kind.id) }))}
            />
            <IconButton
              icon={Settings2}
              label="Settings, variables, annotations, links"
              onClick={() => {
                openings.current += 1;
                setDialog('settings');
              }}
            />
            <Button
              look="primary"
              icon={Save}
              onClick={() => setDialog(loaded.builtin || fresh ? 'copy' : 'save')}
              disabled={!dirty && !loaded.builtin && !fresh}
            >
              Save
            </Button>
            <IconButton icon={X} label="Stop editing (d e)" onClick={() => setEditing(false)} />
          </>
        ) : (
          <Button icon={Pencil} onClick={() => setEditing(true)} title="Edit (d e)">
            Edit
          </Button>
        )}
        <Menu
          trigger={<IconButton icon={Ellipsis} label="More" />}
          entries={[
            { label: 'Save a copy', icon: Copy, onSelect: () => setDialog('copy') },
            { label: 'JSON of this dashboard', icon: FileJson, onSelect: () => setDialog('json') },
            ...(saved.version > 0 ? [{ label: 'Versions', icon: History, onSelect: () => setDialog('versions') }] : []),
            {
              label: 'Only the panels (kiosk)',
              icon: Expand,
              onSelect: () => void navigate({ search: ((old: object) => ({ ...old, kiosk: true })) as never }),
            },
            ...(saved.version > 0
              ? ['line' as const, { label: 'Delete', icon: Trash2, danger: true, onSelect: () => setDialog('delete') }]
              : []),
          ]}
        />
      </PageHead>
      <VariableBar
        state={variables}
        range={range}
        onChange={(name, values) =>
          void navigate({
            search: (old) => ({ ...old, [`v-${name}`]: values.length === 1 ? values[0] : values }),
            resetScroll: false,
          })
        }
      />
      <AnnotationBar
        all={dashboard.annotations}
        marked={marked}
        range={range}
        zone={zone}
        onSwitch={(annotation) =>
          void navigate({
            search: (old) => ({ ...old, marks: switched(annotation, old.marks) }),
            replace: true,
            resetScroll: false,
          })
        }
      />
      <DashboardLinks links={dashboard.links} context={linked} uid={uid} />
      {filtered.error && <ErrorBox error={filtered.error} />}
      {laid.leftOut > 0 && (
        <p className="cap-note warn">
          ▲ {laid.leftOut} repetitions are not drawn: {MAX_REPEATS} is the most of one panel or row.
        </p>
      )}
      {search.panel && focus ? (
        <div className={`single-panel ${search.part ? 'has-part' : ''}`}>
          <PanelFrame
            shown={focus}
            context={{
              ...context,
              scope: { ...context.scope, ...focus.own },
              onZoom: chosen.onZoom,
              onPart: (part) => choosePart(focus.key, part, false),
              chosen,
            }}
            waiting={waiting}
            tall
            menu={menuOf(focus)}
          />
          <div ref={setBelow} />
        </div>
      ) : dashboard.panels.length === 0 ? (
        <Empty
          title="This dashboard has no panels"
          actions={
            <Button look="primary" icon={Plus} onClick={() => addPanel('timeseries')}>
              Add a time series
            </Button>
          }
        >
          A panel asks PromQL and draws the answer. Variables, in the settings, make one dashboard serve many services.
        </Empty>
      ) : editing ? (
        <Suspense fallback={<Skeleton rows={8} />}>
          <GridEditor
            panels={dashboard.panels}
            onChange={(panels) => change({ ...dashboard, panels }, 'layout')}
            render={(panel, height, width) => (
              <PanelFrame
                shown={{ key: panel.id, panel, own: {}, grid: panel.grid }}
                context={context}
                waiting={waiting}
                menu={menuOf({ key: panel.id, panel, own: {}, grid: panel.grid })}
                size={{ height, width }}
                handle
              />
            )}
            onRow={(row, title) => changePanel({ ...row, title }, 'title')}
            onRemove={removePanel}
          />
        </Suspense>
      ) : (
        <div className="dash-grid">
          {laid.panels.map((shown) => {
            const { x, y, w, h } = shown.grid;
            const place = { gridColumn: `${x + 1} / span ${w}`, gridRow: `${y + 1} / span ${h}` };
            if (shown.panel.kind === 'row') {
              const open = !folded.has(shown.key);
              return (
                <div key={shown.key} className="dash-row" style={place}>
                  <button
                    type="button"
                    aria-expanded={open}
                    onClick={() =>
                      setFolded((old) => {
                        const next = new Set(old);
                        if (!next.delete(shown.key)) next.add(shown.key);
                        return next;
                      })
                    }
                  >
                    {open ? <ChevronDown size={14} aria-hidden /> : <ChevronRight size={14} aria-hidden />}
                    <bdi>{interpolate(shown.panel.title, { ...scope, ...shown.own }, 'text')}</bdi>
                  </button>
                </div>
              );
            }
            return (
              <div key={shown.key} style={place} className="dash-cell">
                <PanelFrame
                  shown={shown}
                  context={{
                    ...context,
                    scope: { ...context.scope, ...shown.own },
                    onPart: (part) => choosePart(shown.key, part, true),
                  }}
                  waiting={waiting}
                  menu={menuOf(shown)}
                />
              </div>
            );
          })}
        </div>
      )}
      {dialog === 'settings' && (
        <Suspense>
          <DashboardSettings
            dashboard={dashboard}
            state={variables}
            onChange={changeSettings}
            onClose={() => setDialog(null)}
          />
        </Suspense>
      )}
      {(dialog === 'save' || dialog === 'copy') && (
        <SaveDialog
          uid={uid}
          copy={dialog === 'copy'}
          dashboard={dashboard}
          version={saved.version}
          onClose={() => setDialog(null)}
          onOverwrite={(newest) => setSaved((old) => ({ ...old, version: newest }))}
          onSaved={(at, version, stored) => {
            setDialog(null);
            setEdits((old) => ({ ...old, now: stored }));
            setSaved({ dashboard: stored, version });
            void client.invalidateQueries({ queryKey: ['dashboards'] });
            if (at !== uid) void navigate({ to: '/dashboards/$uid', params: { uid: at }, ignoreBlocker: true });
            else if (search.version !== undefined)
              void navigate({ search: (old) => ({ ...old, version: undefined }), ignoreBlocker: true });
          }}
        />
      )}
      {dialog === 'json' && (
        <JsonDialog dashboard={dashboard} onClose={() => setDialog(null)} onChange={(next) => change(next, 'json')} />
      )}
      {(dialog === 'versions' || pair !== null) && (
        <Suspense>
          <Versions
            uid={uid}
            current={saved.version}
            shown={dashboard}
            isChanged={dirty}
            zone={zone}
            pair={pair}
            onPair={comparePair}
            onClose={() => {
              setDialog(null);
              if (pair) void navigate({ search: (old) => ({ ...old, diff: undefined }), resetScroll: false });
            }}
            onRestored={(version, stored) => {
              setDialog(null);
              setEdits(begin(stored));
              setSaved({ dashboard: stored, version });
              void client.invalidateQueries({ queryKey: ['dashboards'] });
              void client.invalidateQueries({ queryKey: ['versions', uid] });
              void navigate({
                search: (old) => ({ ...old, version: undefined, diff: undefined }),
                ignoreBlocker: true,
              });
            }}
          />
        </Suspense>
      )}
      {dialog === 'delete' && (
        <DeleteDialog
          uid={uid}
          version={saved.version}
          title={dashboard.title}
          onClose={() => setDialog(null)}
          onDeleted={() => {
            void client.invalidateQueries({ queryKey: ['dashboards'] });
            void navigate({ to: '/dashboards', ignoreBlocker: true });
          }}
        />
      )}
    </div>
  );
}

function UndoButtons({
  edits,
  onUndo,
  onRedo,
}: {
  edits: { past: unknown[]; future: unknown[] };
  onUndo: () => void;
  onRedo: () => void;
}) {
  return (
    <span className="join">
      <IconButton icon={Undo2} label="Undo (Ctrl Z)" disabled={edits.past.length === 0} onClick={onUndo} />
      <IconButton icon={Redo2} label="Redo (Ctrl Y)" disabled={edits.future.length === 0} onClick={onRedo} />
    </span>
  );
}

function PanelFrame({
  shown,
  context,
  waiting,
  menu,
  size,
  tall,
  handle,
}: {
  shown: Shown;
  context: PanelContext;
  waiting: boolean;
  menu: Parameters<typeof Menu>[0]['entries'];
  size?: { height: number; width: number };
  tall?: boolean;
  handle?: boolean;
}) {
  const box = useRef<HTMLDivElement>(null);
  const [measured, setMeasured] = useState({ width: 0, height: 0 });
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const observer = new ResizeObserver(([entry]) => {
      if (entry)
        setMeasured({ width: Math.floor(entry.contentRect.width), height: Math.floor(entry.contentRect.height) });
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  const { panel } = shown;
  const title = interpolate(panel.title, context.scope, 'text');
  const inner = size
    ? { width: size.width - 20, height: size.height - 42 }
    : { width: measured.width - 20, height: measured.height - 42 };
  return (
    <div
      role="group"
      ref={box}
      className={`dash-panel ${tall ? 'is-tall' : ''} ${title === '' ? 'is-untitled' : ''}`}
      aria-label={title || panel.kind}
      data-testid="panel"
      data-kind={panel.kind}
    >
      <header className={`dash-panel-head ${handle ? 'drag-handle' : ''}`}>
        <h2 className="panel-title">
          <bdi>{title}</bdi>
        </h2>
        {panel.description && (
          <span className="panel-info" title={panel.description}>
            <Info size={12} aria-hidden />
            <span className="sr-only">{panel.description}</span>
          </span>
        )}
        <PanelLinks links={panel.links} context={{ ...context.linked, scope: context.scope }} />
        {panel.timeFrom && <span className="kind">{panel.timeFrom}</span>}
        {panel.timeShift && <span className="kind">shifted {panel.timeShift}</span>}
        <Menu trigger={<IconButton icon={Ellipsis} label={`Panel ${title}`} className="panel-menu" />} entries={menu} />
      </header>
      <div className="dash-panel-body">
        {inner.height > 10 &&
          inner.width > 10 &&
          (waiting ? (
            <Skeleton height={inner.height} />
          ) : (
            <PanelBody
              panel={panel}
              context={{ ...context, reportAs: shown.key }}
              height={inner.height}
              width={inner.width}
            />
          ))}
      </div>
    </div>
  );
}

function SaveDialog({
  uid,
  copy,
  dashboard,
  version,
  onClose,
  onSaved,
  onOverwrite,
}: {
  uid: string;
  copy: boolean;
  dashboard: Dashboard;
  version: number;
  onClose: () => void;
  onSaved: (uid: string, version: number, stored: Dashboard) => void;
  onOverwrite: (newest: number) => void;
}) {
  const [title, setTitle] = useState(copy && version > 0 ? `${dashboard.title} (copy)` : dashboard.title);
  const [folder, setFolder] = useState(dashboard.folder ?? '');
  const [message, setMessage] = useState('');
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState<unknown>(null);
  const conflict = failed instanceof ApiError && failed.type === 'conflict';
  const run = (expected: number) => {
    setBusy(true);
    setFailed(null);
    const stored = { ...dashboard, title: title.trim(), folder: folder.trim() || undefined };
    const at = copy ? freshUid(title) : uid;
    saveDashboard(at, copy ? 0 : expected, stored, message).then(
      (answer) => onSaved(at, answer.version, stored),
      (error: unknown) => {
        setBusy(false);
        setFailed(error);
      },
    );
  };
  const overwrite = () =>
    void getDashboard(uid).then(
      (answer) => {
        onOverwrite(answer.data.version);
        run(answer.data.version);
      },
      (error: unknown) => setFailed(error),
    );
  return (
    <Dialog
      open
      onClose={onClose}
      title={copy ? (version > 0 ? 'Save a copy' : 'Save the dashboard') : `Save as version ${version + 1}`}
    >
      <form
        className="stack"
        onSubmit={(e) => {
          e.preventDefault();
          run(version);
        }}
      >
        <Field label="Title">
          <Input value={title} onChange={(e) => setTitle(e.target.value)} />
        </Field>
        <Field label="Folder">
          <Input value={folder} onChange={(e) => setFolder(e.target.value)} placeholder="none" />
        </Field>
        {!copy && (
          <Field label="What changed">
            <Input
              value={message}
              onChange={(e) => setMessage(e.target.value)}
              placeholder="optional; shown in the list of versions"
            />
          </Field>
        )}
        {failed !== null && <ErrorBox error={failed} />}
        <div className="dialog-actions">
          <Button onClick={onClose}>Cancel</Button>
          {conflict && !copy && (
            <Button look="danger" onClick={overwrite}>
              Save over it; theirs stays as a version
            </Button>
          )}
          <Button look="primary" type="submit" disabled={busy || title.trim() === ''}>
            {busy ? 'Saving…' : 'Save'}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

function JsonDialog({
  dashboard,
  onClose,
  onChange,
}: {
  dashboard: Dashboard;
  onClose: () => void;
  onChange: (next: Dashboard) => void;
}) {
  const [text, setText] = useState(() => JSON.stringify(dashboard, null, 2));
  const [problem, setProblem] = useState<string | null>(null);
  return (
    <Dialog open onClose={onClose} title="JSON of this dashboard" width={820}>
      <textarea
        className="input"
        rows={22}
        aria-label="JSON"
        spellCheck={false}
        value={text}
        onChange={(e) => setText(e.target.value)}
      />
      {problem && <p className="critical">■ {problem}</p>}
      <div className="dialog-actions">
        <CopyButton text={text} words="Copy" />
        <Button onClick={onClose}>Close</Button>
        <Button
          look="primary"
          onClick={() => {
            try {
              onChange(checkDashboard(JSON.parse(text)));
              onClose();
            } catch (error) {
              setProblem(error instanceof Error ? error.message : String(error));
            }
          }}
        >
          Take over
        </Button>
      </div>
    </Dialog>
  );
}

function DeleteDialog({
  uid,
  version,
  title,
  onClose,
  onDeleted,
}: {
  uid: string;
  version: number;
  title: string;
  onClose: () => void;
  onDeleted: () => void;
}) {
  const [typed, setTyped] = useState('');
  const [failed, setFailed] = useState<unknown>(null);
  return (
    <Dialog open onClose={onClose} title="Delete this dashboard">
      <p>
        <b>{title}</b> and all its versions are gone then, for everybody.
      </p>
      <Field label={`Type "${title}" to go on`}>
        <Input value={typed} onChange={(e) => setTyped(e.target.value)} autoComplete="off" />
      </Field>
      {failed !== null && <ErrorBox error={failed} />}
      <div className="dialog-actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button
          look="danger"
          disabled={typed.trim() !== title.trim()}
          onClick={() => void deleteDashboard(uid, version).then(onDeleted, setFailed)}
        >
          Delete
        </Button>
      </div>
    </Dialog>
  );
}

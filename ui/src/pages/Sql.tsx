// A notebook of SQL: statements, each with what it gave. It is in the address, so a link shares it; saved ones stay in this
// browser.

import { useNavigate, useSearch } from '@tanstack/react-router';
import { ArrowDown, ArrowUp, BookMarked, ListTree, Play, Plus, Save, Square, Trash2 } from 'lucide-react';
import { lazy, Suspense, useCallback, useEffect, useRef, useState } from 'react';
import type { Answer } from '../api/client';
import { runSql, type SqlTable } from '../api/sql';
import { Popover } from '../components/floating';
import { PageHead } from '../components/Shell';
import { Result } from '../components/sql/Result';
import { Schema } from '../components/sql/Schema';
import { ErrorBox, errorPosition, SlowNote } from '../components/states';
import { Button, CopyButton, IconButton, Input } from '../components/ui';
import { formatMoment } from '../lib/time';
import { MOST_CELLS } from '../routes';
import { useRange } from '../state/clock';
import { usePageKeys } from '../state/keys';
import { useNotebooks } from '../state/notebooks';
import '../style/sql.css';

const SqlEditor = lazy(() => import('../components/SqlEditor'));

const STARTERS = [
  {
    what: 'Metrics with the most samples',
    text: "SELECT name, count(*) AS samples\nFROM metrics\nWHERE time > now() - INTERVAL '15 minutes'\nGROUP BY name\nORDER BY samples DESC\nLIMIT 20",
  },
  {
    what: 'Memory of each node, by minute',
    text: "SELECT date_bin(INTERVAL '1 minute', time) AS minute, instance, max(value) AS bytes\nFROM process_resident_memory_bytes\nWHERE time > now() - INTERVAL '1 hour'\nGROUP BY minute, instance\nORDER BY minute",
  },
  {
    what: 'PromQL joined with PromQL',
    text: "SELECT p.instance, p.value AS cores, m.value AS bytes\nFROM promql('sum by (instance) (rate(process_cpu_seconds_total[1m]))') p\nJOIN promql('process_resident_memory_bytes') m ON p.instance = m.instance",
  },
  { what: 'Where the shards are', text: 'SELECT * FROM system.replicas' },
];

interface Cell {
  key: number;
  text: string;
  /** As it was run last. */
  ran?: string;
  answer?: Answer<SqlTable>;
  error?: Error;
  /** When the run that is under way began. */
  began?: number;
}

let keys = 0;
const cellOf = (text: string): Cell => ({ key: keys++, text });
const EXPLAIN = 'EXPLAIN ANALYZE\n';

/** An error of an explained statement, with the line as its author counts. */
function shifted(error: Error): Error {
  error.message = error.message.replace(/\(line (\d+), /, (_, line) => `(line ${Math.max(1, Number(line) - 1)}, `);
  return error;
}

export default function Sql() {
  const search = useSearch({ from: '/sql' });
  const navigate = useNavigate({ from: '/sql' });
  const { utc } = useRange();
  const notebooks = useNotebooks();
  const [cells, setCells] = useState<Cell[]>(() =>
    (search.c ?? (notebooks.draft.length > 0 ? notebooks.draft : [''])).map(cellOf),
  );
  const latest = useRef(cells);
  latest.current = cells;
  const running = useRef(new Map<number, AbortController>());
  const insert = useRef<((text: string) => void) | null>(null);
  const [opened, setOpened] = useState(false);
  const [saving, setSaving] = useState(false);

  const put = useCallback(
    (key: number, part: Partial<Cell>) => setCells((old) => old.map((c) => (c.key === key ? { ...c, ...part } : c))),
    [],
  );
  /** The address says what was run; what is only written is kept as a draft. */
  const show = useCallback(
    (list: Cell[], name = search.name) => {
      const texts = list.map((cell) => cell.text).filter((text) => text.trim() !== '');
      known.current = JSON.stringify(texts);
      useNotebooks.getState().keep(texts);
      void navigate({
        search: (old) => ({ ...old, c: texts.length > 0 ? texts : undefined, name }),
        resetScroll: false,
      });
    },
    [navigate, search.name],
  );
  const known = useRef(JSON.stringify(search.c ?? []));

  const run = useCallback(
    async (key: number, explain = false) => {
      const cell = latest.current.find((c) => c.key === key);
      if (!cell || cell.text.trim() === '') return;
      const explains = explain && !/^\s*explain\b/i.test(cell.text);
      running.current.get(key)?.abort();
      const asked = new AbortController();
      running.current.set(key, asked);
      put(key, { began: performance.now() });
      try {
        const answer = await runSql(explains ? EXPLAIN + cell.text : cell.text, asked.signal);
        put(key, { answer, error: undefined, ran: cell.text, began: undefined });
      } catch (error) {
        if (running.current.get(key) !== asked) return;
        const stopped = asked.signal.aborted;
        const failure = explains ? shifted(error as Error) : (error as Error);
        put(
          key,
          stopped ? { began: undefined } : { answer: undefined, error: failure, ran: cell.text, began: undefined },
        );
      } finally {
        if (running.current.get(key) === asked) running.current.delete(key);
      }
    },
    [put],
  );
  const runAll = useCallback(async () => {
    for (const cell of latest.current) await run(cell.key);
  }, [run]);

  // A link shows what it shares: its statements are run, one after the other.
  const asked = JSON.stringify(search.c ?? []);
  const first = useRef(true);
  useEffect(() => {
    if (first.current) {
      first.current = false;
      if (asked !== '[]') void runAll();
      return;
    }
    if (known.current === asked) return;
    known.current = asked;
    const list = JSON.parse(asked) as string[];
    const next = (list.length > 0 ? list : ['']).map(cellOf);
    latest.current = next;
    setCells(next);
    void runAll();
  }, [asked, runAll]);
  useEffect(() => {
    const open = running.current;
    return () => {
      for (const one of open.values()) one.abort();
      open.clear();
      // Mounted once more, as while pages are worked on, the link is run once more.
      first.current = true;
    };
  }, []);
  const texts = JSON.stringify(cells.map((c) => c.text));
  useEffect(() => {
    // A link that is only looked at does not take the place of what somebody was writing.
    if (texts !== known.current) useNotebooks.getState().keep(JSON.parse(texts) as string[]);
  }, [texts]);

  const add = (text = '', after = cells.length - 1) =>
    setCells((old) => (old.length >= MOST_CELLS ? old : old.toSpliced(after + 1, 0, cellOf(text))));
  const move = (at: number, by: number) =>
    setCells((old) => {
      const to = at + by;
      return to < 0 || to >= old.length ? old : old.toSpliced(at, 1).toSpliced(to, 0, old[at]!);
    });
  const runCell = (key: number, explain = false) => {
    show(cells);
    void run(key, explain);
  };
  usePageKeys([{ keys: 'n', label: 'New cell', run: () => add() }]);

  const isEmpty = cells.every((cell) => cell.text.trim() === '');
  return (
    <div className="page sql">
      <PageHead title={search.name ? `SQL: ${search.name}` : 'SQL'} />
      <div className="sql-main">
        <Schema
          onInsert={(text, isTable) => {
            const only = cells.length === 1 && isEmpty ? cells[0] : undefined;
            if (isTable && only) put(only.key, { text: `SELECT *\nFROM ${text}\nLIMIT 100` });
            else if (insert.current) insert.current(text);
            else add(isTable ? `SELECT *\nFROM ${text}\nLIMIT 100` : text);
          }}
        />
        <div className="sql-cells">
          <div className="filter-bar">
            <Button
              look="primary"
              icon={Play}
              disabled={isEmpty}
              onClick={() => {
                show(cells);
                void runAll();
              }}
            >
              Run all
            </Button>
            <Button icon={Plus} onClick={() => add()} disabled={cells.length >= MOST_CELLS}>
              Add a cell
            </Button>
            <span className="spring" />
            <Popover
              label="Notebooks of this browser"
              open={opened}
              onOpenChange={setOpened}
              trigger={
                <Button icon={BookMarked} disabled={notebooks.saved.length === 0}>
                  Notebooks{notebooks.saved.length > 0 ? ` (${notebooks.saved.length})` : ''}
                </Button>
              }
            >
              <ul className="history-list">
                {notebooks.saved.map((notebook) => (
                  <li key={notebook.name} className="sql-saved">
                    <button
                      type="button"
                      onClick={() => {
                        setOpened(false);
                        void navigate({ search: (old) => ({ ...old, c: notebook.cells, name: notebook.name }) });
                      }}
                    >
                      <b>{notebook.name}</b>{' '}
                      <span className="muted small">
                        {notebook.cells.length} cells, {formatMoment(notebook.at, utc)}
                      </span>
                    </button>
                    <IconButton
                      icon={Trash2}
                      label={`Delete ${notebook.name}`}
                      onClick={() => notebooks.remove(notebook.name)}
                    />
                  </li>
                ))}
              </ul>
            </Popover>
            <Popover
              label="Save in this browser"
              open={saving}
              onOpenChange={setSaving}
              trigger={
                <Button icon={Save} disabled={isEmpty}>
                  Save
                </Button>
              }
            >
              <SaveForm
                name={search.name ?? ''}
                onSave={(name) => {
                  setSaving(false);
                  notebooks.save(
                    name,
                    cells.map((cell) => cell.text).filter((text) => text.trim() !== ''),
                  );
                  show(cells, name);
                }}
              />
            </Popover>
          </div>
          {cells.map((cell, i) => (
            <CellView
              key={cell.key}
              cell={cell}
              index={i}
              utc={utc}
              isLast={i === cells.length - 1}
              isOnly={cells.length === 1}
              onText={(text) => put(cell.key, { text })}
              onRun={() => runCell(cell.key)}
              onExplain={() => runCell(cell.key, true)}
              onStop={() => running.current.get(cell.key)?.abort()}
              onMove={(by) => move(i, by)}
              onRemove={() => {
                running.current.get(cell.key)?.abort();
                const left = cells.filter((c) => c.key !== cell.key);
                setCells(left.length > 0 ? left : [cellOf('')]);
                insert.current = null;
              }}
              onFocus={(write) => {
                insert.current = write;
              }}
            />
          ))}
          {isEmpty && (
            <div className="sql-starters">
              <p className="muted">
                Write a statement, choose a table, or begin with one of these. PostgreSQL’s language; it only reads.
              </p>
              <ul className="starters">
                {STARTERS.map(({ what, text }) => (
                  <li key={what}>
                    <button
                      type="button"
                      onClick={() => {
                        const next = [{ ...cells[0]!, text }];
                        latest.current = next;
                        setCells(next);
                        show(next);
                        void run(next[0]!.key);
                      }}
                    >
                      <span>{what}</span>
                      <code>{text.replaceAll('\n', ' ')}</code>
                    </button>
                  </li>
                ))}
              </ul>
            </div>
          )}
        </div>
      </div>
    </div>
  );
}

function SaveForm({ name, onSave }: { name: string; onSave: (name: string) => void }) {
  const [text, setText] = useState(name);
  const valid = text.trim() !== '' && text.length <= 100;
  return (
    <form
      className="popover-form"
      onSubmit={(event) => {
        event.preventDefault();
        if (valid) onSave(text.trim());
      }}
    >
      <label className="field">
        <span className="field-label">Name of the notebook</span>
        <Input value={text} onChange={(e) => setText(e.target.value)} autoFocus />
        <span className="field-hint">
          Kept in this browser; one of this name is replaced. To share it, share the link.
        </span>
      </label>
      <Button look="primary" type="submit" disabled={!valid}>
        Save
      </Button>
    </form>
  );
}

function CellView({
  cell,
  index,
  utc,
  isLast,
  isOnly,
  onText,
  onRun,
  onExplain,
  onStop,
  onMove,
  onRemove,
  onFocus,
}: {
  cell: Cell;
  index: number;
  utc: boolean;
  isLast: boolean;
  isOnly: boolean;
  onText: (text: string) => void;
  onRun: () => void;
  onExplain: () => void;
  onStop: () => void;
  onMove: (by: number) => void;
  onRemove: () => void;
  onFocus: (insert: (text: string) => void) => void;
}) {
  const { error, answer } = cell;
  const [problem, setProblem] = useState<{ line: number; column: number; message: string } | null>(null);
  useEffect(() => {
    const place = error && errorPosition(error.message);
    setProblem(place ? { ...place, message: error.message } : null);
  }, [error]);
  const isRunning = cell.began !== undefined;
  const isStale = cell.ran !== undefined && cell.ran !== cell.text;
  return (
    <section className="panel sql-cell" aria-label={`Cell ${index + 1}`} data-testid="sql-cell">
      <div className="sql-write">
        <span className="query-letter" aria-hidden>
          {index + 1}
        </span>
        <Suspense fallback={<div className="code-editor is-loading" />}>
          <SqlEditor
            value={cell.text}
            onChange={(text) => {
              // A mark is of the text that was run.
              setProblem(null);
              onText(text);
            }}
            onRun={onRun}
            label={`Statement ${index + 1}`}
            autoFocus={index === 0 && cell.text === ''}
            problem={problem}
            onFocus={onFocus}
          />
        </Suspense>
      </div>
      <div className="sql-bar">
        {isRunning ? (
          <Button icon={Square} onClick={onStop}>
            Stop
          </Button>
        ) : (
          <Button icon={Play} onClick={onRun} disabled={cell.text.trim() === ''} title="Ctrl Enter">
            Run
          </Button>
        )}
        <Button look="ghost" icon={ListTree} onClick={onExplain} disabled={cell.text.trim() === '' || isRunning}>
          Explain
        </Button>
        {cell.began !== undefined && <SlowNote since={cell.began} />}
        {isStale && !isRunning && <span className="muted small">changed since it was run</span>}
        <span className="spring" />
        <CopyButton text={cell.text} label="Copy the statement" />
        <IconButton icon={ArrowUp} label="Move up" onClick={() => onMove(-1)} disabled={index === 0} />
        <IconButton icon={ArrowDown} label="Move down" onClick={() => onMove(1)} disabled={isLast} />
        <IconButton icon={Trash2} label="Remove this cell" onClick={onRemove} disabled={isOnly && cell.text === ''} />
      </div>
      {error && <ErrorBox error={error} query={cell.ran} />}
      {answer && (
        <div className={isRunning ? 'is-dimmed' : ''}>
          <Result answer={answer} utc={utc} name={`statement ${index + 1}`} />
        </div>
      )}
    </section>
  );
}

// A notebook: cells of SQL, PromQL and text, each with what it gave. It is in the address, so a link shares it; saved ones
// stay in this browser, files go anywhere.

import { useNavigate, useSearch } from '@tanstack/react-router';
import { Play, Plus, Square } from 'lucide-react';
import { useCallback, useEffect, useRef, useState } from 'react';
import { queryInstant, queryRange } from '../api/prometheus';
import { runSql } from '../api/sql';
import { PageHead } from '../components/Shell';
import { type Cell, CellView } from '../components/sql/CellView';
import { NotebookTools } from '../components/sql/NotebookTools';
import { Schema } from '../components/sql/Schema';
import { Button } from '../components/ui';
import { type CellKind, type CellSpec, MOST_CELLS, parseCells, type StoredCell, storedCells } from '../lib/notebook';
import { niceStep, resolveRange } from '../lib/time';
import { useRange } from '../state/clock';
import { usePageKeys } from '../state/keys';
import { useNotebooks } from '../state/notebooks';
import { aligned } from '../state/queries';
import '../style/sql.css';

const STARTERS: { kind?: CellKind; what: string; text: string }[] = [
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
  {
    kind: 'promql',
    what: 'PromQL: processor time of each node',
    text: 'sum by (instance) (rate(process_cpu_seconds_total[1m]))',
  },
];

let keys = 0;
const cellOf = (spec: CellSpec): Cell => ({ ...spec, key: keys++ });
const blank = (kind: CellKind = 'sql', text = ''): Cell => cellOf({ kind, text });
const cellsOf = (stored: StoredCell[]): Cell[] => (stored.length > 0 ? parseCells(stored).map(cellOf) : [blank()]);
/** As links have them: what is the same is written the same. */
const kept = (cells: CellSpec[]): StoredCell[] => storedCells(parseCells(storedCells(cells)));

const EXPLAIN = 'EXPLAIN ANALYZE\n';
/** Series of a cell of PromQL at most. */
const MOST_ASKED = 10_000;

/** An error of an explained statement, with the line as its author counts. */
function shifted(error: Error): Error {
  error.message = error.message.replace(/\(line (\d+), /, (_, line) => `(line ${Math.max(1, Number(line) - 1)}, `);
  return error;
}

export default function Sql() {
  const search = useSearch({ from: '/sql' });
  const navigate = useNavigate({ from: '/sql' });
  const time = useRange();
  const [cells, setCells] = useState<Cell[]>(() => cellsOf(search.c ?? useNotebooks.getState().draft));
  const latest = useRef(cells);
  latest.current = cells;
  const running = useRef(new Map<number, AbortController>());
  const [all, setAll] = useState<AbortController | null>(null);
  const insert = useRef<((text: string) => void) | null>(null);

  /** Answers may arrive meanwhile: a change is made to what is there then. */
  const alter = (how: (old: Cell[]) => Cell[]) => {
    latest.current = how(latest.current);
    setCells(how);
  };
  const put = useCallback(
    (key: number, part: Partial<Cell>) => setCells((old) => old.map((c) => (c.key === key ? { ...c, ...part } : c))),
    [],
  );
  const known = useRef(JSON.stringify(search.c ?? []));
  /** The address says what was run; what is only written is kept as a draft. */
  const show = (list: Cell[], name = search.name, replace = false) => {
    const stored = kept(list);
    known.current = JSON.stringify(stored);
    useNotebooks.getState().keep(stored);
    void navigate({
      search: (old) => ({ ...old, c: stored.length > 0 ? stored : undefined, name }),
      replace,
      resetScroll: false,
    });
  };

  const when = useRef(time);
  when.current = time;
  const run = useCallback(
    async (key: number, explain = false) => {
      const cell = latest.current.find((c) => c.key === key);
      if (!cell || cell.kind === 'text' || cell.text.trim() === '') return;
      const { kind, text } = cell;
      running.current.get(key)?.abort();
      const asked = new AbortController();
      running.current.set(key, asked);
      put(key, { began: performance.now() });
      const explains = explain && !/^\s*explain\b/i.test(text);
      const sent = explains ? EXPLAIN + text : text;
      try {
        const done = { error: undefined, ran: text, sent, began: undefined };
        if (kind === 'sql') {
          const answer = await runSql(sent, asked.signal);
          put(key, { ...done, answer });
          return;
        }
        const range = resolveRange(when.current.text, Date.now(), when.current.zone);
        if (cell.instant) {
          const instant = { query: text, time: range.to, limit: MOST_ASKED };
          const answer = await queryInstant(instant, asked.signal);
          put(key, { ...done, prom: { asked: { instant }, answer } });
        } else {
          const step = niceStep(range, Math.max(200, Math.min(1000, Math.floor((window.innerWidth - 400) / 2))));
          const asking = { query: text, ...aligned(range, step), step, limit: MOST_ASKED };
          const answer = await queryRange(asking, asked.signal);
          put(key, { ...done, prom: { asked: { range: asking }, answer } });
        }
      } catch (error) {
        if (running.current.get(key) !== asked) return;
        const failure = explains ? shifted(error as Error) : (error as Error);
        put(key, {
          began: undefined,
          ...(asked.signal.aborted ? {} : { answer: undefined, prom: undefined, error: failure, ran: text }),
        });
      } finally {
        if (running.current.get(key) === asked) running.current.delete(key);
      }
    },
    [put],
  );
  const runAll = useCallback(async () => {
    const going = new AbortController();
    setAll((old) => {
      old?.abort();
      return going;
    });
    for (const cell of latest.current) {
      if (going.signal.aborted) break;
      await run(cell.key);
    }
    setAll((old) => (old === going ? null : old));
  }, [run]);
  const stopAll = () => {
    all?.abort();
    setAll(null);
    for (const one of running.current.values()) one.abort();
  };

  // A link shows what it shares: its cells are run, one after the other.
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
    const next = cellsOf(JSON.parse(asked) as StoredCell[]);
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
  const draft = JSON.stringify(kept(cells));
  useEffect(() => {
    // A link that is only looked at does not take the place of what somebody was writing.
    if (draft !== known.current) useNotebooks.getState().keep(JSON.parse(draft) as StoredCell[]);
  }, [draft]);

  // PromQL is asked over the range of the page: when that moves, it is asked again.
  const moved = `${time.range.from}-${time.range.to}`;
  const stood = useRef(moved);
  useEffect(() => {
    if (stood.current === moved) return;
    stood.current = moved;
    for (const cell of latest.current) if (cell.kind === 'promql' && cell.ran !== undefined) void run(cell.key);
  }, [moved, run]);

  const isFull = cells.length >= MOST_CELLS;
  const add = (cell: Cell, after = cells.length - 1) => {
    if (!isFull) alter((old) => old.toSpliced(after + 1, 0, cell));
  };
  /** Where the address has the notebook, it has it in its new form, too. */
  const arrange = (how: (old: Cell[]) => Cell[]) => {
    alter(how);
    if (search.c) show(latest.current, search.name, true);
  };
  const change = (cell: Cell, part: Partial<Cell>, isView: boolean) => {
    alter((old) => old.map((c) => (c.key === cell.key ? { ...c, ...part } : c)));
    // A text that is done is what running is to a query.
    if (isView && (search.c || part.isEdited === false)) show(latest.current, search.name, true);
    if (part.instant !== undefined && cell.ran !== undefined) void run(cell.key);
  };
  const runCell = (key: number, explain = false) => {
    show(cells);
    void run(key, explain);
  };
  usePageKeys([{ keys: 'n', label: 'New cell of SQL', run: () => add({ ...blank(), isEdited: true }) }]);

  const isEmpty = cells.every((cell) => cell.text.trim() === '');
  const isAsking = cells.some((cell) => cell.kind !== 'text' && cell.text.trim() !== '');
  return (
    <div className="page sql">
      <PageHead
        title={search.name ? `SQL: ${search.name}` : 'SQL'}
        time={cells.some((cell) => cell.kind === 'promql')}
      />
      <div className="sql-main">
        <Schema
          onInsert={(text, isTable) => {
            const only = cells.length === 1 && isEmpty && cells[0]?.kind === 'sql' ? cells[0] : undefined;
            if (isTable && only) put(only.key, { text: `SELECT *\nFROM ${text}\nLIMIT 100` });
            else if (insert.current) insert.current(text);
            else add(blank('sql', isTable ? `SELECT *\nFROM ${text}\nLIMIT 100` : text));
          }}
        />
        <div className="sql-cells">
          <div className="filter-bar">
            {all ? (
              <Button icon={Square} onClick={stopAll}>
                Stop all
              </Button>
            ) : (
              <Button
                look="primary"
                icon={Play}
                disabled={!isAsking}
                onClick={() => {
                  show(cells);
                  void runAll();
                }}
              >
                Run all
              </Button>
            )}
            <span className="sql-add" role="group" aria-label="Add a cell">
              {ADDED.map(({ kind, label }) => (
                <Button
                  key={kind}
                  icon={Plus}
                  title={`Add a cell of ${label}`}
                  disabled={isFull}
                  onClick={() => add({ ...blank(kind), isEdited: true })}
                >
                  {label}
                </Button>
              ))}
            </span>
            <span className="spring" />
            <NotebookTools
              name={search.name}
              zone={time.zone}
              cells={() => kept(cells)}
              onOpen={({ name, cells: c }) => void navigate({ search: (old) => ({ ...old, c, name }) })}
              onSaved={(name) => show(cells, name)}
            />
          </div>
          {cells.map((cell, i) => (
            <CellView
              key={cell.key}
              cell={cell}
              index={i}
              zone={time.zone}
              isLast={i === cells.length - 1}
              isOnly={cells.length === 1}
              isFull={isFull}
              onChange={(part, isView = false) => change(cell, part, isView)}
              onRun={() => runCell(cell.key)}
              onExplain={() => runCell(cell.key, true)}
              onStop={() => running.current.get(cell.key)?.abort()}
              onMove={(by) => arrange((old) => old.toSpliced(i, 1).toSpliced(i + by, 0, old[i]!))}
              onDuplicate={() => {
                const { kind, text, view, chart, instant } = cell;
                const copy = cellOf({ kind, text, view, chart, instant });
                arrange((old) => old.toSpliced(i + 1, 0, copy));
              }}
              onRemove={() => {
                running.current.get(cell.key)?.abort();
                const empty = blank();
                arrange((old) => (old.length > 1 ? old.filter((c) => c.key !== cell.key) : [empty]));
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
                Cells of PromQL and of text stand beside those of SQL.
              </p>
              <ul className="starters">
                {STARTERS.map(({ kind, what, text }) => (
                  <li key={what}>
                    <button
                      type="button"
                      onClick={() => {
                        const begun = blank(kind, text);
                        alter(() => [begun]);
                        show([begun]);
                        void run(begun.key);
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

const ADDED: { kind: CellKind; label: string }[] = [
  { kind: 'sql', label: 'SQL' },
  { kind: 'promql', label: 'PromQL' },
  { kind: 'text', label: 'Text' },
];

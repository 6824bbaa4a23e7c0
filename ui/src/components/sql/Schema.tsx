// What can be asked about: tables, and the columns of those that are opened.

import { useQuery } from '@tanstack/react-query';
import { ChevronDown, ChevronRight } from 'lucide-react';
import { useState } from 'react';
import { sqlColumns, sqlTables, type TableName } from '../../api/sql';
import { identifier, tableText } from '../../lib/sqltable';
import { currentTenant } from '../../state/prefs';
import { FilteredOut } from '../Filtered';
import { ErrorBox, Skeleton } from '../states';
import { Input } from '../ui';
import '../../style/facets.css';

/** Tables that are listed; more is a reason to type. */
const SHOWN = 300;
/** Not metrics, and first. */
const OWN = ['metrics', 'histograms', 'exemplars', 'logs', 'spans', 'span_events', 'traces'];

export function Schema({ onInsert }: { onInsert: (text: string, isTable: boolean) => void }) {
  const [find, setFind] = useState('');
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set(['metrics']));
  const tables = useQuery({
    queryKey: ['sql-tables', currentTenant()],
    queryFn: ({ signal }) => sqlTables(signal),
    staleTime: 30_000,
  });
  const words = find.toLowerCase().split(/\s+/).filter(Boolean);
  const found = (tables.data ?? []).filter((t) => words.every((word) => tableText(t).toLowerCase().includes(word)));
  const own = OWN.flatMap((name) => found.filter((t) => t.schema === 'public' && t.name === name));
  const groups: [string, TableName[]][] = [
    ['Everything', own],
    ['The cluster', found.filter((t) => t.schema !== 'public')],
    ['Metrics', found.filter((t) => t.schema === 'public' && !own.includes(t))],
  ];
  return (
    <aside className="facets sql-schema" aria-label="Tables">
      <Input
        aria-label="Find a table"
        placeholder="Find a table"
        value={find}
        onChange={(e) => setFind(e.target.value)}
      />
      {tables.error ? (
        <ErrorBox error={tables.error} onRetry={() => void tables.refetch()} />
      ) : !tables.data ? (
        <Skeleton rows={8} />
      ) : (
        groups.map(([title, list]) =>
          list.length === 0 ? null : (
            <section key={title}>
              <h2 className="muted">{title}</h2>
              <ul>
                {list.slice(0, SHOWN).map((table) => {
                  const text = tableText(table);
                  const isOpen = open.has(text);
                  const Glyph = isOpen ? ChevronDown : ChevronRight;
                  return (
                    <li key={text}>
                      <div className="facet-head">
                        <button
                          type="button"
                          aria-expanded={isOpen}
                          aria-label={`Columns of ${text}`}
                          className="sql-open"
                          onClick={() =>
                            setOpen((old) => {
                              const next = new Set(old);
                              if (!next.delete(text)) next.add(text);
                              return next;
                            })
                          }
                        >
                          <Glyph size={12} aria-hidden />
                        </button>
                        <button
                          type="button"
                          className="sql-name"
                          title={`Write ${text}`}
                          onClick={() => onInsert(text, true)}
                        >
                          <bdi className="clip">{text}</bdi>
                        </button>
                      </div>
                      {isOpen && <Columns table={text} onInsert={(name) => onInsert(name, false)} />}
                    </li>
                  );
                })}
                {list.length > SHOWN && <li className="cap-note">{list.length - SHOWN} more: type a part of a name</li>}
              </ul>
            </section>
          ),
        )
      )}
      {tables.data && found.length === 0 && (
        <FilteredOut
          small
          what="tables"
          of={tables.data.length}
          filters={[{ name: 'the words', value: find, onClear: () => setFind('') }]}
        />
      )}
    </aside>
  );
}

function Columns({ table, onInsert }: { table: string; onInsert: (name: string) => void }) {
  const columns = useQuery({
    queryKey: ['sql-columns', currentTenant(), table],
    queryFn: ({ signal }) => sqlColumns(table, signal),
    staleTime: 30_000,
  });
  if (columns.error) return <p className="critical small">{columns.error.message}</p>;
  if (!columns.data) return <Skeleton rows={2} />;
  return (
    <ul className="facet-values">
      {columns.data.map(({ name, type }) => (
        <li key={name}>
          <button
            type="button"
            className="facet-value"
            title={`Write ${name}`}
            onClick={() => onInsert(identifier(name))}
          >
            <bdi className="clip">{name}</bdi>
            <span className="small">{type}</span>
          </button>
        </li>
      ))}
    </ul>
  );
}

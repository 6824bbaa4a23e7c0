// The editor of SQL: the dialect's colours and words, tables and columns by the server, a mark where an error is.

import type { Completion, CompletionContext, CompletionResult } from '@codemirror/autocomplete';
import { PostgreSQL, sql } from '@codemirror/lang-sql';
import { lintKeymap } from '@codemirror/lint';
import { EditorState } from '@codemirror/state';
import { type EditorView, keymap } from '@codemirror/view';
import { useEffect, useRef, useState } from 'react';
import { sqlColumns, sqlTables } from '../api/sql';
import { identifier, tableText } from '../lib/sqltable';
import { CodeEditor, type EditorProps, type Language } from './CodeEditor';
import { type Problem, useProblem } from './editorProblem';

/** What was asked lately is not asked again with every key. */
const KEPT_MS = 60_000;
const answers = new Map<string, { at: number; answer: Promise<unknown> }>();

function kept<T>(key: string, ask: () => Promise<T>): Promise<T> {
  const known = answers.get(key);
  if (known && Date.now() - known.at < KEPT_MS) return known.answer as Promise<T>;
  const answer = ask();
  answers.set(key, { at: Date.now(), answer });
  // What failed is asked anew.
  answer.catch(() => answers.delete(key));
  return answer;
}

/** Tables that a statement names, with what they are called in it. */
function namedTables(text: string): { table: string; alias: string }[] {
  const NAME = '(?:"(?:[^"]|"")+"|[A-Za-z_][\\w]*)';
  const found = text.matchAll(
    new RegExp(`\\b(?:from|join)\\s+(${NAME}(?:\\.${NAME})?)(?:\\s+(?:as\\s+)?(${NAME}))?`, 'gi'),
  );
  return [...found]
    .slice(0, 8)
    .map(([, table, alias]) => ({ table: table!, alias: alias ?? table!.split('.').at(-1)! }));
}

async function complete(context: CompletionContext): Promise<CompletionResult | null> {
  const word = context.matchBefore(/(?:[\w"]+\.)?["\w:]*/);
  if (!word || (word.from === word.to && !context.explicit)) return null;
  const text = context.state.doc.toString();
  const dot = word.text.lastIndexOf('.');
  const owner = dot > 0 ? word.text.slice(0, dot) : null;
  try {
    const tables = await kept('tables', () => sqlTables());
    const options: Completion[] = [];
    if (owner === null) {
      for (const table of tables)
        options.push({
          label: tableText(table),
          detail: table.schema === 'system' ? 'the cluster' : 'table',
          boost: -1,
        });
    } else {
      for (const { schema, name } of tables)
        if (schema === owner) options.push({ label: identifier(name), detail: schema });
    }
    for (const { table, alias } of namedTables(text)) {
      if (owner !== null && owner !== alias && owner !== table) continue;
      const columns = await kept(`columns ${table}`, () => sqlColumns(table)).catch(() => []);
      for (const { name, type } of columns) options.push({ label: identifier(name), detail: type, boost: 2 });
    }
    return {
      from: owner === null ? word.from : word.from + dot + 1,
      options: options.slice(0, 5000),
      validFor: /^["\w:]*$/,
    };
  } catch {
    return null;
  }
}

const DATA = [{ autocomplete: complete }];

export default function SqlEditor({
  problem,
  onFocus,
  ...props
}: EditorProps & {
  problem: Problem | null;
  /** Takes the way to write at the cursor. */
  onFocus: (insert: (text: string) => void) => void;
}) {
  const [view, setView] = useState<EditorView | null>(null);
  const told = useRef(onFocus);
  told.current = onFocus;

  useProblem(view, problem);

  useEffect(() => {
    if (!view) return;
    const insert = (text: string) => {
      view.dispatch(view.state.replaceSelection(text));
      view.focus();
    };
    const focused = () => told.current(insert);
    view.dom.addEventListener('focusin', focused);
    if (view.hasFocus) focused();
    return () => view.dom.removeEventListener('focusin', focused);
  }, [view]);

  const language = (): Language => ({
    extensions: [
      sql({ dialect: PostgreSQL, upperCaseKeywords: true }),
      EditorState.languageData.of(() => DATA),
      keymap.of(lintKeymap),
    ],
  });
  return (
    <CodeEditor
      {...props}
      language={language}
      hint="SQL, such as  SELECT * FROM metrics LIMIT 10"
      testId="sql-editor"
      onView={setView}
    />
  );
}

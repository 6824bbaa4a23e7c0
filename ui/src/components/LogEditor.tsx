// The editor of a search of logs: colours by the page's own tokens, fields and values by the server.

import type { CompletionContext, CompletionResult } from '@codemirror/autocomplete';
import { EditorState } from '@codemirror/state';
import { type LogQuestion, logFields, topValues } from '../api/logs';
import { completionAt, nameText, tokens, valueText } from '../lib/logsearch';
import { formatCount } from '../lib/units';
import { CodeEditor, type EditorProps, type Language } from './CodeEditor';
import { tokenColours } from './editorColours';

const colours = tokenColours(tokens);

/** Names that are no attributes and have a meaning of their own. */
const BUILT_IN = ['level', 'trace_id', 'span_id', 'body', 'severity_text', 'event_name', 'scope.name'];

const VALUES_SHOWN = 50;

async function complete(
  context: CompletionContext,
  range: () => { from: number; to: number },
): Promise<CompletionResult | null> {
  const at = completionAt(context.state.doc.toString(), context.pos);
  if (!at || (at.kind === 'field' && at.typed === '' && !context.explicit)) return null;
  const question: LogQuestion = { query: '', ...range() };
  const asked = new AbortController();
  context.addEventListener('abort', () => asked.abort());
  try {
    if (at.kind === 'field') {
      const { data } = await logFields(question, asked.signal);
      const known = new Map(data.fields.map((field) => [field.name, field]));
      const names = [...new Set([...BUILT_IN, ...known.keys()])];
      return {
        from: at.from,
        options: names.map((name) => {
          const field = known.get(name);
          const text = `${nameText(name)}:`;
          return {
            label: text,
            detail: field ? `${field.types.join(', ')} · ${formatCount(field.count)}` : 'not in this time',
            boost: field ? 1 : 0,
          };
        }),
        validFor: /^[\w.]*$/,
      };
    }
    const begins = at.typed === '' ? '' : `${nameText(at.field)}:${at.typed.replace(/[^\p{L}\p{N}_.]/gu, '\\$&')}*`;
    const { data } = await topValues({ ...question, query: begins }, at.field, VALUES_SHOWN, asked.signal);
    return {
      from: at.from,
      options: data.values.flatMap(({ fields, count }) => {
        const value = Object.values(fields)[0];
        if (value === null || value === undefined || value.length > 500) return [];
        const text = valueText(value);
        return [{ label: text, detail: formatCount(count), boost: count / Math.max(1, data.total) }];
      }),
      validFor: data.distinct <= VALUES_SHOWN ? /^"?[\w.\s/-]*$/ : undefined,
    };
  } catch {
    // A completion that can not be had is none; the search itself will say what is wrong.
    return null;
  }
}

export default function LogEditor({
  range,
  ...props
}: EditorProps & {
  /** Of which time fields and values are offered. */
  range: () => { from: number; to: number };
}) {
  const language = (): Language => {
    // One for the life of the editor: a new source would be asked anew with every look.
    const data = [{ autocomplete: (context: CompletionContext) => complete(context, range) }];
    return { extensions: [colours, EditorState.languageData.of(() => data)] };
  };
  return (
    <CodeEditor
      {...props}
      language={language}
      enterRuns
      hint={'Search, such as  level>=warn "connection refused" -debug'}
      testId="log-editor"
    />
  );
}

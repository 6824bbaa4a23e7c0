// The editor of TraceQL: colours by the page's own tokens, fields and values by the server, a mark where an error is.

import type { Completion, CompletionContext, CompletionResult } from '@codemirror/autocomplete';
import { lintKeymap } from '@codemirror/lint';
import { EditorState } from '@codemirror/state';
import { type EditorView, keymap } from '@codemirror/view';
import { useState } from 'react';
import { traceTags, traceTagValues } from '../api/traces';
import { KINDS, STATES } from '../lib/traceform';
import { attribute, completionAt, FUNCTIONS, INTRINSICS, quoted, tokens } from '../lib/traceql';
import { CodeEditor, type EditorProps, type Language } from './CodeEditor';
import { tokenColours } from './editorColours';
import { type Problem, useProblem } from './editorProblem';

const colours = tokenColours(tokens);

const VALUES_SHOWN = 200;

/** The field of values, as the server names it; those of roots are the names and services of spans. */
const asked = (field: string): string => (field === 'rootServiceName' ? 'resource.service.name' : field);

async function complete(
  context: CompletionContext,
  range: () => { from: number; to: number },
): Promise<CompletionResult | null> {
  const at = completionAt(context.state.doc.toString(), context.pos);
  if (!at || (at.kind !== 'value' && at.typed === '' && !context.explicit)) return null;
  const gone = new AbortController();
  context.addEventListener('abort', () => gone.abort());
  try {
    if (at.kind === 'stage') {
      const options = FUNCTIONS.map((name) => ({ label: `${name}(`, detail: 'stage' }));
      return { from: at.from, options, validFor: /^[\w(]*$/ };
    }
    if (at.kind === 'field') {
      const options: Completion[] = INTRINSICS.map((name) => ({ label: name, detail: 'of every span' }));
      const { scopes } = await traceTags(range(), gone.signal);
      for (const { name: scope, tags } of scopes) {
        if (scope !== 'span' && scope !== 'resource' && scope !== 'instrumentation') continue;
        for (const tag of tags) options.push({ label: attribute(scope, tag), detail: scope, boost: 1 });
      }
      return { from: at.from, options, validFor: /^[\w.:]*$/ };
    }
    if (at.field === 'kind') return { from: at.from, options: KINDS.map((label) => ({ label })), validFor: /^\w*$/ };
    if (at.field === 'status') return { from: at.from, options: STATES.map((label) => ({ label })), validFor: /^\w*$/ };
    const { tagValues } = await traceTagValues(asked(at.field), range(), gone.signal);
    const options = tagValues
      .filter(({ value }) => value.length <= 500)
      .slice(0, 5000)
      .map(({ type, value }) => ({ label: type === 'string' ? quoted(value) : value, detail: type }));
    return { from: at.from, options, validFor: options.length <= VALUES_SHOWN ? /^"?[\w.\s/:-]*$/ : undefined };
  } catch {
    // A completion that can not be had is none; the search itself will say what is wrong.
    return null;
  }
}

export default function TraceqlEditor({
  range,
  problem,
  ...props
}: EditorProps & {
  /** Of which time fields and values are offered. */
  range: () => { from: number; to: number };
  problem: Problem | null;
}) {
  const [view, setView] = useState<EditorView | null>(null);
  useProblem(view, problem);
  const language = (): Language => {
    // One for the life of the editor: a new source would be asked anew with every look.
    const data = [{ autocomplete: (context: CompletionContext) => complete(context, range) }];
    return { extensions: [colours, EditorState.languageData.of(() => data), keymap.of(lintKeymap)] };
  };
  return (
    <CodeEditor
      {...props}
      language={language}
      enterRuns
      hint={'TraceQL, such as  { span.http.status_code >= 500 && duration > 1s }, or a trace id'}
      testId="traceql-editor"
      onView={setView}
    />
  );
}

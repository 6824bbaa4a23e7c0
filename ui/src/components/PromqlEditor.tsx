// The editor of PromQL: colours, completion from the server, marks at errors. Loaded only where it is shown.

import { lintKeymap } from '@codemirror/lint';
import { keymap } from '@codemirror/view';
import { type CompleteStrategy, newCompleteStrategy, PromQLExtension } from '@prometheus-io/codemirror-promql';
import { completionClient } from '../lib/completion';
import { CodeEditor, type EditorProps, type Language } from './CodeEditor';

/** Metric names are asked for anew as the word grows: the server answers only so many at once. */
function asking(inner: CompleteStrategy): CompleteStrategy {
  return {
    promQL: async (context) => {
      const result = await inner.promQL(context);
      return result && result.options.length >= 100 ? { ...result, validFor: undefined } : result;
    },
    destroy: () => inner.destroy?.(),
  };
}

function promql(): Language {
  const made = new PromQLExtension().setComplete({
    completeStrategy: asking(newCompleteStrategy({ remote: completionClient(), maxMetricsMetadata: 10_000 })),
  });
  return { extensions: [made.asExtension(), keymap.of(lintKeymap)], destroy: () => made.destroy() };
}

export default function PromqlEditor(props: EditorProps) {
  return (
    <CodeEditor
      {...props}
      language={promql}
      hint="PromQL, such as  sum by (job) (rate(http_requests_total[5m]))"
      testId="promql-editor"
    />
  );
}

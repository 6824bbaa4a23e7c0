// The editor of PromQL: its colours at once; completion from the server and marks at errors when somebody writes. Loaded
// only where it is shown.

import { LRLanguage } from '@codemirror/language';
import { parser } from '@prometheus-io/lezer-promql';
import { CodeEditor, type EditorProps, type Language } from './CodeEditor';

const promql = LRLanguage.define({
  parser: parser.configure({ top: 'PromQL' }),
  languageData: {
    closeBrackets: { brackets: ['(', '[', '{', "'", '"', '`'] },
    commentTokens: { line: '#' },
  },
});

function language(): Language {
  let destroy: (() => void) | undefined;
  return {
    extensions: [promql],
    writing: async () => {
      const made = (await import('./promqlWriting')).promqlWriting(promql);
      destroy = made.destroy;
      return made.extension;
    },
    destroy: () => destroy?.(),
  };
}

export default function PromqlEditor(props: EditorProps) {
  return (
    <CodeEditor
      {...props}
      language={language}
      hint="PromQL, such as  sum by (job) (rate(http_requests_total[5m]))"
      testId="promql-editor"
    />
  );
}

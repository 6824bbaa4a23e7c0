// A mark in an editor where the server says that an error is.

import { type Diagnostic, setDiagnostics } from '@codemirror/lint';
import type { EditorView } from '@codemirror/view';
import { useEffect } from 'react';

/** What is wrong, and where, with the text as it was run. */
export interface Problem {
  line: number;
  column: number;
  message: string;
}

/** Marks the word at the place of an error. */
export function useProblem(view: EditorView | null, problem: Problem | null): void {
  useEffect(() => {
    if (!view) return;
    const marks: Diagnostic[] = [];
    if (problem && problem.line <= view.state.doc.lines) {
      const line = view.state.doc.line(problem.line);
      const from = Math.min(line.from + problem.column - 1, line.to);
      const word = /^"[^"]*"|^\w+/.exec(view.state.doc.sliceString(from, line.to))?.[0].length ?? 1;
      marks.push({ from, to: Math.min(from + word, line.to), severity: 'error', message: problem.message });
    }
    view.dispatch(setDiagnostics(view.state, marks));
  }, [problem, view]);
}

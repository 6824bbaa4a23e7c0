// Colours of an editor by the page's own tokens of a language.

import { type Extension, RangeSetBuilder } from '@codemirror/state';
import { Decoration, type DecorationSet, type EditorView, ViewPlugin, type ViewUpdate } from '@codemirror/view';

const MARKS = new Map<string, Decoration>(
  ['field', 'operator', 'number', 'text', 'regex', 'keyword', 'mark'].map((kind) => [
    kind,
    Decoration.mark({ class: `token-${kind}` }),
  ]),
);

/** Colours of tokens. A search is a line or two: all of it is coloured with every change. */
export function tokenColours(tokens: (text: string) => { kind: string; from: number; to: number }[]): Extension {
  const coloured = (view: EditorView): DecorationSet => {
    const parts = new RangeSetBuilder<Decoration>();
    for (const { kind, from, to } of tokens(view.state.doc.toString())) {
      const mark = MARKS.get(kind);
      if (mark) parts.add(from, to, mark);
    }
    return parts.finish();
  };
  return ViewPlugin.fromClass(
    class {
      decorations: DecorationSet;
      constructor(view: EditorView) {
        this.decorations = coloured(view);
      }
      update(update: ViewUpdate) {
        if (update.docChanged) this.decorations = coloured(update.view);
      }
    },
    { decorations: (plugin) => plugin.decorations },
  );
}

// The editor of PromQL: colours, completion from the server, marks at errors. Loaded only where it is shown.

import {
  autocompletion,
  closeBrackets,
  closeBracketsKeymap,
  completionKeymap,
  startCompletion,
} from '@codemirror/autocomplete';
import { defaultKeymap, history, historyKeymap } from '@codemirror/commands';
import { bracketMatching, HighlightStyle, syntaxHighlighting } from '@codemirror/language';
import { lintKeymap } from '@codemirror/lint';
import { EditorState, Prec } from '@codemirror/state';
import { EditorView, keymap, placeholder } from '@codemirror/view';
import { tags } from '@lezer/highlight';
import { type CompleteStrategy, newCompleteStrategy, PromQLExtension } from '@prometheus-io/codemirror-promql';
import { useEffect, useRef } from 'react';
import { completionClient } from '../lib/completion';

const highlight = HighlightStyle.define([
  { tag: tags.variableName, color: 'var(--syntax-name)' },
  { tag: [tags.function(tags.variableName), tags.keyword, tags.operatorKeyword], color: 'var(--syntax-function)' },
  { tag: tags.modifier, color: 'var(--syntax-function)' },
  { tag: tags.labelName, color: 'var(--syntax-label)' },
  { tag: tags.string, color: 'var(--syntax-string)' },
  { tag: [tags.number, tags.integer], color: 'var(--syntax-number)' },
  { tag: [tags.arithmeticOperator, tags.compareOperator, tags.operator], color: 'var(--syntax-operator)' },
  { tag: tags.paren, color: 'var(--text)' },
  { tag: [tags.comment, tags.lineComment], color: 'var(--muted)', fontStyle: 'italic' },
  { tag: tags.invalid, color: 'var(--critical)' },
]);

const look = EditorView.theme({
  '&': { backgroundColor: 'transparent', color: 'var(--text)', fontSize: '12.5px' },
  '.cm-content': {
    fontFamily: 'var(--font-mono)',
    fontVariantLigatures: 'none',
    padding: '6px 0',
    caretColor: 'var(--text)',
  },
  '.cm-line': { padding: '0 8px', lineHeight: '1.55' },
  '&.cm-focused': { outline: 'none' },
  '.cm-cursor': { borderLeftColor: 'var(--text)' },
  '&.cm-focused .cm-selectionBackground, .cm-selectionBackground': { backgroundColor: 'var(--accent-soft) !important' },
  '.cm-matchingBracket': { backgroundColor: 'var(--accent-soft) !important', color: 'inherit' },
  '.cm-placeholder': { color: 'var(--muted)' },
  '.cm-tooltip': {
    backgroundColor: 'var(--panel)',
    border: '1px solid var(--line)',
    borderRadius: '6px',
    boxShadow: 'var(--shadow)',
    color: 'var(--text)',
    overflow: 'hidden',
  },
  '.cm-tooltip-autocomplete > ul': { fontFamily: 'var(--font-mono)', fontSize: '12px', maxHeight: '300px' },
  '.cm-tooltip-autocomplete > ul > li': { padding: '3px 8px', lineHeight: '1.5' },
  '.cm-tooltip-autocomplete > ul > li[aria-selected]': { backgroundColor: 'var(--accent-soft)', color: 'var(--text)' },
  '.cm-completionDetail': { color: 'var(--muted)', fontStyle: 'normal', marginLeft: '12px' },
  '.cm-completionMatchedText': { textDecoration: 'none', color: 'var(--accent)', fontWeight: '600' },
  '.cm-completionInfo': { maxWidth: '360px', padding: '8px 10px', fontFamily: 'var(--font-ui)' },
  '.cm-completionIcon': { display: 'none' },
  '.cm-diagnostic': { padding: '6px 10px', borderLeft: '3px solid var(--critical)', fontFamily: 'var(--font-ui)' },
});

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

export interface EditorProps {
  value: string;
  onChange: (value: string) => void;
  onRun: () => void;
  label: string;
  autoFocus?: boolean;
}

export default function PromqlEditor({ value, onChange, onRun, label, autoFocus }: EditorProps) {
  const box = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView | null>(null);
  const told = useRef({ onChange, onRun });
  told.current = { onChange, onRun };

  // biome-ignore lint/correctness/useExhaustiveDependencies: one editor for the life of the component
  useEffect(() => {
    if (!box.current) return;
    const promql = new PromQLExtension().setComplete({
      completeStrategy: asking(newCompleteStrategy({ remote: completionClient(), maxMetricsMetadata: 10_000 })),
    });
    const nonce = document.querySelector<HTMLMetaElement>('meta[name="csp-nonce"]')?.content ?? '';
    const made = new EditorView({
      parent: box.current,
      state: EditorState.create({
        doc: value,
        extensions: [
          EditorView.cspNonce.of(nonce),
          history(),
          bracketMatching(),
          closeBrackets(),
          autocompletion({ icons: false, maxRenderedOptions: 200 }),
          promql.asExtension(),
          syntaxHighlighting(highlight),
          look,
          EditorView.lineWrapping,
          placeholder('PromQL, such as  sum by (job) (rate(http_requests_total[5m]))'),
          EditorView.contentAttributes.of({ 'aria-label': label, spellcheck: 'false', autocapitalize: 'off' }),
          Prec.highest(
            keymap.of([
              {
                key: 'Mod-Enter',
                run: () => {
                  told.current.onRun();
                  return true;
                },
              },
              { key: 'Ctrl-Space', run: startCompletion },
            ]),
          ),
          keymap.of([...closeBracketsKeymap, ...defaultKeymap, ...historyKeymap, ...completionKeymap, ...lintKeymap]),
          EditorView.updateListener.of((update) => {
            if (update.docChanged) told.current.onChange(update.state.doc.toString());
          }),
        ],
      }),
    });
    view.current = made;
    if (autoFocus) made.focus();
    return () => {
      made.destroy();
      promql.destroy();
      view.current = null;
    };
  }, []);

  useEffect(() => {
    const made = view.current;
    if (made && made.state.doc.toString() !== value) {
      made.dispatch({ changes: { from: 0, to: made.state.doc.length, insert: value } });
    }
  }, [value]);

  return <div ref={box} className="promql-editor" data-testid="promql-editor" />;
}

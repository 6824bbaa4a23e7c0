// What all editors share: looks, keys, history, and the way in and out of React. A language adds itself. What helps to
// write, such as completion, is loaded with the first key or click: an editor that is only looked at does without.

import { defaultKeymap, history, historyKeymap } from '@codemirror/commands';
import { bracketMatching, HighlightStyle, syntaxHighlighting } from '@codemirror/language';
import { Compartment, EditorState, type Extension, Prec } from '@codemirror/state';
import { EditorView, keymap, placeholder } from '@codemirror/view';
import { tags } from '@lezer/highlight';
import { useEffect, useRef } from 'react';

const highlight = HighlightStyle.define([
  { tag: tags.variableName, color: 'var(--syntax-name)' },
  { tag: [tags.function(tags.variableName), tags.keyword, tags.operatorKeyword], color: 'var(--syntax-function)' },
  { tag: tags.modifier, color: 'var(--syntax-function)' },
  { tag: [tags.labelName, tags.propertyName], color: 'var(--syntax-label)' },
  { tag: [tags.string, tags.regexp], color: 'var(--syntax-string)' },
  { tag: [tags.number, tags.integer, tags.bool, tags.null], color: 'var(--syntax-number)' },
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

/** What a language brings, for the life of an editor. */
export interface Language {
  extensions: Extension[];
  /** What helps to write in it; asked for once, when somebody is about to. */
  writing?: () => Promise<Extension>;
  destroy?: () => void;
}

export interface EditorProps {
  value: string;
  onChange: (value: string) => void;
  onRun: () => void;
  label: string;
  autoFocus?: boolean;
}

interface CodeEditorProps extends EditorProps {
  /** Called once. */
  language: () => Language;
  hint: string;
  testId: string;
  /** Enter runs, too; Shift-Enter makes a line. */
  enterRuns?: boolean;
  /** The editor, while there is one. */
  onView?: (view: EditorView | null) => void;
}

export function CodeEditor(props: CodeEditorProps) {
  const box = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView | null>(null);
  const told = useRef(props);
  told.current = props;

  useEffect(() => {
    if (!box.current) return;
    const first = told.current;
    const language = first.language();
    const nonce = document.querySelector<HTMLMetaElement>('meta[name="csp-nonce"]')?.content ?? '';
    const run = () => {
      told.current.onRun();
      return true;
    };
    const help = new Compartment();
    let [isAsked, isGone] = [false, false];
    /** The key that was pressed last: whoever types a word, or asks for it, has its completion when it is there. */
    let last: KeyboardEvent | null = null;
    const helped = async (event: Event) => {
      if (event instanceof KeyboardEvent) last = event;
      if (isAsked) return;
      isAsked = true;
      try {
        const [{ writingHelp, startCompletion }, own] = await Promise.all([
          import('./editorWriting'),
          language.writing?.(),
        ]);
        if (isGone) return;
        made.dispatch({ effects: help.reconfigure([writingHelp(!first.enterRuns), own ?? []]) });
        const isWord = last !== null && /^[\w:.]$/.test(last.key) && !last.ctrlKey && !last.metaKey;
        const isCalled = last?.ctrlKey && last.key === ' ';
        if (made.hasFocus && (isWord || isCalled)) startCompletion(made);
      } catch {
        // Without the file, say while the server is away, one can write all the same.
        isAsked = false;
      }
    };
    const made = new EditorView({
      parent: box.current,
      state: EditorState.create({
        doc: first.value,
        extensions: [
          EditorView.cspNonce.of(nonce),
          history(),
          bracketMatching(),
          help.of([]),
          language.extensions,
          syntaxHighlighting(highlight),
          look,
          EditorView.lineWrapping,
          placeholder(first.hint),
          EditorView.contentAttributes.of({ 'aria-label': first.label, spellcheck: 'false', autocapitalize: 'off' }),
          Prec.highest(keymap.of([{ key: 'Mod-Enter', run }, ...(first.enterRuns ? [{ key: 'Enter', run }] : [])])),
          keymap.of([...defaultKeymap, ...historyKeymap]),
          EditorView.domEventHandlers({
            keydown: (event) => void helped(event),
            pointerdown: (event) => void helped(event),
          }),
          EditorView.updateListener.of((update) => {
            if (update.docChanged) told.current.onChange(update.state.doc.toString());
          }),
        ],
      }),
    });
    view.current = made;
    first.onView?.(made);
    if (first.autoFocus) made.focus();
    return () => {
      told.current.onView?.(null);
      isGone = true;
      made.destroy();
      language.destroy?.();
      view.current = null;
    };
  }, []);

  const { value } = props;
  useEffect(() => {
    const made = view.current;
    if (made && made.state.doc.toString() !== value) {
      made.dispatch({ changes: { from: 0, to: made.state.doc.length, insert: value } });
    }
  }, [value]);

  return <div ref={box} className="code-editor" data-testid={props.testId} />;
}

// What helps to write in any editor: completion, and brackets that close.

import { autocompletion, closeBrackets, closeBracketsKeymap, startCompletion } from '@codemirror/autocomplete';
import type { Extension } from '@codemirror/state';
import { keymap } from '@codemirror/view';

export { startCompletion };

export const writingHelp = (selectOnOpen: boolean): Extension => [
  closeBrackets(),
  autocompletion({ icons: false, maxRenderedOptions: 200, selectOnOpen }),
  keymap.of([...closeBracketsKeymap, { key: 'Ctrl-Space', run: startCompletion }]),
];

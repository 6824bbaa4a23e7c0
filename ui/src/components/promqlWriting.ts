// What helps to write PromQL: completion from the server, marks at errors.

import type { LRLanguage } from '@codemirror/language';
import { lintKeymap } from '@codemirror/lint';
import type { Extension } from '@codemirror/state';
import { keymap } from '@codemirror/view';
import { type CompleteStrategy, newCompleteStrategy } from '@prometheus-io/codemirror-promql/dist/esm/complete';
import { newLintStrategy, promQLLinter } from '@prometheus-io/codemirror-promql/dist/esm/lint';
import { completionClient } from '../lib/completion';

export function promqlWriting(language: LRLanguage): { extension: Extension; destroy: () => void } {
  const strategy: CompleteStrategy = newCompleteStrategy({ remote: completionClient(), maxMetricsMetadata: 10_000 });
  const lint = newLintStrategy();
  return {
    extension: [
      language.data.of({
        // Metric names are asked for anew as the word grows: the server answers only so many at once.
        autocomplete: async (context: Parameters<CompleteStrategy['promQL']>[0]) => {
          const result = await strategy.promQL(context);
          return result && result.options.length >= 100 ? { ...result, validFor: undefined } : result;
        },
      }),
      promQLLinter(lint.promQL, lint),
      keymap.of(lintKeymap),
    ],
    destroy: () => strategy.destroy?.(),
  };
}

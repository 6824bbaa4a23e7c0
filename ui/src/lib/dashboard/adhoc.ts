// Puts matchers into every selector of an expression, wherever it stands. Apart from the rest, since the grammar of PromQL
// is large and only dashboards with filters need it.

import { LabelMatchers, parser, VectorSelector } from '@prometheus-io/lezer-promql';
import { type Filter, filtersText } from './filters';

export function withFilters(expression: string, filters: Filter[]): string {
  if (filters.length === 0) return expression;
  const text = filtersText(filters);
  const edits: { at: number; text: string }[] = [];
  parser.parse(expression).iterate({
    enter: (node) => {
      if (node.type.id !== VectorSelector) return;
      const list = node.node.getChild(LabelMatchers);
      if (!list) edits.push({ at: node.to, text: `{${text}}` });
      else {
        // Before what stands there: behind it may be a comma or a comment.
        const isEmpty = expression.slice(list.from + 1, list.to - 1).trim() === '';
        edits.push({ at: list.from + 1, text: isEmpty ? text : `${text}, ` });
      }
    },
  });
  let out = '';
  let at = 0;
  for (const edit of edits.sort((a, b) => a.at - b.at)) {
    out += expression.slice(at, edit.at) + edit.text;
    at = edit.at;
  }
  return out + expression.slice(at);
}

// A query of a panel as it is asked: with variables, macros and filters in.

import type { Range } from '../time';
import type { QueryLanguage } from './model';
import { expandMacros } from './sqlmacros';
import { interpolate, type Scope } from './variables';

/** Puts the filters of a dashboard into an expression of PromQL. */
export type Rewrite = (expression: string) => string;

export function askedText(
  language: QueryLanguage,
  text: string,
  scope: Scope,
  time: { range: Range; step: number },
  rewrite: Rewrite,
): string {
  switch (language) {
    case 'promql':
      return rewrite(interpolate(text, scope));
    case 'search':
      return interpolate(text, scope, 'search');
    case 'sql':
      return interpolate(expandMacros(text, time.range, time.step), scope, 'sql');
    default:
      return interpolate(text, scope);
  }
}

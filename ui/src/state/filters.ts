// The filters of a dashboard, as what puts them into expressions.

import { useEffect, useMemo, useState } from 'react';
import type { Rewrite } from '../lib/dashboard/asked';
import { parseFilters } from '../lib/dashboard/filters';
import type { Chosen } from '../lib/dashboard/variables';

const asIs: Rewrite = (expression) => expression;

type Adhoc = typeof import('../lib/dashboard/adhoc');

/** Null while what is needed for it is on its way; the error, where it does not come. */
export function useRewrite(chosen: Chosen[]): { rewrite: Rewrite | null; error: Error | null } {
  const text = chosen
    .filter((c) => c.variable.kind === 'filters')
    .map((c) => c.values[0] ?? '')
    .filter((one) => one.trim() !== '')
    .join(', ');
  const [adhoc, setAdhoc] = useState<Adhoc | null>(null);
  const [error, setError] = useState<Error | null>(null);
  const isNeeded = text !== '' && adhoc === null;
  useEffect(() => {
    if (!isNeeded) return;
    let gone = false;
    import('../lib/dashboard/adhoc').then(
      (loaded) => gone || setAdhoc(loaded),
      (failed: unknown) => gone || setError(failed instanceof Error ? failed : new Error(String(failed))),
    );
    return () => {
      gone = true;
    };
  }, [isNeeded]);
  const rewrite = useMemo<Rewrite | null>(() => {
    if (text === '') return asIs;
    const filters = parseFilters(text);
    return adhoc && ((expression) => adhoc.withFilters(expression, filters));
  }, [text, adhoc]);
  return { rewrite, error };
}

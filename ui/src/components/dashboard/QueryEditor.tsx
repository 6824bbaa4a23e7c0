// The editor of a query in its language, with colours and completion.

import { lazy, Suspense } from 'react';
import type { QueryLanguage } from '../../lib/dashboard/model';
import type { Range } from '../../lib/time';

const PromqlEditor = lazy(() => import('../PromqlEditor'));
const LogEditor = lazy(() => import('../LogEditor'));
const TraceqlEditor = lazy(() => import('../TraceqlEditor'));
const SqlEditor = lazy(() => import('../SqlEditor'));

const nothing = () => {};

export function QueryEditor({
  language,
  range,
  ...props
}: {
  language: QueryLanguage;
  /** Of which time fields and values are offered. */
  range: Range;
  value: string;
  onChange: (value: string) => void;
  onRun: () => void;
  label: string;
}) {
  const times = () => ({ from: Math.floor(range.from), to: Math.ceil(range.to) });
  return (
    <Suspense fallback={<div className="code-editor is-loading" />}>
      {language === 'promql' ? (
        <PromqlEditor {...props} />
      ) : language === 'search' ? (
        <LogEditor {...props} range={times} />
      ) : language === 'traceql' ? (
        <TraceqlEditor {...props} range={times} problem={null} />
      ) : language === 'sql' ? (
        <SqlEditor {...props} problem={null} onFocus={nothing} />
      ) : (
        <textarea
          className="input mono"
          rows={2}
          aria-label={props.label}
          placeholder={'LogQL, such as  {service_name="shop"} |= "error"'}
          spellCheck={false}
          value={props.value}
          onChange={(e) => props.onChange(e.target.value)}
          onKeyDown={(e) => {
            if (e.key !== 'Enter' || !(e.ctrlKey || e.metaKey)) return;
            e.preventDefault();
            props.onRun();
          }}
        />
      )}
    </Suspense>
  );
}

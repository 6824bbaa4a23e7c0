// What stands where data would: it loads, there is none and why, it failed and what may be done.

import { AlertTriangle, Ban, CircleSlash, Clock, RefreshCw, Unplug } from 'lucide-react';
import { lazy, type ReactNode, Suspense, useEffect, useState } from 'react';
import { ApiError } from '../api/client';
import { Button, type Icon } from './ui';

const TraceLink = lazy(() => import('./TraceLink'));

/** Nothing for the first moments, so that quick answers do not flicker; then a calm outline of what comes. */
export function Skeleton({ rows = 4, height }: { rows?: number; height?: number }) {
  const [shown, setShown] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setShown(true), 300);
    return () => clearTimeout(timer);
  }, []);
  return (
    <div className="skeleton" role="status" aria-label="Loading" style={height ? { height } : undefined}>
      {shown && Array.from({ length: rows }, (_, i) => <span key={i} style={{ width: `${92 - ((i * 37) % 45)}%` }} />)}
    </div>
  );
}

/** A query that takes long: how long already, and a way out. */
export function SlowNote({ since, onCancel }: { since: number; onCancel?: () => void }) {
  const [now, setNow] = useState(() => performance.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(performance.now()), 200);
    return () => clearInterval(timer);
  }, []);
  const seconds = (now - since) / 1000;
  if (seconds < 1) return null;
  return (
    <div className="slow-note" role="status">
      <Clock size={13} aria-hidden />
      <span className="tab-num">running for {seconds.toFixed(1)} s</span>
      {onCancel && (
        <Button look="ghost" onClick={onCancel}>
          Stop
        </Button>
      )}
    </div>
  );
}

export function Empty({
  icon: Glyph = CircleSlash,
  title,
  children,
  actions,
}: {
  icon?: Icon;
  title: string;
  children?: ReactNode;
  actions?: ReactNode;
}) {
  return (
    <div className="empty">
      <Glyph size={22} aria-hidden />
      <strong>{title}</strong>
      {children && <div className="empty-text">{children}</div>}
      {actions && <div className="empty-actions">{actions}</div>}
    </div>
  );
}

const TITLES: Record<string, [string, Icon]> = {
  bad_data: ['The request is not valid', Ban],
  not_found: ['There is no such thing here', CircleSlash],
  conflict: ['Somebody was faster', AlertTriangle],
  forbidden: ['This is not allowed', Ban],
  execution: ['The query can not be answered', Ban],
  too_many_requests: ['The server has too much to do', Clock],
  unavailable: ['A part of the cluster does not answer', Unplug],
  timeout: ['It took too long', Clock],
  canceled: ['The query was stopped', CircleSlash],
  internal: ['The server failed', AlertTriangle],
  network: ['No connection to the server', Unplug],
};

/** Where in a query an error is: `2:23: ...`, `... (line 2, column 23)`, or `... at line 2, col 23: ...`. */
export function errorPosition(message: string): { line: number; column: number } | null {
  const found =
    /(?:^|\s)(\d+):(\d+): /.exec(message) ??
    /\(line (\d+), column (\d+)\)/.exec(message) ??
    /\bat line (\d+), col (\d+): /.exec(message);
  return found ? { line: Number(found[1]), column: Number(found[2]) } : null;
}

export function ErrorBox({ error, query, onRetry }: { error: unknown; query?: string; onRetry?: () => void }) {
  const known = error instanceof ApiError ? error : null;
  const message = error instanceof Error ? error.message : String(error);
  const [title, Glyph] = TITLES[known?.type ?? 'internal'] ?? TITLES.internal!;
  const place = query ? errorPosition(message) : null;
  const line = place && query ? query.split('\n')[place.line - 1] : undefined;
  return (
    <div className="error-box" role="alert">
      <Glyph size={18} aria-hidden />
      <div className="error-main">
        <strong>{title}</strong>
        <p>{message}</p>
        {line !== undefined && place && line.length < 2000 && (
          <pre>
            {line}
            {'\n'}
            {' '.repeat(Math.max(0, place.column - 1))}
            <span className="critical">^</span>
          </pre>
        )}
        <p className="small muted">
          {known && known.status > 0 ? `HTTP ${known.status} · ${known.type}` : 'no answer'}
          {known?.isPassing ? ' · the same request may succeed in a moment' : ''}
          {known?.trace && (
            <>
              {' · '}
              <Suspense fallback={<code>{known.trace}</code>}>
                <TraceLink id={known.trace} />
              </Suspense>
            </>
          )}
        </p>
      </div>
      {onRetry && (
        <Button icon={RefreshCw} onClick={onRetry}>
          Try again
        </Button>
      )}
    </div>
  );
}

/** Warnings and remarks of an answer, whole: a hidden warning is a wrong chart. */
export function RemarkList({ warnings, infos }: { warnings: string[]; infos: string[] }) {
  if (warnings.length === 0 && infos.length === 0) return null;
  const rows = [...warnings.map((text) => ['warn', text] as const), ...infos.map((text) => ['info', text] as const)];
  return (
    <ul className="remarks">
      {rows.map(([kind, text], i) => (
        <li key={i} className={`remark-${kind}`}>
          <span aria-hidden>{kind === 'warn' ? '▲' : '◆'}</span>
          <span>
            <b>{kind === 'warn' ? 'Warning' : 'Note'}</b> {text}
          </span>
        </li>
      ))}
    </ul>
  );
}

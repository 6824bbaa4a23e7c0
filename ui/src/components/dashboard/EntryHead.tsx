// The head of an entry of a dashboard's settings: opens and closes it, shows what it asks, and has its buttons.

import type { ReactNode } from 'react';

export function EntryHead({
  open,
  onToggle,
  title,
  asked,
  children,
}: {
  open: boolean;
  onToggle: () => void;
  title: ReactNode;
  asked: string | undefined;
  /** Its buttons. */
  children: ReactNode;
}) {
  return (
    <div className="variable-head">
      <button type="button" className="btn btn-ghost" aria-expanded={open} onClick={onToggle}>
        {title}
      </button>
      <span className="muted small clip">{asked}</span>
      {children}
    </div>
  );
}

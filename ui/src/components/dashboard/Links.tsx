// Links as they are drawn: of a dashboard above its panels, of a panel in its head, of a value where it stands. Pages of
// this server are gone to without a new start; others open apart.

import { useQuery } from '@tanstack/react-query';
import { useNavigate, useRouterState } from '@tanstack/react-router';
import { ChevronDown, ExternalLink, LayoutDashboard, Link2, X } from 'lucide-react';
import { type ReactNode, useEffect } from 'react';
import { address } from '../../api/client';
import { listDashboards } from '../../api/dashboards';
import {
  type LinkContext,
  type LinkedValue,
  linkTitle,
  type Target,
  taggedBy,
  targetOf,
} from '../../lib/dashboard/links';
import type { DashboardLink, Link } from '../../lib/dashboard/model';
import { currentTenant } from '../../state/prefs';
import { Popover } from '../floating';

/** An address as an anchor. */
export function Anchor({
  target,
  newTab,
  className,
  title,
  children,
}: {
  target: Target;
  newTab?: boolean;
  className?: string;
  title?: string;
  children: ReactNode;
}) {
  const navigate = useNavigate();
  const here = useRouterState({ select: (s) => s.location.pathname });
  if (!target.isOwn)
    return (
      <a href={target.href} target="_blank" rel="noreferrer noopener" className={className} title={title}>
        {children}
      </a>
    );
  const path = target.href.startsWith('?') ? here + target.href : target.href;
  return (
    <a
      href={address(path)}
      target={newTab ? '_blank' : undefined}
      className={className}
      title={title}
      onClick={(event) => {
        if (newTab || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
        event.preventDefault();
        void navigate({ href: path });
      }}
    >
      {children}
    </a>
  );
}

/** A link that can be followed. */
interface Found {
  title: string;
  target: Target;
  newTab: boolean | undefined;
}

const followed = (links: Link[] | undefined, context: LinkContext, value?: LinkedValue): Found[] =>
  (links ?? []).flatMap((link) => {
    const target = targetOf(link, context, value);
    return target ? [{ title: linkTitle(link, context.scope), target, newTab: link.newTab }] : [];
  });

/** Something of which links lead away: one by a click on it, of several one is chosen. */
export function Linked({
  links,
  context,
  value,
  className = '',
  icon = false,
  children,
}: {
  links: Link[] | undefined;
  context: LinkContext;
  value: LinkedValue;
  className?: string;
  /** Shows a sign instead of what stands there, which is read out only; without links nothing. */
  icon?: boolean;
  children: ReactNode;
}) {
  const found = followed(links, context, value);
  const first = found[0];
  if (!first) return icon ? null : children;
  const shown = icon ? (
    <>
      <Link2 size={12} aria-hidden />
      <span className="sr-only">{children}</span>
    </>
  ) : (
    children
  );
  if (found.length === 1)
    return (
      <Anchor target={first.target} newTab={first.newTab} className={`value-link ${className}`} title={first.title}>
        {shown}
      </Anchor>
    );
  return (
    <Popover
      label="Links"
      align="start"
      trigger={
        <button type="button" className={`value-link ${className}`}>
          {shown}
        </button>
      }
    >
      <LinkMenu found={found} />
    </Popover>
  );
}

function LinkMenu({ found }: { found: Found[] }) {
  return (
    <ul className="link-menu">
      {found.map(({ title, target, newTab }, i) => (
        <li key={i}>
          <Anchor target={target} newTab={newTab}>
            {!target.isOwn && <ExternalLink size={12} aria-hidden />}
            <bdi>{title.slice(0, 200)}</bdi>
          </Anchor>
        </li>
      ))}
    </ul>
  );
}

/** Over a plot, the links of the value that was clicked. */
export function PickedLinks({
  area,
  pick,
  time,
  links,
  context,
  value,
  onClose,
}: {
  /** Left, top, width and height of the plot, as styles say it. */
  area: string;
  pick: { left: number; top: number };
  time: string;
  links: Link[] | undefined;
  context: LinkContext;
  value: LinkedValue;
  onClose: () => void;
}) {
  const [left, top, width] = area.split(',');
  const found = followed(links, context, value);
  const isRight = pick.left > Number.parseFloat(width ?? '') / 2;
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => event.key === 'Escape' && onClose();
    document.addEventListener('keydown', onKey);
    return () => document.removeEventListener('keydown', onKey);
  }, [onClose]);
  if (found.length === 0) return null;
  return (
    <div
      className="picked-links"
      role="dialog"
      aria-label={`Links of ${value.name ?? 'the value'}`}
      style={{
        top: `calc(${top} + ${Math.max(0, pick.top - 8)}px)`,
        left: `calc(${left} + ${pick.left}px)`,
        transform: isRight ? 'translateX(calc(-100% - 10px))' : 'translateX(10px)',
      }}
    >
      <p className="small muted">
        {time} · <bdi>{(value.name ?? '').slice(0, 80)}</bdi> <b className="tab-num">{value.text}</b>
      </p>
      <LinkMenu found={found} />
      <button type="button" className="icon-btn" aria-label="Close" onClick={onClose}>
        <X size={13} aria-hidden />
      </button>
    </div>
  );
}

/** The links of a panel, in its head. */
export function PanelLinks({ links, context }: { links: Link[] | undefined; context: LinkContext }) {
  const found = followed(links, context);
  const first = found[0];
  if (!first) return null;
  if (found.length === 1)
    return (
      <Anchor target={first.target} newTab={first.newTab} className="panel-link" title={first.title}>
        <Link2 size={13} aria-hidden />
        <span className="sr-only">{first.title}</span>
      </Anchor>
    );
  return (
    <Popover
      label="Links of the panel"
      trigger={
        <button type="button" className="panel-link" aria-label="Links of the panel">
          <Link2 size={13} aria-hidden />
        </button>
      }
    >
      <LinkMenu found={found} />
    </Popover>
  );
}

export function DashboardLinks({
  links,
  context,
  uid,
}: {
  links: DashboardLink[] | undefined;
  context: LinkContext;
  /** Of the dashboard that they stand on. */
  uid: string;
}) {
  if (!links || links.length === 0) return null;
  return (
    <nav className="dashboard-links" aria-label="Links">
      {links.map((link, i) => {
        if (link.tags) return <Tagged key={i} link={link} context={context} uid={uid} />;
        const target = targetOf(link, context);
        const title = linkTitle(link, context.scope);
        if (!target)
          return (
            <span
              key={i}
              className="muted"
              title="This address can not be followed: it is neither of this server nor of the web."
            >
              <bdi>{title}</bdi>
            </span>
          );
        return (
          <Anchor key={i} target={target} newTab={link.newTab}>
            {!target.isOwn && <ExternalLink size={12} aria-hidden />}
            <bdi>{title}</bdi>
          </Anchor>
        );
      })}
    </nav>
  );
}

/** All dashboards with some tags. */
function Tagged({ link, context, uid }: { link: DashboardLink; context: LinkContext; uid: string }) {
  const stored = useQuery({
    queryKey: ['dashboards', currentTenant()],
    queryFn: ({ signal }) => listDashboards(signal),
  });
  const rows = taggedBy(link, stored.data?.data ?? [], uid).sort((a, b) => a.title.localeCompare(b.title));
  const found = rows.slice(0, 100).flatMap((row) => {
    const target = targetOf({ ...link, url: `/dashboards/${encodeURIComponent(row.uid)}` }, context);
    return target ? [{ title: row.title, target, newTab: link.newTab }] : [];
  });
  const title = linkTitle({ ...link, url: (link.tags ?? []).join(', ') || 'Dashboards' }, context.scope);
  if (stored.error)
    return (
      <span className="critical small" role="alert">
        ■ {title}: {stored.error.message}
      </span>
    );
  if (!link.asMenu)
    return found.map((one, i) => (
      <Anchor key={i} target={one.target} newTab={one.newTab}>
        <LayoutDashboard size={12} aria-hidden />
        <bdi>{one.title}</bdi>
      </Anchor>
    ));
  return (
    <Popover
      label={title}
      align="start"
      trigger={
        <button type="button" className="btn btn-ghost">
          <bdi>{title}</bdi>
          <ChevronDown size={13} aria-hidden />
        </button>
      }
    >
      {found.length === 0 ? (
        <p className="link-menu muted small">{stored.data ? 'no other dashboard has these tags' : 'loading…'}</p>
      ) : (
        <LinkMenu found={found} />
      )}
    </Popover>
  );
}

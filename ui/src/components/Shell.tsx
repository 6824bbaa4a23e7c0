// The frame of every page: rail, top bar, and what the page puts between them.

import { Link, Outlet, useLocation, useNavigate, useSearch } from '@tanstack/react-router';
import { Keyboard, Moon, PanelLeftClose, PanelLeftOpen, Rows3, Rows4, Search, Sun, SunMoon } from 'lucide-react';
import { lazy, type ReactNode, Suspense, useEffect, useMemo, useState } from 'react';
import { createPortal } from 'react-dom';
import { setPageZone } from '../lib/time';
import { frozen, type GlobalSearch, shifted, useAutoRefresh, useClock, useRange } from '../state/clock';
import { type KeyBinding, useKeys, usePageBindings } from '../state/keys';
import { useConnection } from '../state/live';
import { SCREENS } from '../state/nav';
import { setTenant, shownTheme, usePrefs } from '../state/prefs';
import { IconButton } from './ui';

const Palette = lazy(() => import('./Palette'));
const tools = () => import('./TopTools');
const TenantPicker = lazy(async () => ({ default: (await tools()).TenantPicker }));
const ShareButton = lazy(async () => ({ default: (await tools()).ShareButton }));
const KeyHelp = lazy(async () => ({ default: (await tools()).KeyHelp }));
const PageTime = lazy(async () => ({ default: (await tools()).PageTime }));

function Logo() {
  return (
    <svg viewBox="0 0 32 32" width="22" height="22" aria-hidden="true" className="logo">
      <path d="M13 28h6l-1-14h-4z" fill="currentColor" />
      <path d="M12 11h8v3h-8z" className="logo-lamp" />
      <path d="M16 6l5 5H11z" fill="currentColor" />
      <path d="M10.500 12.500L2.500 9.500v6zM21.500 12.500l8-3v6z" className="logo-beam" />
    </svg>
  );
}

export function Shell() {
  const prefs = usePrefs();
  const search = useSearch({ strict: false }) as GlobalSearch;
  const navigate = useNavigate();
  const range = useRange();
  const [palette, setPalette] = useState(false);
  const [help, setHelp] = useState(false);
  const location = useLocation();
  const ofPage = usePageBindings((s) => s.bindings);

  setTenant(search.tenant);
  setPageZone(range.zone);

  useEffect(() => {
    const apply = () => {
      document.documentElement.dataset.theme = shownTheme(prefs.theme);
      document.documentElement.dataset.density = prefs.density;
    };
    apply();
    const media = matchMedia('(prefers-color-scheme: light)');
    media.addEventListener('change', apply);
    return () => media.removeEventListener('change', apply);
  }, [prefs.theme, prefs.density]);

  const bindings = useMemo<KeyBinding[]>(
    () => [
      { keys: 'mod+k', label: 'Go anywhere', run: () => setPalette(true) },
      { keys: '/', label: 'Go anywhere', run: () => setPalette(true) },
      { keys: '?', label: 'This list', run: () => setHelp(true) },
      ...SCREENS.map((screen) => ({
        keys: `g ${screen.key}`,
        label: `Go to ${screen.label}`,
        run: () => void navigate({ to: screen.to }),
      })),
      { keys: 'r', label: 'Refresh', run: () => useClock.getState().tick() },
      { keys: 't f', label: 'Freeze the time range', run: () => range.setRange(frozen(range)) },
      { keys: 't z', label: 'Zoom out in time', run: () => range.zoom(shifted(range, 'out')) },
      { keys: 't ←', label: 'Earlier', run: () => range.zoom(shifted(range, 'back')) },
      { keys: 't →', label: 'Later', run: () => range.zoom(shifted(range, 'forward')) },
      {
        keys: 'd t',
        label: 'Dark or light',
        run: () => prefs.set({ theme: shownTheme(prefs.theme) === 'dark' ? 'light' : 'dark' }),
      },
      ...ofPage,
    ],
    [navigate, range, prefs, ofPage],
  );
  useKeys(bindings);

  if (search.kiosk) {
    return (
      <main className="main kiosk" id="main">
        <Outlet />
      </main>
    );
  }
  const active = SCREENS.find((s) =>
    s.to === '/'
      ? location.pathname === '/'
      : location.pathname.startsWith(s.to) || (s.also && location.pathname.startsWith(s.also)),
  );
  return (
    <div className={`shell ${prefs.railOpen ? 'rail-open' : ''}`}>
      <a className="skip" href="#main">
        Skip to the content
      </a>
      <nav className="rail" aria-label="Screens">
        <Link to="/" className="rail-brand" aria-label="Pharos, home">
          <Logo />
          <span className="rail-text">Pharos</span>
        </Link>
        <ul>
          {SCREENS.map((screen) => (
            <li key={screen.to}>
              <Link
                to={screen.to}
                className={`rail-link ${active === screen ? 'is-active' : ''}`}
                aria-current={active === screen ? 'page' : undefined}
                aria-label={screen.label}
                data-tip={screen.label}
              >
                <screen.icon size={17} aria-hidden />
                <span className="rail-text">{screen.label}</span>
              </Link>
            </li>
          ))}
        </ul>
        <div className="rail-foot">
          <button
            type="button"
            className="rail-link"
            onClick={() => setHelp(true)}
            aria-label="Keys"
            data-tip="Keys (?)"
          >
            <Keyboard size={17} aria-hidden />
            <span className="rail-text">Keys</span>
          </button>
          <button
            type="button"
            className="rail-link"
            onClick={() => prefs.set({ railOpen: !prefs.railOpen })}
            aria-label={prefs.railOpen ? 'Fold the bar' : 'Unfold the bar'}
            data-tip={prefs.railOpen ? 'Fold' : 'Unfold'}
          >
            {prefs.railOpen ? <PanelLeftClose size={17} aria-hidden /> : <PanelLeftOpen size={17} aria-hidden />}
            <span className="rail-text">Fold</span>
          </button>
        </div>
      </nav>
      <header className="top">
        <div id="top-title" className="top-title" />
        <button type="button" className="search-button" onClick={() => setPalette(true)}>
          <Search size={13} aria-hidden />
          <span>Go to or search metrics</span>
          <kbd>Ctrl K</kbd>
        </button>
        <div className="top-right">
          <div id="top-actions" className="top-actions" />
          <Suspense>
            <TenantPicker tenant={search.tenant} />
            <ShareButton range={range} />
          </Suspense>
          <IconButton
            icon={prefs.density === 'compact' ? Rows4 : Rows3}
            label={prefs.density === 'compact' ? 'Dense tables: make them roomier' : 'Roomy tables: make them denser'}
            onClick={() => prefs.set({ density: prefs.density === 'compact' ? 'roomy' : 'compact' })}
          />
          <ThemeButton />
        </div>
      </header>
      <ConnectionBar />
      <main className="main" id="main" tabIndex={-1}>
        <Outlet />
      </main>
      <Suspense>{palette && <Palette onClose={() => setPalette(false)} bindings={bindings} />}</Suspense>
      <Suspense>{help && <KeyHelp open onClose={() => setHelp(false)} bindings={bindings} />}</Suspense>
    </div>
  );
}

function ThemeButton() {
  const { theme, set } = usePrefs();
  const next = theme === 'system' ? 'dark' : theme === 'dark' ? 'light' : 'system';
  const icon = theme === 'system' ? SunMoon : theme === 'dark' ? Moon : Sun;
  return <IconButton icon={icon} label={`Theme: ${theme}. Next: ${next}`} onClick={() => set({ theme: next })} />;
}

/** Says when the live connection is lost and when it is back; nothing while all is well. */
function ConnectionBar() {
  const { state, attempts } = useConnection();
  if (state !== 'lost') return null;
  return (
    <div className="connection-bar" role="status">
      <span aria-hidden>■</span> The connection to this server is lost; what is shown stands still. Trying again
      {attempts > 1 ? ` (attempt ${attempts})` : ''}…
    </div>
  );
}

/** Puts a page's title and controls into the top bar, and its name into the window's. */
export function PageHead({
  title,
  parent,
  children,
  time = false,
  fallback,
  fallbackRefresh,
}: {
  title: string;
  parent?: ReactNode;
  children?: ReactNode;
  time?: boolean;
  fallback?: { from: string; to: string };
  fallbackRefresh?: string;
}) {
  const [slots, setSlots] = useState<{ title: Element; actions: Element } | null>(null);
  const range = useRange(fallback, fallbackRefresh);
  useAutoRefresh(time ? range.refresh : 'off', range.text);
  useEffect(() => {
    const [titleSlot, actions] = [document.getElementById('top-title'), document.getElementById('top-actions')];
    if (titleSlot && actions) setSlots({ title: titleSlot, actions });
  }, []);
  useEffect(() => {
    document.title = `${title} · Pharos`;
  }, [title]);
  if (!slots) return null;
  return (
    <>
      {createPortal(
        <>
          {parent && <span className="crumb">{parent}</span>}
          <h1>{title}</h1>
        </>,
        slots.title,
      )}
      {createPortal(
        <>
          {children}
          {time && (
            <Suspense>
              <PageTime fallback={fallback} fallbackRefresh={fallbackRefresh} />
            </Suspense>
          )}
        </>,
        slots.actions,
      )}
    </>
  );
}

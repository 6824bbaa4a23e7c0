// Ctrl-K: screens, dashboards, services, metrics, actions and a trace by its id in one list.

import { useQuery } from '@tanstack/react-query';
import { useNavigate } from '@tanstack/react-router';
import { Activity, ChartNoAxesGantt, CornerDownLeft, LayoutDashboard, Waypoints, Zap } from 'lucide-react';
import { useEffect, useId, useMemo, useRef, useState } from 'react';
import { listDashboards } from '../api/dashboards';
import { labelValues } from '../api/prometheus';
import { listServices } from '../api/traces';
import { BUILTIN } from '../dashboards';
import { escapeRegex, quote } from '../lib/labels';
import { visible } from '../lib/logrow';
import { traceIdOf } from '../lib/traceid';
import { useRange } from '../state/clock';
import type { KeyBinding } from '../state/keys';
import { SCREENS } from '../state/nav';
import { currentTenant } from '../state/prefs';
import { Dialog } from './floating';
import type { Icon } from './ui';

interface Entry {
  id: string;
  group: string;
  label: string;
  hint?: string;
  icon: Icon;
  run: () => void;
}

/** Most metrics shown: more is a reason to type on. */
const METRICS_SHOWN = 30;
const SERVICES_SHOWN = 20;
/** Shorter numbers are words, too. */
const ID_DIGITS = 8;

function matches(text: string, words: string[]): boolean {
  const low = text.toLowerCase();
  return words.every((word) => low.includes(word));
}

export default function Palette({ onClose, bindings }: { onClose: () => void; bindings: KeyBinding[] }) {
  const [text, setText] = useState('');
  const [asked, setAsked] = useState('');
  const [at, setAt] = useState(0);
  const navigate = useNavigate();
  const list = useRef<HTMLDivElement>(null);
  const id = useId();

  useEffect(() => {
    const timer = setTimeout(() => setAsked(text.trim()), 120);
    return () => clearTimeout(timer);
  }, [text]);

  const dashboards = useQuery({ queryKey: ['dashboards'], queryFn: ({ signal }) => listDashboards(signal) });
  const metrics = useQuery({
    queryKey: ['palette-metrics', asked],
    enabled: asked.length >= 2,
    queryFn: ({ signal }) => {
      const pattern = asked.split(/\s+/).map(escapeRegex).join('.*');
      return labelValues(
        '__name__',
        { match: [`{__name__=~${quote(`.*(?i:${pattern}).*`)}}`], limit: METRICS_SHOWN },
        signal,
      );
    },
  });

  const { range } = useRange();
  const services = useQuery({
    queryKey: ['palette-services', currentTenant(), range.from, range.to],
    enabled: asked.length >= 2,
    queryFn: ({ signal }) => listServices(range, signal),
    staleTime: 60_000,
  });

  const entries = useMemo<Entry[]>(() => {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const go = (run: () => void) => () => {
      onClose();
      run();
    };
    const all: Entry[] = SCREENS.map((screen) => ({
      id: screen.to,
      group: 'Screens',
      label: screen.label,
      hint: screen.what,
      icon: screen.icon,
      run: go(() => void navigate({ to: screen.to })),
    }));
    for (const row of dashboards.data?.data ?? []) {
      all.push({
        id: `d-${row.uid}`,
        group: 'Dashboards',
        label: row.title,
        hint: row.folder || row.tags.join(', '),
        icon: LayoutDashboard,
        run: go(() => void navigate({ to: '/dashboards/$uid', params: { uid: row.uid } })),
      });
    }
    for (const row of BUILTIN) {
      all.push({
        id: `d-${row.uid}`,
        group: 'Dashboards',
        label: row.title,
        hint: 'built-in',
        icon: LayoutDashboard,
        run: go(() => void navigate({ to: '/dashboards/$uid', params: { uid: row.uid } })),
      });
    }
    for (const binding of bindings.filter((b) => !b.keys.startsWith('g ') && !['mod+k', '/'].includes(b.keys))) {
      all.push({
        id: `k-${binding.keys}`,
        group: 'Actions',
        label: binding.label,
        hint: binding.keys,
        icon: Zap,
        run: go(binding.run),
      });
    }
    for (const { name } of asked.length >= 2 ? (services.data?.data.services ?? []) : []) {
      if (name === '' || !matches(name, words)) continue;
      if (all.filter((entry) => entry.group === 'Services').length >= SERVICES_SHOWN) break;
      all.push({
        id: `s-${name}`,
        group: 'Services',
        label: visible(name.slice(0, 200)),
        icon: Waypoints,
        run: go(() => void navigate({ to: '/services', search: { service: name } })),
      });
    }
    const found = all.filter((entry) => matches(`${entry.group} ${entry.label} ${entry.hint ?? ''}`, words));
    const trace = traceIdOf(text, ID_DIGITS);
    if (trace)
      found.unshift({
        id: 'trace',
        group: 'Traces',
        label: trace.id,
        hint: trace.span ? `span ${trace.span}` : 'open the trace',
        icon: ChartNoAxesGantt,
        run: go(() => void navigate({ to: '/trace/$id', params: { id: trace.id }, search: { span: trace.span } })),
      });
    for (const name of asked.length >= 2 ? (metrics.data?.data ?? []) : []) {
      found.push({
        id: `m-${name}`,
        group: 'Metrics',
        label: name,
        icon: Activity,
        run: go(() => void navigate({ to: '/browse', search: { metric: name } })),
      });
    }
    return found;
  }, [text, asked, dashboards.data, metrics.data, services.data, navigate, onClose, bindings]);

  const current = Math.min(at, entries.length - 1);
  useEffect(() => {
    list.current?.querySelector('[aria-selected="true"]')?.scrollIntoView({ block: 'nearest' });
  });

  return (
    <Dialog open onClose={onClose} title="Go to" width={620}>
      <input
        className="palette-input"
        autoFocus
        role="combobox"
        aria-expanded="true"
        aria-controls={`${id}-list`}
        aria-activedescendant={entries[current] ? `${id}-${current}` : undefined}
        aria-label="Screens, dashboards, services, metrics, actions, a trace's id"
        placeholder="Screens, dashboards, services, metrics, actions, a trace's id"
        spellCheck={false}
        value={text}
        onChange={(event) => {
          setText(event.target.value);
          setAt(0);
        }}
        onKeyDown={(event) => {
          const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
          if (step !== 0 && entries.length > 0) {
            event.preventDefault();
            setAt((current + step + entries.length) % entries.length);
          } else if (event.key === 'Enter') {
            event.preventDefault();
            entries[current]?.run();
          }
        }}
      />
      <div className="palette-list" id={`${id}-list`} role="listbox" aria-label="Found" ref={list}>
        {entries.map((entry, i) => (
          <div key={entry.id}>
            {entries[i - 1]?.group !== entry.group && <div className="palette-group">{entry.group}</div>}
            <div
              id={`${id}-${i}`}
              role="option"
              tabIndex={-1}
              aria-selected={i === current}
              className="palette-row"
              onMouseMove={() => setAt(i)}
              onClick={entry.run}
            >
              <entry.icon size={14} aria-hidden />
              <span className={entry.group === 'Metrics' ? 'mono palette-label' : 'palette-label'}>{entry.label}</span>
              {entry.hint && <span className="muted small">{entry.hint}</span>}
              {i === current && <CornerDownLeft size={12} aria-hidden />}
            </div>
          </div>
        ))}
        {entries.length === 0 && (
          <p className="palette-none muted">
            {metrics.isFetching ? 'Searching metrics…' : `Nothing here is called "${text}"`}
          </p>
        )}
      </div>
    </Dialog>
  );
}

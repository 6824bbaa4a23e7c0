// The choices of a time range: typed ends, quick ones, and whose clocks are read.

import { type FormEvent, type KeyboardEvent, useId, useMemo, useState } from 'react';
import { formatMoment, parseMoment, QUICK_RANGES, type Zone, zoneName, zoneTitle } from '../lib/time';
import { allZones, findZones } from '../lib/zones';
import type { RangeState } from '../state/clock';
import { Button, Field, Input, Segmented } from './ui';
import '../style/time.css';

const ZONES_SHOWN = 50;

export default function TimeForm({ state, onDone }: { state: RangeState; onDone: () => void }) {
  const { zone } = state;
  const written = (text: string, from: Zone, to: Zone): string => {
    const ms = text.includes('now') ? null : parseMoment(text, 0, from);
    return ms === null ? text : formatMoment(ms, to);
  };
  const [from, setFrom] = useState(written(state.text.from, zone, zone));
  const [to, setTo] = useState(written(state.text.to, zone, zone));
  const now = Date.now();
  const [fromMs, toMs] = [parseMoment(from, now, zone), parseMoment(to, now, zone)];
  const wrong =
    fromMs === null || toMs === null ? 'not a time' : fromMs >= toMs ? 'the start must be before the end' : null;
  const apply = (event: FormEvent) => {
    event.preventDefault();
    if (wrong) return;
    const text = (value: string, ms: number | null) => (value.includes('now') ? value.trim() : String(ms));
    state.setRange({ from: text(from, fromMs), to: text(to, toMs) });
    onDone();
  };
  // The same moments, on other clocks.
  const choose = (next: Zone) => {
    setFrom(written(from, zone, next));
    setTo(written(to, zone, next));
    state.setZone(next);
  };
  const hint = (ms: number): string => `${formatMoment(ms, zone)} ${zoneName(zone, ms)}`;
  return (
    <div className="time-form">
      <div className="time-own">
        <form onSubmit={apply}>
          <Field label="From" hint={fromMs === null ? 'now-6h, now/d, 2026-11-28 09:00' : hint(fromMs)}>
            <Input
              value={from}
              onChange={(e) => setFrom(e.target.value)}
              aria-invalid={fromMs === null}
              spellCheck={false}
            />
          </Field>
          <Field label="To" hint={toMs === null ? 'now, 2026-11-28 10:00, 2026-11-28 10:00 +01:00' : hint(toMs)}>
            <Input value={to} onChange={(e) => setTo(e.target.value)} aria-invalid={toMs === null} spellCheck={false} />
          </Field>
          {wrong && <p className="critical small">▲ {wrong}</p>}
          <Button look="primary" type="submit" disabled={wrong !== null}>
            Apply
          </Button>
        </form>
        <ZonePicker zone={zone} at={toMs ?? now} onChoose={choose} />
      </div>
      <ul className="quick-ranges">
        {QUICK_RANGES.map((quick) => (
          <li key={quick.label}>
            <button
              type="button"
              aria-pressed={quick.from === state.text.from && quick.to === state.text.to}
              onClick={() => {
                state.setRange(quick);
                onDone();
              }}
            >
              {quick.label}
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}

/** The browser's, UTC, or any by its name. `at` is when offsets are told of: a zone has two of them in most years. */
function ZonePicker({ zone, at, onChoose }: { zone: Zone; at: number; onChoose: (zone: Zone) => void }) {
  const [find, setFind] = useState('');
  const [active, setActive] = useState(0);
  const id = useId();
  const zones = useMemo(allZones, []);
  const found = useMemo(() => (find.trim() === '' ? [] : findZones(zones, find, at)), [zones, find, at]);
  const shown = found.slice(0, ZONES_SHOWN);
  const isNamed = zone !== 'local' && zone !== 'utc';
  const choose = (next: Zone | undefined) => {
    if (!next) return;
    onChoose(next);
    setFind('');
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
    if (step !== 0 && shown.length > 0) {
      event.preventDefault();
      const next = (active + step + shown.length) % shown.length;
      setActive(next);
      document.getElementById(`${id}-${next}`)?.scrollIntoView({ block: 'nearest' });
    } else if (event.key === 'Enter') {
      event.preventDefault();
      choose(shown[active]);
    } else if (event.key === 'Escape' && find !== '') {
      event.stopPropagation();
      setFind('');
    }
  };
  return (
    <div className="time-zone">
      <span className="field-label">Time zone</span>
      <Segmented
        label="Time zone"
        value={zone}
        choices={[
          { id: 'local', label: `Browser (${zoneName('local', at)})` },
          { id: 'utc', label: 'UTC' },
          ...(isNamed ? [{ id: zone, label: zoneTitle(zone, at).split(',')[0]! }] : []),
        ]}
        onChange={onChoose}
      />
      <Input
        role="combobox"
        aria-label="Find a time zone"
        aria-expanded={shown.length > 0}
        aria-controls={id}
        aria-activedescendant={shown.length > 0 ? `${id}-${active}` : undefined}
        placeholder="Any other: a city, +5:30, 14:05"
        value={find}
        onChange={(event) => {
          setFind(event.target.value);
          setActive(0);
        }}
        onKeyDown={onKeyDown}
        spellCheck={false}
      />
      {shown.length > 0 ? (
        <div className="zone-list" role="listbox" id={id} aria-label="Time zones" tabIndex={-1}>
          {shown.map((name, i) => (
            <div
              key={name}
              id={`${id}-${i}`}
              role="option"
              tabIndex={-1}
              aria-selected={i === active}
              onPointerEnter={() => setActive(i)}
              onClick={() => choose(name)}
            >
              <span className="clip">{name === 'utc' ? 'UTC' : name.replaceAll('_', ' ')}</span>
              <span className="muted tab-num">
                {zoneName(name, at)} · {formatMoment(at, name).slice(11, 16)}
              </span>
            </div>
          ))}
        </div>
      ) : (
        find.trim() !== '' && (
          <p className="muted small" role="status">
            No time zone is called so.{' '}
            <Button look="ghost" onClick={() => setFind('')}>
              Clear
            </Button>
          </p>
        )
      )}
      {found.length > shown.length && <p className="muted small">{found.length - shown.length} more: type on</p>}
    </div>
  );
}

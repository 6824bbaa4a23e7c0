// The time range of the page: quick choices, typed ends, zone, freeze, zoom and auto refresh.

import { CalendarClock, ChevronLeft, ChevronRight, RefreshCw, Snowflake, ZoomOut } from 'lucide-react';
import { type FormEvent, useState } from 'react';
import { describeRange, formatMoment, isRelative, parseMoment, QUICK_RANGES, zoneName } from '../lib/time';
import { frozen, type RangeState, REFRESH_CHOICES, shifted, useClock } from '../state/clock';
import { usePrefs } from '../state/prefs';
import { Popover } from './floating';
import { Button, Field, IconButton, Input, Segmented, Select } from './ui';

export function TimePicker({ state, fetching }: { state: RangeState; fetching: boolean }) {
  const [open, setOpen] = useState(false);
  const relative = isRelative(state.text);
  return (
    <div className="time-picker">
      <IconButton icon={ChevronLeft} label="Earlier (t ←)" onClick={() => state.zoom(shifted(state, 'back'))} />
      <Popover
        label="Time range"
        open={open}
        onOpenChange={setOpen}
        trigger={
          <button type="button" className="btn btn-plain time-button" data-testid="time-range">
            <CalendarClock size={14} aria-hidden />
            <span className="tab-num">{describeRange(state.text, state.utc)}</span>
            <span className="muted small">{zoneName(state.utc, state.range.to)}</span>
          </button>
        }
      >
        <TimeForm state={state} onDone={() => setOpen(false)} />
      </Popover>
      <IconButton icon={ChevronRight} label="Later (t →)" onClick={() => state.zoom(shifted(state, 'forward'))} />
      <IconButton icon={ZoomOut} label="Zoom out (t z)" onClick={() => state.zoom(shifted(state, 'out'))} />
      <IconButton
        icon={Snowflake}
        label={relative ? 'Freeze: turn the range into fixed times (t f)' : 'The range is fixed'}
        active={!relative}
        disabled={!relative}
        onClick={() => state.setRange(frozen(state))}
      />
      <span className="join">
        <IconButton
          icon={RefreshCw}
          label="Refresh (r)"
          className={fetching ? 'is-busy' : ''}
          onClick={() => useClock.getState().tick()}
        />
        <Select
          aria-label="Refresh by itself"
          value={state.refresh}
          onChange={(event) => state.setRefresh(event.target.value)}
        >
          {[...new Set([...REFRESH_CHOICES, state.refresh])].map((choice) => (
            <option key={choice} value={choice}>
              {choice === 'off' ? 'Off' : choice}
            </option>
          ))}
        </Select>
      </span>
    </div>
  );
}

function TimeForm({ state, onDone }: { state: RangeState; onDone: () => void }) {
  const show = (text: string): string => {
    if (text.includes('now')) return text;
    const ms = parseMoment(text, 0, state.utc);
    return ms === null ? text : formatMoment(ms, state.utc);
  };
  const [from, setFrom] = useState(show(state.text.from));
  const [to, setTo] = useState(show(state.text.to));
  const prefs = usePrefs();
  const now = Date.now();
  const [fromMs, toMs] = [parseMoment(from, now, state.utc), parseMoment(to, now, state.utc)];
  const wrong =
    fromMs === null || toMs === null ? 'not a time' : fromMs >= toMs ? 'the start must be before the end' : null;
  const apply = (event: FormEvent) => {
    event.preventDefault();
    if (wrong) return;
    const text = (value: string, ms: number | null) => (value.includes('now') ? value.trim() : String(ms));
    state.setRange({ from: text(from, fromMs), to: text(to, toMs) });
    onDone();
  };
  return (
    <div className="time-form">
      <form onSubmit={apply}>
        <Field
          label="From"
          hint={fromMs === null ? 'now-6h, now/d, 2026-11-28 09:00' : formatMoment(fromMs, state.utc)}
        >
          <Input
            value={from}
            onChange={(e) => setFrom(e.target.value)}
            aria-invalid={fromMs === null}
            spellCheck={false}
          />
        </Field>
        <Field label="To" hint={toMs === null ? 'now, 2026-11-28 10:00' : formatMoment(toMs, state.utc)}>
          <Input value={to} onChange={(e) => setTo(e.target.value)} aria-invalid={toMs === null} spellCheck={false} />
        </Field>
        {wrong && <p className="critical small">▲ {wrong}</p>}
        <Button look="primary" type="submit" disabled={wrong !== null}>
          Apply
        </Button>
        <div className="time-zone">
          <span className="field-label">Time zone</span>
          <Segmented
            label="Time zone"
            value={prefs.utc ? 'utc' : 'local'}
            choices={[
              { id: 'local', label: `Browser (${zoneName(false)})` },
              { id: 'utc', label: 'UTC' },
            ]}
            onChange={(id) => prefs.set({ utc: id === 'utc' })}
          />
        </div>
      </form>
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

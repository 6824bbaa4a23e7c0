// The time range of the page: what is chosen, freeze, zoom and auto refresh. The choices come when they are asked for.

import { CalendarClock, ChevronLeft, ChevronRight, RefreshCw, Snowflake, ZoomOut } from 'lucide-react';
import { lazy, Suspense, useState } from 'react';
import { describeRange, isRelative, zoneTitle } from '../lib/time';
import { frozen, type RangeState, REFRESH_CHOICES, shifted, useClock } from '../state/clock';
import { Popover } from './floating';
import { IconButton, Select } from './ui';

const TimeForm = lazy(() => import('./TimeForm'));

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
            <span className="tab-num">{describeRange(state.text, state.zone)}</span>
            <span className="muted small">{zoneTitle(state.zone, state.range.to)}</span>
          </button>
        }
      >
        <Suspense fallback={<div className="time-wait" />}>
          <TimeForm state={state} onDone={() => setOpen(false)} />
        </Suspense>
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

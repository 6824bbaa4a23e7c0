// The tools of the top bar that open something: tenant, share, time range. And the list of keys. They come a moment after
// the frame, which does not wait for them.

import { useIsFetching } from '@tanstack/react-query';
import { useNavigate } from '@tanstack/react-router';
import { Share2 } from 'lucide-react';
import { useState } from 'react';
import { frozen, type GlobalSearch, type RangeState, useRange } from '../state/clock';
import type { KeyBinding } from '../state/keys';
import { usePrefs } from '../state/prefs';
import { Dialog, Popover } from './floating';
import { TimePicker } from './TimePicker';
import { Button, CopyButton, IconButton, Input } from './ui';

export function TenantPicker({ tenant }: { tenant: string | undefined }) {
  const navigate = useNavigate();
  const [open, setOpen] = useState(false);
  const [name, setName] = useState(tenant ?? '');
  const valid = name === '' || /^[A-Za-z0-9._-]{1,64}$/.test(name);
  return (
    <Popover
      label="Tenant"
      open={open}
      onOpenChange={(next) => {
        setName(tenant ?? '');
        setOpen(next);
      }}
      trigger={
        <button type="button" className="btn btn-ghost tenant-button" title="Whose data is shown">
          <span className="muted">tenant</span> {tenant ?? 'default'}
        </button>
      }
    >
      <form
        className="popover-form"
        onSubmit={(event) => {
          event.preventDefault();
          if (!valid) return;
          if (name !== '') usePrefs.getState().met(name);
          void navigate({ to: '.', search: ((old: GlobalSearch) => ({ ...old, tenant: name || undefined })) as never });
          setOpen(false);
        }}
      >
        <label className="field">
          <span className="field-label">Tenant whose data is shown</span>
          <Input value={name} onChange={(e) => setName(e.target.value)} placeholder="default" aria-invalid={!valid} />
          <span className="field-hint">Sent as X-Scope-OrgID with every request of this page.</span>
        </label>
        <Button look="primary" type="submit" disabled={!valid}>
          Show
        </Button>
      </form>
    </Popover>
  );
}

/** A link to exactly this view: with the range as it is written, or frozen at what it shows now. */
export function ShareButton({ range }: { range: RangeState }) {
  const [open, setOpen] = useState(false);
  const here = new URL(window.location.href);
  const moving = new URL(here);
  moving.searchParams.set('from', range.text.from);
  moving.searchParams.set('to', range.text.to);
  if (range.zone !== 'local') moving.searchParams.set('tz', range.zone);
  const still = new URL(moving);
  const fixed = frozen(range);
  still.searchParams.set('from', fixed.from);
  still.searchParams.set('to', fixed.to);
  still.searchParams.delete('refresh');
  return (
    <Popover
      label="Share this view"
      open={open}
      onOpenChange={setOpen}
      trigger={<IconButton icon={Share2} label="Share a link to this view" />}
    >
      <div className="popover-form share">
        <label className="field">
          <span className="field-label">
            This range ({range.text.from} to {range.text.to})
          </span>
          <span className="join">
            <Input readOnly value={moving.toString()} onFocus={(e) => e.target.select()} />
            <CopyButton text={moving.toString()} label="Copy the link" />
          </span>
        </label>
        <label className="field">
          <span className="field-label">Frozen: these very minutes, whenever it is opened</span>
          <span className="join">
            <Input readOnly value={still.toString()} onFocus={(e) => e.target.select()} />
            <CopyButton text={still.toString()} label="Copy the frozen link" />
          </span>
        </label>
      </div>
    </Popover>
  );
}

export function KeyHelp({ open, onClose, bindings }: { open: boolean; onClose: () => void; bindings: KeyBinding[] }) {
  return (
    <Dialog open={open} onClose={onClose} title="Keys" width={560}>
      <dl className="key-list">
        {bindings.map((binding) => (
          <div key={binding.keys}>
            <dt>{binding.label}</dt>
            <dd>
              {binding.keys.split(' ').map((key, i) => (
                <kbd key={i}>{key.replace('mod+k', 'Ctrl K')}</kbd>
              ))}
            </dd>
          </div>
        ))}
        <div>
          <dt>Run the query (in the editor)</dt>
          <dd>
            <kbd>Ctrl Enter</kbd>
          </dd>
        </div>
        <div>
          <dt>Zoom into a chart</dt>
          <dd>drag</dd>
        </div>
        <div>
          <dt>Choose a part of a chart, to compare it</dt>
          <dd>Shift drag</dd>
        </div>
        <div>
          <dt>Zoom back out</dt>
          <dd>double click</dd>
        </div>
      </dl>
    </Dialog>
  );
}

/** The time range of the page, with the state of its requests. */
export function PageTime({
  fallback,
  fallbackRefresh,
}: {
  fallback?: { from: string; to: string };
  fallbackRefresh?: string;
}) {
  const range = useRange(fallback, fallbackRefresh);
  const fetching = useIsFetching({ queryKey: ['timed'] }) > 0;
  return <TimePicker state={range} fetching={fetching} />;
}

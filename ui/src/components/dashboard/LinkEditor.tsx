// A list of links while it is edited.

import { ArrowDown, ArrowUp, Plus, Trash2 } from 'lucide-react';
import { useState } from 'react';
import type { DashboardLink, Link } from '../../lib/dashboard/model';
import { Button, Field, IconButton, Input, Segmented } from '../ui';
import { EntryHead } from './EntryHead';

function clean<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as T;
}

export function LinkEditor<T extends Link | DashboardLink>({
  links,
  onChange,
  hint,
  add,
  tagged = false,
}: {
  links: T[] | undefined;
  onChange: (links: T[] | undefined, what: string) => void;
  hint: string;
  /** What its button says. */
  add: string;
  /** Whether a link may lead to all dashboards with some tags. */
  tagged?: boolean;
}) {
  const all = links ?? [];
  const [open, setOpen] = useState<number | null>(null);
  const set = (next: T[], what: string) => onChange(next.length > 0 ? next : undefined, what);
  const change = (i: number, part: Partial<DashboardLink>) =>
    set(
      all.map((link, j) => (j === i ? clean({ ...link, ...part }) : link)),
      `link:${i}:${Object.keys(part)[0]}`,
    );
  const move = (i: number, by: number) => {
    const next = [...all];
    const [taken] = next.splice(i, 1);
    next.splice(i + by, 0, taken!);
    set(next, 'order');
    setOpen(i + by);
  };
  return (
    <div className="stack">
      {all.map((link, i) => {
        const { tags, asMenu } = link as DashboardLink;
        return (
          <div key={i} className="variable-editor">
            <EntryHead
              open={open === i}
              onToggle={() => setOpen(open === i ? null : i)}
              title={<bdi>{link.title || 'Link'}</bdi>}
              asked={tags ? `tags: ${tags.join(', ') || 'all'}` : link.url}
            >
              <IconButton icon={ArrowUp} label="Earlier" disabled={i === 0} onClick={() => move(i, -1)} />
              <IconButton icon={ArrowDown} label="Later" disabled={i === all.length - 1} onClick={() => move(i, 1)} />
              <IconButton
                icon={Trash2}
                label={`Remove the link ${link.title}`}
                onClick={() =>
                  set(
                    all.filter((_, j) => j !== i),
                    'remove',
                  )
                }
              />
            </EntryHead>
            {open === i && (
              <div className="stack">
                {tagged && (
                  <Segmented
                    label="Leads to"
                    value={tags ? 'tags' : 'url'}
                    choices={[
                      { id: 'url', label: 'An address' },
                      { id: 'tags', label: 'Dashboards by tags' },
                    ]}
                    onChange={(id) =>
                      change(i, id === 'tags' ? { tags: [], url: '' } : { tags: undefined, asMenu: undefined })
                    }
                  />
                )}
                <Field label="Title">
                  <Input value={link.title} onChange={(e) => change(i, { title: e.target.value })} />
                </Field>
                {tags ? (
                  <>
                    <Field label="Tags" hint="with commas between; none: all dashboards">
                      <TagInput value={tags} onChange={(next) => change(i, { tags: next })} />
                    </Field>
                    <label className="check">
                      <input
                        type="checkbox"
                        checked={asMenu ?? false}
                        onChange={(e) => change(i, { asMenu: e.target.checked || undefined })}
                      />
                      in a menu
                    </label>
                  </>
                ) : (
                  <Field label="Address" hint={hint}>
                    <Input
                      value={link.url}
                      spellCheck={false}
                      placeholder="/dashboards/… or https://…"
                      onChange={(e) => change(i, { url: e.target.value })}
                    />
                  </Field>
                )}
                <div className="join-row">
                  {(
                    [
                      ['keepVariables', 'takes variables along'],
                      ['keepTime', 'takes the range along'],
                      ['newTab', 'in a new tab'],
                    ] as const
                  ).map(([key, label]) => (
                    <label key={key} className="check">
                      <input
                        type="checkbox"
                        checked={link[key] ?? false}
                        onChange={(e) => change(i, { [key]: e.target.checked || undefined })}
                      />
                      {label}
                    </label>
                  ))}
                </div>
              </div>
            )}
          </div>
        );
      })}
      <Button
        icon={Plus}
        onClick={() => {
          set([...all, { title: '', url: '' } as T], 'link');
          setOpen(all.length);
        }}
      >
        {add}
      </Button>
    </div>
  );
}

/** Tags with commas between; what is typed stays as it is while it is typed. */
function TagInput({ value, onChange }: { value: string[]; onChange: (tags: string[]) => void }) {
  const [text, setText] = useState(() => value.join(', '));
  return (
    <Input
      value={text}
      onChange={(e) => {
        setText(e.target.value);
        onChange(
          e.target.value
            .split(',')
            .map((tag) => tag.trim())
            .filter(Boolean),
        );
      }}
    />
  );
}

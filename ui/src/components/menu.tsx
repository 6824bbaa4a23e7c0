// Menus: a button that opens a list of acts.

import { Menu as BaseMenu } from '@base-ui/react/menu';
import type { ReactElement } from 'react';
import type { Icon } from './ui';

export interface MenuEntry {
  label: string;
  icon?: Icon;
  hint?: string;
  danger?: boolean;
  disabled?: boolean;
  onSelect: () => void;
}

export function Menu({
  trigger,
  entries,
  align = 'end',
}: {
  trigger: ReactElement;
  entries: (MenuEntry | 'line')[];
  align?: 'start' | 'end';
}) {
  return (
    <BaseMenu.Root modal={false}>
      <BaseMenu.Trigger render={trigger} />
      <BaseMenu.Portal>
        <BaseMenu.Positioner sideOffset={4} align={align} className="floating">
          <BaseMenu.Popup className="menu">
            {entries.map((entry, i) =>
              entry === 'line' ? (
                <BaseMenu.Separator key={i} className="menu-line" />
              ) : (
                <BaseMenu.Item
                  key={i}
                  className={`menu-item ${entry.danger ? 'is-danger' : ''}`}
                  disabled={entry.disabled}
                  onClick={entry.onSelect}
                >
                  {entry.icon ? <entry.icon size={14} aria-hidden /> : <span className="menu-gap" />}
                  <span className="menu-label">{entry.label}</span>
                  {entry.hint && <kbd>{entry.hint}</kbd>}
                </BaseMenu.Item>
              ),
            )}
          </BaseMenu.Popup>
        </BaseMenu.Positioner>
      </BaseMenu.Portal>
    </BaseMenu.Root>
  );
}

// The keyboard: single keys and two-key sequences (`g e`), never while somebody types.

import { useEffect, useRef } from 'react';
import { create } from 'zustand';

export interface KeyBinding {
  /** `r`, `?`, `g e`, `mod+k`. */
  keys: string;
  label: string;
  run: () => void;
}

/** Whether keys that go there are text. */
export const isTyping = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement &&
  !(target instanceof HTMLInputElement && target.type === 'range') &&
  (target.isContentEditable ||
    ['INPUT', 'TEXTAREA', 'SELECT'].includes(target.tagName) ||
    target.closest('.cm-editor') !== null);

/** How long the second key of a sequence may take. */
const SEQUENCE_MS = 1200;

const NAMES: Record<string, string> = { ArrowLeft: '←', ArrowRight: '→', Escape: 'esc' };

export function useKeys(bindings: KeyBinding[]): void {
  useEffect(() => {
    let first: { key: string; at: number } | null = null;
    const onKey = (event: KeyboardEvent) => {
      const key = NAMES[event.key] ?? event.key;
      if ((event.metaKey || event.ctrlKey) && !event.altKey) {
        const binding = bindings.find((b) => b.keys === `mod+${key.toLowerCase()}`);
        if (binding) {
          event.preventDefault();
          binding.run();
        }
        return;
      }
      if (event.altKey || isTyping(event.target)) return;
      const now = performance.now();
      const sequence = first && now - first.at < SEQUENCE_MS ? `${first.key} ${key}` : null;
      const binding = bindings.find((b) => b.keys === sequence) ?? bindings.find((b) => b.keys === key);
      first = bindings.some((b) => b.keys.startsWith(`${key} `)) && !sequence ? { key, at: now } : null;
      if (binding) {
        event.preventDefault();
        first = null;
        binding.run();
      }
    };
    document.addEventListener('keydown', onKey);
    return () => document.removeEventListener('keydown', onKey);
  }, [bindings]);
}

/** What the page that is shown adds to the keys. */
export const usePageBindings = create<{ bindings: KeyBinding[] }>(() => ({ bindings: [] }));

/** Keys of a page: they work while it is shown, beside those of the frame, and are listed with them. */
export function usePageKeys(bindings: KeyBinding[]): void {
  const latest = useRef(bindings);
  latest.current = bindings;
  useEffect(() => {
    usePageBindings.setState({
      bindings: latest.current.map((binding, i) => ({ ...binding, run: () => latest.current[i]?.run() })),
    });
    return () => usePageBindings.setState({ bindings: [] });
  }, []);
}

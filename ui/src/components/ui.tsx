// The small parts that every screen is made of.

import { Check, Copy } from 'lucide-react';
import {
  type ButtonHTMLAttributes,
  type ComponentType,
  type InputHTMLAttributes,
  type ReactNode,
  type SelectHTMLAttributes,
  useEffect,
  useRef,
  useState,
} from 'react';

export type Icon = ComponentType<{
  size?: number | string;
  'aria-hidden'?: boolean | 'true' | 'false';
  className?: string;
}>;

interface ButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  look?: 'plain' | 'primary' | 'ghost' | 'danger';
  icon?: Icon;
}

export function Button({
  look = 'plain',
  icon: Glyph,
  children,
  className = '',
  type = 'button',
  ...rest
}: ButtonProps) {
  return (
    <button {...rest} type={type} className={`btn btn-${look} ${className}`}>
      {Glyph && <Glyph size={14} aria-hidden />}
      {children}
    </button>
  );
}

interface IconButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  icon: Icon;
  label: string;
  active?: boolean;
}

/** A button that is a picture: its name is for screen readers and for the pointer that rests on it. */
export function IconButton({ icon: Glyph, label, active, className = '', ...rest }: IconButtonProps) {
  return (
    <button
      type="button"
      title={label}
      aria-label={label}
      aria-pressed={active}
      {...rest}
      className={`icon-btn ${active ? 'is-active' : ''} ${className}`}
    >
      <Glyph size={15} aria-hidden />
    </button>
  );
}

export function Select({ className = '', ...rest }: SelectHTMLAttributes<HTMLSelectElement>) {
  return <select {...rest} className={`select ${className}`} />;
}

export function Input({ className = '', ...rest }: InputHTMLAttributes<HTMLInputElement>) {
  return <input {...rest} className={`input ${className}`} />;
}

export function Field({ label, hint, children }: { label: string; hint?: string; children: ReactNode }) {
  return (
    <label className="field">
      <span className="field-label">{label}</span>
      {children}
      {hint && <span className="field-hint">{hint}</span>}
    </label>
  );
}

export interface Choice {
  id: string;
  label: string;
  icon?: Icon;
}

/** One of a few: a row of buttons of which one is pressed. */
export function Segmented({
  label,
  value,
  choices,
  onChange,
}: {
  label: string;
  value: string;
  choices: Choice[];
  onChange: (id: string) => void;
}) {
  return (
    <div className="segmented" role="group" aria-label={label}>
      {choices.map(({ id, label: name, icon: Glyph }) => (
        <button key={id} type="button" aria-pressed={id === value} onClick={() => onChange(id)}>
          {Glyph && <Glyph size={13} aria-hidden />}
          {name}
        </button>
      ))}
    </div>
  );
}

/** Tabs as links of the address: a tab can be shared. */
export function Tabs({
  label,
  value,
  choices,
  onChange,
}: {
  label: string;
  value: string;
  choices: Choice[];
  onChange: (id: string) => void;
}) {
  return (
    <div className="tabs" role="tablist" aria-label={label}>
      {choices.map(({ id, label: name, icon: Glyph }, i) => (
        <button
          key={id}
          id={`tab-${id}`}
          type="button"
          role="tab"
          aria-selected={id === value}
          tabIndex={id === value ? 0 : -1}
          onClick={() => onChange(id)}
          onKeyDown={(event) => {
            const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
            if (step === 0) return;
            const next = choices[(i + step + choices.length) % choices.length]!;
            onChange(next.id);
            document.getElementById(`tab-${next.id}`)?.focus();
          }}
        >
          {Glyph && <Glyph size={13} aria-hidden />}
          {name}
        </button>
      ))}
    </div>
  );
}

/** Copies a text; says so in its own place, and for a moment only. */
export function CopyButton({ text, label = 'Copy', words }: { text: string; label?: string; words?: string }) {
  const [done, setDone] = useState(false);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = () =>
    void copyText(text).then((copied) => {
      setDone(copied);
      clearTimeout(timer.current);
      timer.current = setTimeout(() => setDone(false), 1500);
    });
  const Glyph = done ? Check : Copy;
  return words ? (
    <Button icon={Glyph} onClick={copy} title={label}>
      {done ? 'Copied' : words}
    </Button>
  ) : (
    <IconButton icon={Glyph} label={done ? 'Copied' : label} onClick={copy} />
  );
}

/** To the clipboard, also where the page is not in a secure context and browsers close the clipboard to it. */
export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement('textarea');
    area.value = text;
    area.className = 'sr-only';
    document.body.append(area);
    area.select();
    const copied = document.execCommand('copy');
    area.remove();
    return copied;
  }
}

export type Tone = 'ok' | 'warn' | 'critical' | 'info' | 'none';

const GLYPHS: Record<Tone, string> = { ok: '●', warn: '▲', critical: '■', info: '◆', none: '○' };

/** A state: colour, shape and word say the same. */
export function StatusTag({ tone, children, title }: { tone: Tone; children: ReactNode; title?: string }) {
  return (
    <span className={`tag tag-${tone}`} title={title}>
      <span aria-hidden className="tag-glyph">
        {GLYPHS[tone]}
      </span>
      {children}
    </span>
  );
}

export function Panel({
  title,
  actions,
  children,
  className = '',
  note,
}: {
  title?: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
  className?: string;
  note?: ReactNode;
}) {
  return (
    <section className={`panel ${className}`}>
      {(title || actions) && (
        <header className="panel-head">
          {title && <h2 className="panel-title">{title}</h2>}
          {note && <span className="panel-note">{note}</span>}
          {actions && <div className="panel-actions">{actions}</div>}
        </header>
      )}
      <div className="panel-body">{children}</div>
    </section>
  );
}

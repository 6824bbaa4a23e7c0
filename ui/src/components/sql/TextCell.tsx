// A cell of text: Markdown, shown as such; written in a plain field.

import { useEffect, useRef } from 'react';
import { Markdown } from '../Markdown';

export default function TextCell({
  text,
  label,
  isEdited,
  onText,
  onEdit,
}: {
  text: string;
  label: string;
  isEdited: boolean;
  onText: (text: string) => void;
  onEdit: (on: boolean) => void;
}) {
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    if (isEdited) field.current?.focus();
  }, [isEdited]);
  return isEdited ? (
    <textarea
      ref={field}
      className="input sql-text"
      aria-label={label}
      placeholder={'Markdown, such as  ## What happened\n- at **12:04** the queue grew'}
      rows={Math.min(24, Math.max(4, text.split('\n').length + 1))}
      value={text}
      onChange={(e) => onText(e.target.value)}
      onKeyDown={(event) => {
        if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
          event.preventDefault();
          onEdit(false);
        }
      }}
    />
  ) : (
    // biome-ignore lint/a11y/noStaticElementInteractions: beside the button, for those who try it
    <div className="sql-text-shown" onDoubleClick={() => onEdit(true)}>
      {text.trim() === '' ? <p className="muted">There is no text yet.</p> : <Markdown text={text} />}
    </div>
  );
}

// Text of any length and content: what can not be seen is made visible, and the rest comes when somebody asks.

import { type ReactNode, useState } from 'react';
import { visible } from '../lib/logrow';

/** Characters that are shown before somebody asks for all. */
const SHOWN = 2000;

export function LongText({
  text,
  className = '',
  render = visible,
}: {
  text: string;
  className?: string;
  /** Shows the text, which may be cut anywhere. */
  render?: (text: string) => ReactNode;
}) {
  const [all, setAll] = useState(false);
  const isLong = text.length > SHOWN;
  return (
    <span className={`long-text mono ${className}`}>
      <bdi>{render(all || !isLong ? text : text.slice(0, SHOWN))}</bdi>
      {isLong && !all && (
        <button type="button" onClick={() => setAll(true)}>
          … all {text.length.toLocaleString('en-GB')} characters
        </button>
      )}
    </span>
  );
}

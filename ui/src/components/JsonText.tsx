// A record or a span as JSON, to read and to copy.

import { visible } from '../lib/logrow';
import { CopyButton } from './ui';

/** Characters that are shown; all are copied. */
const SHOWN = 100_000;

export function JsonText({ json }: { json: string }) {
  return (
    <div className="snippet">
      <pre tabIndex={0} dir="auto">
        {visible(json.slice(0, SHOWN))}
      </pre>
      <CopyButton text={json} />
      {json.length > SHOWN && <p className="cap-note">The rest is copied, not shown.</p>}
    </div>
  );
}

// A label set, value by value, as text that can not act; long values end early and show whole on request.

import type { Labels } from '../lib/labels';

const LONG = 160;

export function Value({ text }: { text: string }) {
  return (
    <bdi className="label-value" title={text.length > LONG ? text.slice(0, 2000) : undefined}>
      {text.length > LONG ? `${text.slice(0, LONG)}…` : text}
    </bdi>
  );
}

export function SeriesText({ labels }: { labels: Labels }) {
  const keys = Object.keys(labels)
    .filter((key) => key !== '__name__')
    .sort();
  return (
    <span className="series-text mono">
      {labels.__name__ && <bdi className="series-metric">{labels.__name__}</bdi>}
      {keys.length > 0 && (
        <>
          <span className="muted">{'{'}</span>
          {keys.map((key, i) => (
            <span key={key}>
              {i > 0 && <span className="muted">, </span>}
              <bdi className="series-key">{key}</bdi>
              <span className="muted">=</span>
              <Value text={JSON.stringify(labels[key])} />
            </span>
          ))}
          <span className="muted">{'}'}</span>
        </>
      )}
      {keys.length === 0 && !labels.__name__ && <span className="muted">{'{}'}</span>}
    </span>
  );
}

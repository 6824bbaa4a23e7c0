// TraceQL on one page.

import { Dialog } from '../floating';
import { WriteToFind } from '../WriteToFind';

const ROWS: [string, string][] = [
  ['{ }', 'all spans'],
  ['{ resource.service.name = "checkout" }', 'spans whose resource has this attribute'],
  ['{ span.http.status_code >= 500 }', 'an attribute of the span; .name takes it from where it is'],
  ['{ name = "GET /pay" && duration > 100ms }', 'name and duration of the span; traceDuration is the trace’s'],
  ['{ status = error && kind = server }', 'states: error, ok, unset; kinds: server, client, internal, ...'],
  ['{ name =~ "GET .*" }', 'a regular expression that matches all of it'],
  ['{ span.db.system != nil }', 'spans that have the attribute'],
  ['{ event:name = "exception" }', 'spans with such an event'],
  ['{ rootServiceName = "web" } >> { status = error }', 'failed spans somewhere below; > directly below'],
  ['{ .a = 1 } && { .b = 2 }', 'traces that have both'],
  ['{ status = error } | count() > 3', 'traces with more than three of them'],
  ['{ } | by(resource.service.name) | avg(duration) > 1s', 'a set of spans a service, and a test of each'],
  ['{ status = error } | rate() by (resource.service.name)', 'numbers over time, as a chart'],
  ['{ } | quantile_over_time(duration, .5, .99)', 'the same of durations; histogram_over_time(duration) is a heatmap'],
];

export default function TraceqlHelp({ onClose }: { onClose: () => void }) {
  return (
    <Dialog open onClose={onClose} title="TraceQL" width={760}>
      <WriteToFind rows={ROWS} />
      <p className="muted small">
        A field that a span does not have fails every test but = nil. Text never equals a number. Conditions of the form
        above join what is written here, on the same spans.
      </p>
    </Dialog>
  );
}

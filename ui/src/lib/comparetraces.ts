// Two traces beside each other: what each operation of a service takes in both, the largest difference first.

import { isFailed, selfNs, type TraceView } from './trace';

/** Of an operation in one trace. Durations are sums over its spans; its own time is what no child of them takes. */
export interface Taken {
  spans: number;
  errors: number;
  totalNs: number;
  selfNs: number;
}

export interface OperationPair {
  service: string;
  name: string;
  here: Taken;
  there: Taken;
}

const nothing = (): Taken => ({ spans: 0, errors: 0, totalNs: 0, selfNs: 0 });

export const selfDifference = ({ here, there }: OperationPair): number => here.selfNs - there.selfNs;

export function operationPairs(here: TraceView, there: TraceView): OperationPair[] {
  const pairs = new Map<string, OperationPair>();
  for (const [side, view] of [
    ['here', here],
    ['there', there],
  ] as const) {
    view.trace.spans.forEach((span, at) => {
      const key = JSON.stringify([span.service, span.name]);
      const pair = pairs.get(key) ?? { service: span.service, name: span.name, here: nothing(), there: nothing() };
      pairs.set(key, pair);
      pair[side].spans += 1;
      pair[side].errors += isFailed(span) ? 1 : 0;
      pair[side].totalNs += view.end[at]! - view.begin[at]!;
      pair[side].selfNs += selfNs(view, at);
    });
  }
  return [...pairs.values()].sort(
    (a, b) =>
      Math.abs(selfDifference(b)) - Math.abs(selfDifference(a)) ||
      Math.abs(b.here.spans - b.there.spans) - Math.abs(a.here.spans - a.there.spans) ||
      (a.service === b.service ? (a.name < b.name ? -1 : 1) : a.service < b.service ? -1 : 1),
  );
}

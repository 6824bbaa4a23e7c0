// A graph in layers, from those who call to those who are called. Circles are cut for the layers only; long edges go
// through places of their own in between, so that lines go around boxes; orders and places are settled by neighbours.

export interface LayerEdge {
  from: string;
  to: string;
}

export interface Placed {
  /** Of the middle. */
  nodes: Map<string, { x: number; y: number }>;
  /** Points that an edge goes through, from its beginning to its end; in the order of the edges. */
  lines: { x: number; y: number }[][];
  width: number;
  height: number;
}

export interface Sizes {
  width: number;
  height: number;
  /** Between layers, and between boxes of one. */
  across: number;
  down: number;
}

const SWEEPS = 12;
const SETTLES = 10;

export function layered(names: string[], edges: LayerEdge[], sizes: Sizes): Placed {
  const place = new Map(names.map((name, i) => [name, i]));
  const links = edges.map(({ from, to }) => [place.get(from)!, place.get(to)!] as [number, number]);
  const forward = cutCircles(names.length, links);
  const layer = layersOf(names.length, forward);

  // Boxes and, for each layer that an edge passes, a place.
  const layerOf = [...layer];
  const isBox = names.map(() => true);
  const chains = forward.map(([a, b]) => {
    const chain = [a];
    for (let at = layer[a]! + 1; at < layer[b]!; at++) {
      chain.push(layerOf.length);
      layerOf.push(at);
      isBox.push(false);
    }
    chain.push(b);
    return chain;
  });
  const count = layerOf.length;
  const above: number[][] = Array.from({ length: count }, () => []);
  const below: number[][] = Array.from({ length: count }, () => []);
  for (const chain of chains) {
    for (let i = 1; i < chain.length; i++) {
      below[chain[i - 1]!]!.push(chain[i]!);
      above[chain[i]!]!.push(chain[i - 1]!);
    }
  }
  const depth = Math.max(0, ...layerOf) + 1;
  const layers: number[][] = Array.from({ length: depth }, () => []);
  layerOf.forEach((at, node) => layers[at]!.push(node));

  // Order: each between its neighbours of the layer before, then of the layer behind, again and again.
  const order = new Array<number>(count).fill(0);
  for (const list of layers) list.forEach((node, i) => (order[node] = i));
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const down = sweep % 2 === 0;
    for (let step = 1; step < depth; step++) {
      const list = layers[down ? step : depth - 1 - step]!;
      const wanted = new Map(
        list.map((node) => {
          const near = down ? above[node]! : below[node]!;
          return [node, near.length === 0 ? order[node]! : near.reduce((sum, n) => sum + order[n]!, 0) / near.length];
        }),
      );
      list.sort((a, b) => wanted.get(a)! - wanted.get(b)! || order[a]! - order[b]!);
      list.forEach((node, i) => (order[node] = i));
    }
  }

  // Places: as near to the neighbours as those beside it let.
  const room = (node: number): number => (isBox[node] ? sizes.height + sizes.down : sizes.down * 1.5);
  const y = new Array<number>(count).fill(0);
  for (const list of layers) {
    const total = list.reduce((sum, node) => sum + room(node), 0);
    let at = -total / 2;
    for (const node of list) {
      y[node] = at + room(node) / 2;
      at += room(node);
    }
  }
  for (let round = 0; round < SETTLES; round++) {
    for (const list of round % 2 === 0 ? layers : [...layers].reverse()) {
      const wanted = list.map((node) => {
        const near = [...above[node]!, ...below[node]!];
        return near.length === 0 ? y[node]! : near.reduce((sum, n) => sum + y[n]!, 0) / near.length;
      });
      const apart = list.map((node, i) => (i === 0 ? 0 : (room(list[i - 1]!) + room(node)) / 2));
      const [pushed, pulled] = [[...wanted], [...wanted]];
      for (let i = 1; i < list.length; i++) pushed[i] = Math.max(wanted[i]!, pushed[i - 1]! + apart[i]!);
      for (let i = list.length - 2; i >= 0; i--) pulled[i] = Math.min(wanted[i]!, pulled[i + 1]! - apart[i + 1]!);
      list.forEach((node, i) => (y[node] = (pushed[i]! + pulled[i]!) / 2));
    }
  }

  const least = Math.min(0, ...y.map((at, node) => at - room(node) / 2));
  const most = Math.max(0, ...y.map((at, node) => at + room(node) / 2));
  const x = (node: number): number => layerOf[node]! * (sizes.width + sizes.across) + sizes.width / 2;
  const point = (node: number) => ({ x: x(node), y: y[node]! - least });
  return {
    nodes: new Map(names.map((name, i) => [name, point(i)])),
    lines: chains.map((chain, i) => {
      const points = chain.map(point);
      // An edge that was turned for the layers goes its own way.
      return forward[i]![0] === links[i]![0] ? points : points.reverse();
    }),
    width: depth * (sizes.width + sizes.across) - sizes.across,
    height: Math.max(sizes.height, most - least),
  };
}

/** The edges without circles: those that lead back are turned round. Nothing recurses. */
function cutCircles(count: number, links: [number, number][]): [number, number][] {
  const out: number[][] = Array.from({ length: count }, () => []);
  const incoming = new Array<number>(count).fill(0);
  links.forEach(([a, b], i) => {
    out[a]!.push(i);
    if (a !== b) incoming[b] = incoming[b]! + 1;
  });
  // 0: not seen, 1: on the way, 2: done.
  const state = new Uint8Array(count);
  const turned = new Set<number>();
  const starts = Array.from({ length: count }, (_, i) => i).sort((a, b) => incoming[a]! - incoming[b]! || a - b);
  for (const start of starts) {
    if (state[start] !== 0) continue;
    const way: [number, number][] = [[start, 0]];
    state[start] = 1;
    while (way.length > 0) {
      const top = way.at(-1)!;
      const [node, next] = top;
      const link = out[node]![next];
      if (link === undefined) {
        state[node] = 2;
        way.pop();
        continue;
      }
      top[1] += 1;
      const to = links[link]![1];
      if (state[to] === 1) turned.add(link);
      else if (state[to] === 0) {
        state[to] = 1;
        way.push([to, 0]);
      }
    }
  }
  return links.map(([a, b], i) => (turned.has(i) ? [b, a] : [a, b]));
}

/** The layer of each: behind all that call it; who is called by nobody stands right before whom it calls. */
function layersOf(count: number, links: [number, number][]): number[] {
  const incoming = new Array<number>(count).fill(0);
  const out: number[][] = Array.from({ length: count }, () => []);
  for (const [a, b] of links) {
    if (a === b) continue;
    incoming[b] = incoming[b]! + 1;
    out[a]!.push(b);
  }
  const called = incoming.map((n) => n > 0);
  const layer = new Array<number>(count).fill(0);
  const ready = Array.from({ length: count }, (_, i) => i).filter((i) => incoming[i] === 0);
  while (ready.length > 0) {
    const node = ready.pop()!;
    for (const next of out[node]!) {
      layer[next] = Math.max(layer[next]!, layer[node]! + 1);
      incoming[next] = incoming[next]! - 1;
      if (incoming[next] === 0) ready.push(next);
    }
  }
  out.forEach((next, node) => {
    if (!called[node] && next.length > 0) layer[node] = Math.min(...next.map((n) => layer[n]!)) - 1;
  });
  return layer;
}

export interface Grouped {
  /** The group of each name; most are groups of their own. */
  group: Map<string, string>;
  /** Names of each group. */
  members: Map<string, string[]>;
}

/** Names put together until they are few enough: by what stands before the first `-`, `.`, `_` or `/`, then the lightest. */
export function grouped(names: string[], weight: (name: string) => number, most: number): Grouped {
  const members = new Map<string, string[]>();
  const put = (key: string, list: string[]) => members.set(key, [...(members.get(key) ?? []), ...list]);
  if (names.length <= most) {
    for (const name of names) put(name, [name]);
  } else {
    const heads = new Map<string, string[]>();
    for (const name of names) {
      const head = /^[^-._/]+/.exec(name)?.[0] ?? name;
      heads.set(head, [...(heads.get(head) ?? []), name]);
    }
    for (const [head, list] of heads) put(list.length > 1 ? `${head}*` : list[0]!, list);
    if (members.size > most) {
      const total = (list: string[]) => list.reduce((sum, name) => sum + weight(name), 0);
      const sorted = [...members].sort((a, b) => total(b[1]) - total(a[1]));
      members.clear();
      sorted.forEach(([key, list], i) => put(i < most - 1 ? key : '(others)', list));
    }
  }
  const group = new Map<string, string>();
  for (const [key, list] of members) for (const name of list) group.set(name, key);
  return { group, members };
}

// Spans for the browser tests: a small shop whose services call each other, one very large trace, one with a part missing
// and a long silence, and names that a page must not believe.

const hex = (number, digits) => number.toString(16).padStart(digits, '0');

/** The trace that seeded logs name; their span is one of the checkout's. */
export const TRACE = '0af7651916cd43dd8448eb211c80319c';
export const SPAN = TRACE.slice(16);
/** A visit like that one, but slow and failed. */
export const SLOW = hex(0xabcdef03n, 32);
/** Ten thousand spans. */
export const LARGE = 'cafe0000000000000000000000002710';
/** Its id begins with zeros; it has an orphan, a link to the shop's trace, and a silence of ten seconds. */
export const BROKEN = '00000000000000000000000000abc123';
export const HOSTILE_TRACE = 'bad00000000000000000000000000001';
/** What exemplars name. */
export const EXEMPLAR = '4bf92f3577b34da6a3ce929d0e0e473';

/** One visit of the shop: eleven spans of six services. Every seventh goes to a region that is slow and fails. */
export function visit(out, n, start, trace, checkout = hex(0x1000 + n * 16 + 5, 16)) {
  const id = (i) => (i === 5 ? checkout : hex(0x1000 + n * 16 + i, 16));
  const slow = n % 7 === 3;
  const took = 60 + ((n * 37) % 90) + (slow ? 900 + ((n * 53) % 600) : 0);
  const region = slow ? 'eu-west' : ['us-east', 'us-west'][n % 2];
  const put = (service, span) => {
    out[service] ??= [];
    out[service].push({ trace, ...span, fields: { region, ...span.fields } });
  };
  const at = (share) => start + took * share;
  const route = n % 3 === 0 ? '/cart' : '/checkout';
  put('frontend', {
    id: id(0),
    name: `GET ${route}`,
    kind: 'server',
    start,
    end: at(1),
    fields: { 'http.method': 'GET', 'http.route': route, 'http.status_code': slow ? 503 : 200, 'user.id': n % 17 },
    ...(slow ? { error: 'upstream failed' } : {}),
  });
  put('frontend', { id: id(1), parent: id(0), name: 'render', start: at(0.85), end: at(0.99) });
  put('frontend', { id: id(2), parent: id(0), name: 'GET cart', kind: 'client', start: at(0.02), end: at(0.3) });
  put('cart', { id: id(3), parent: id(2), name: 'GET /items', kind: 'server', start: at(0.04), end: at(0.28) });
  put('cart', {
    id: id(7),
    parent: id(3),
    name: 'SELECT items',
    kind: 'client',
    start: at(0.06),
    end: at(0.25),
    fields: { 'db.system': 'postgresql', 'db.statement': 'SELECT * FROM items WHERE cart = $1' },
  });
  put('frontend', { id: id(4), parent: id(0), name: 'POST checkout', kind: 'client', start: at(0.3), end: at(0.84) });
  put('checkout', {
    id: id(5),
    parent: id(4),
    name: 'POST /orders',
    kind: 'server',
    start: at(0.32),
    end: at(0.82),
    fields: { 'order.items': (n % 5) + 1, 'order.paid': !slow },
    events: [{ time: at(0.4), name: 'order checked', fields: { rule: 'stock' } }],
    ...(slow ? { error: 'payment failed: timeout' } : {}),
  });
  put('checkout', { id: id(6), parent: id(5), name: 'POST pay', kind: 'client', start: at(0.42), end: at(0.78) });
  put('payment', {
    id: id(8),
    parent: id(6),
    name: 'POST /pay',
    kind: 'server',
    start: at(0.44),
    end: at(0.76),
    ...(slow
      ? {
          error: 'the bank does not answer',
          events: [{ time: at(0.7), name: 'exception', fields: { 'exception.type': 'Timeout' } }],
        }
      : {}),
  });
  put('checkout', { id: id(9), parent: id(5), name: 'send order', kind: 'producer', start: at(0.79), end: at(0.8) });
  put('mail', { id: id(10), parent: id(9), name: 'take order', kind: 'consumer', start: at(0.9), end: at(1.2) });
}

/** Of so many spans, at most fifty deep. */
export async function seedTrace(cluster, trace, count) {
  const start = Date.now() - 120_000;
  const services = ['gateway', 'search', 'index', 'ranking', 'store'];
  const way = [];
  for (let from = 0; from < count; from += 1000) {
    const out = Object.fromEntries(services.map((service) => [service, []]));
    for (let i = from; i < Math.min(count, from + 1000); i++) {
      const depth = i === 0 ? 0 : Math.min(way.length, 1 + ((i * 31) % 50));
      const id = hex(0xb00000 + i, 16);
      out[services[i % services.length]].push({
        trace,
        id,
        ...(depth > 0 ? { parent: way[depth - 1] } : {}),
        name: `step ${i % 40}`,
        start: start + i * 0.2,
        end: i === 0 ? start + count * 0.2 + 50 : start + i * 0.2 + 1 + ((i * 13) % 60),
      });
      way[depth] = id;
      way.length = depth + 1;
    }
    await cluster.writeSpans(out);
  }
}

function large(start) {
  const services = ['gateway', 'search', 'index', 'ranking', 'store'];
  const out = Object.fromEntries(services.map((service) => [service, []]));
  const way = [];
  for (let i = 0; i < 10_000; i++) {
    // Levels go up and down as digits of the position.
    const depth = i === 0 ? 0 : 1 + (i % 10 === 0 ? 0 : i % 7 === 0 ? 1 : Math.min(i % 5, way.length - 1));
    const id = hex(0xa0000 + i, 16);
    const begin = start + i * 0.4;
    out[services[(depth * 3 + (i >> 9)) % services.length]].push({
      trace: LARGE,
      id,
      ...(depth > 0 ? { parent: way[depth - 1] } : {}),
      name: i === 0 ? 'GET /search' : i % 2500 === 1234 ? `needle ${i}` : `step ${i % 40}`,
      kind: depth % 2 === 0 ? 'server' : 'client',
      start: begin,
      end: i === 0 ? start + 4100 : begin + 2 + ((i * 13) % 40),
      fields: { shard: i % 16, attempt: i },
      ...(i % 400 === 399 ? { error: `shard ${i % 16} is gone` } : {}),
    });
    way[depth] = id;
    way.length = depth + 1;
  }
  return out;
}

export async function seedSpans(cluster, hostile) {
  const now = Date.now();
  const shop = {};
  for (let n = 0; n < 240; n++) visit(shop, n, now - 90_000 - n * 6500, hex(0xabcdef00n + BigInt(n), 32));
  visit(shop, 903, now - 60_000, TRACE, SPAN);
  for (let i = 0; i < 6; i++) visit(shop, 1000 + i, now - 80_000 - i * 9000, `${EXEMPLAR}${i}`);
  await cluster.writeSpans(shop);

  for (const [service, spans] of Object.entries(large(now - 120_000)))
    for (let at = 0; at < spans.length; at += 1000) await cluster.writeSpans({ [service]: spans.slice(at, at + 1000) });

  const start = now - 300_000;
  await cluster.writeSpans({
    batch: [
      { trace: BROKEN, id: hex(1, 16), name: 'nightly', start, end: start + 40 },
      { trace: BROKEN, id: hex(2, 16), parent: hex(1, 16), name: 'read', start: start + 5, end: start + 30 },
      {
        trace: BROKEN,
        id: hex(3, 16),
        parent: 'feedfeedfeedfeed',
        name: 'late part',
        start: start + 10_000,
        end: start + 10_050,
        links: [{ trace: TRACE, id: SPAN, fields: { why: 'made by' } }],
      },
    ],
  });
  await cluster.writeSpans({
    [hostile.markup]: Object.entries(hostile).map(([kind, text], i) => ({
      trace: HOSTILE_TRACE,
      id: hex(i + 1, 16),
      ...(i > 0 ? { parent: hex(1, 16) } : {}),
      name: `${kind} ${text}`,
      start: now - 45_000 + i,
      end: now - 45_000 + 20 + i,
      fields: {
        kind,
        text,
        [`<b>${kind}</b>`]: text.slice(0, 20),
        ...(i === 0 ? { huge: 'x'.repeat(1_000_000) } : {}),
      },
      events: [{ time: now - 45_000 + i, name: text.slice(0, 200), fields: { text } }],
      error: text.slice(0, 500),
    })),
  });
}

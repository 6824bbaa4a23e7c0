// The pages in a real browser: every screen in both themes without a page error and clean by axe, and what people do on
// them. `UI_IMAGES=1` also writes the pictures that the README shows.

import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { ASK_SCREENS, askFlows, seedAsk } from './ask.mjs';
import { DASHBOARD_SCREENS, dashboardFlows, SLOW_QUERY, seedDashboards } from './dashboards.mjs';
import { browser, Cluster, open, root, sleep, until } from './harness.mjs';
import { PAGE_SCREENS, pageFlows, seedPages } from './pages.mjs';
import { BROKEN, HOSTILE_TRACE, LARGE, SLOW, SPAN, seedSpans, TRACE } from './spans.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const only = process.argv[2];
const images = process.env.UI_IMAGES ? join(root, '..', 'docs', 'images') : null;
const shots = process.env.UI_SHOTS;

const cluster = new Cluster();
let instance;
const failures = [];
let passed = 0;

function assert(condition, what) {
  if (!condition) throw new Error(what);
}

async function test(name, body) {
  if (only && !new RegExp(only).test(name)) return;
  const begun = Date.now();
  try {
    await body();
    passed += 1;
    console.log(`ok   ${name} (${((Date.now() - begun) / 1000).toFixed(1)} s)`);
  } catch (error) {
    failures.push(name);
    console.log(`FAIL ${name}\n     ${(error.stack ?? String(error)).replaceAll('\n', '\n     ')}`);
  }
}

/** Runs on a page of its own, and fails where anything went wrong on it. */
async function onPage(options, body) {
  const { page, context, problems } = await open(instance, options);
  try {
    await body(page, context);
    assert(problems.length === 0, `the page has problems:\n${problems.join('\n')}`);
  } catch (error) {
    if (shots) await page.screenshot({ path: join(shots, `failed-${Date.now()}.png`) }).catch(() => {});
    if (problems.length > 0 && !String(error).includes('problems'))
      error.message += `\non the page: ${problems.join('\n')}`;
    throw error;
  } finally {
    await context.close();
  }
}

async function go(page, path) {
  await page.goto(cluster.url() + path);
  await page.waitForSelector('#main');
}

/** Loaded means: no outline of what comes is shown any more, and no query is under way. */
async function settled(page) {
  await page.waitForFunction(() => document.querySelectorAll('.skeleton, .is-loading').length === 0, undefined, {
    timeout: 90_000,
  });
}

async function clean(page, what) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  const lines = found.violations.map(
    (v) =>
      `${v.id} (${v.impact}): ${v.nodes
        .slice(0, 4)
        .map((n) => `${n.target.join(' ')} ${n.failureSummary?.split('\n')[1] ?? ''}`)
        .join(' | ')}`,
  );
  assert(lines.length === 0, `${what} is not clean:\n${lines.join('\n')}`);
}

const type = async (page, text, nth = 0) => {
  const editor = page.locator('[data-testid=promql-editor] .cm-content').nth(nth);
  await editor.click();
  await page.keyboard.press('Control+a');
  await page.keyboard.insertText(text);
  await page.keyboard.press('Escape');
};

/** Chooses the slow part of the picture of durations: its upper half. While a new picture arrives it may move away below the
 * mouse: then it is dragged over again, as a person would. */
async function choose(page) {
  await page.waitForSelector('[data-testid=heatmap] canvas');
  await until('a part is chosen', async () => {
    await settled(page);
    const box = await page.getByTestId('heatmap').boundingBox();
    await page.mouse.move(box.x + 80, box.y + 8);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width - 12, box.y + 48, { steps: 6 });
    await page.mouse.up();
    await page.getByTestId('chosen').waitFor({ timeout: 5_000 });
    return true;
  });
}

/** Drags with Shift over a part of what is drawn, by shares of its width. */
async function choosePart(page, selector, low, high) {
  const box = await page.locator(selector).first().boundingBox();
  await page.keyboard.down('Shift');
  await page.mouse.move(box.x + box.width * low, box.y + 20);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * high, box.y + 30, { steps: 6 });
  await page.mouse.up();
  await page.keyboard.up('Shift');
  await page.getByTestId('chosen').waitFor();
}

const parameter = (page, name) => {
  const text = new URL(page.url()).searchParams.get(name);
  return text === null ? null : text.replaceAll('"', '');
};

const QUERY = 'sum by (instance) (rate(process_cpu_seconds_total[1m]))';
const SYNCS = 'sum by (le) (increase(pharos_log_sync_duration_seconds_bucket[1m]))';
const explore = (query, more = '') =>
  `/explore?q=${encodeURIComponent(JSON.stringify([query]))}&from=now-15m&to=now${more}`;

/** Series of `seed`, however long ago that was. */
const exploreSeeded = (query, more = '') =>
  explore(query, more).replace('from=now-15m&to=now', `from=${seededAt - 12 * 60_000}&to=${seededAt + 3 * 60_000}`);

/** The half hour of an incident, and a link to its middle minutes. */
const incident = (path, more = {}) => {
  const { tenant, from, to } = INCIDENT;
  const asked = { tenant, from: from - 14 * 60_000, to: to + 10 * 60_000, ...more };
  return `${path}?${new URLSearchParams(Object.entries(asked).map(([key, value]) => [key, String(value)]))}`;
};
const chosen = () => ({ part: `${INCIDENT.from}-${INCIDENT.to}`, compare: true });
const QUEUES = JSON.stringify(['shop_queue_length', 'sum by (service) (shop_queue_length)']);

const notebook = (...statements) => `/sql?c=${encodeURIComponent(JSON.stringify(statements))}`;
const MEMORY =
  "SELECT date_bin(INTERVAL '10 seconds', time) AS moment, instance, max(value) AS bytes\nFROM process_resident_memory_bytes\n" +
  "WHERE time > now() - INTERVAL '15 minutes'\nGROUP BY moment, instance\nORDER BY moment";
const MOST = 'SELECT name, count(*) AS samples\nFROM metrics\nGROUP BY name\nORDER BY samples DESC\nLIMIT 8';

const SCREENS = [
  ['home', '/', '[data-testid=health]'],
  ['explore', explore(QUERY), '[data-testid=chart] canvas'],
  ['explore-empty', '/explore', '.starters'],
  ['explore-compare', () => incident('/explore', { q: QUEUES, ...chosen() }), '.compare-field'],
  ['table', explore('topk(12, pharos_shard_applied_index)', '&view=table'), '[role=table]'],
  ['heatmap', explore(SYNCS, '&view=heatmap'), '[data-testid=heatmap] canvas'],
  ['plan', explore(QUERY, '&view=plan'), '[data-testid=explain]'],
  ['metrics', '/browse?from=now-15m&to=now', '.metric-card canvas'],
  ['metric', '/browse?metric=pharos_http_request_duration_seconds&from=now-15m&to=now', '.label-grid canvas'],
  ['logs', '/logs?from=now-30m&to=now', '.log-row'],
  [
    'logs-record',
    '/logs?from=now-30m&to=now&q=level%3Aerror',
    '.log-row',
    (page) => page.locator('.log-row').nth(2).click(),
  ],
  ['logs-patterns', '/logs?from=now-30m&to=now&view=patterns', '[data-testid=patterns] tbody tr'],
  ['logs-live', '/logs?live=true', '.log-row'],
  ['logs-compare', () => incident('/logs', chosen()), '.compare-field'],
  ['logs-empty', '/logs?from=2020-01-01&to=2020-01-02', '.empty'],
  ['traces', '/traces?from=now-30m&to=now', '.trace-list [role=cell]'],
  [
    'traces-compare',
    '/traces?from=now-30m&to=now&roots=true',
    '.trace-list [role=cell]',
    async (page) => {
      await choose(page);
      await page.getByRole('button', { name: 'Compare selection' }).click();
      await page.waitForSelector('.compare-field');
    },
  ],
  [
    'traces-numbers',
    `/traces?from=now-30m&to=now&q=${encodeURIComponent('{ kind = server } | quantile_over_time(duration, .5, .95) by (resource.service.name)')}`,
    '[data-testid=chart] canvas',
  ],
  ['traces-error', `/traces?q=${encodeURIComponent('{ name = }')}`, '[role=alert]'],
  ['traces-empty', '/traces?from=2020-01-01&to=2020-01-02', '.empty'],
  ['trace', `/trace/${TRACE}`, '.wf-row'],
  ['trace-span', `/trace/${TRACE}?span=${SPAN}`, '[data-testid=span-drawer] dl.record-fields'],
  ['trace-large', `/trace/${LARGE}?find=shard%3D7&levels=6`, '.wf-row'],
  ['trace-broken', `/trace/${BROKEN}?span=0000000000000003`, '.gap-fold'],
  ['trace-flame', `/trace/${LARGE}?view=flame&find=shard%3D7`, '[data-testid=flame] canvas'],
  ['trace-compare', `/trace/${TRACE}?view=compare&with=${SLOW}`, '[data-testid=compare-traces] [role=cell]'],
  ['trace-compare-near', `/trace/${TRACE}?view=compare`, '[data-testid=compare-traces] [role=cell]'],
  ['trace-graph', `/trace/${TRACE}?view=graph`, '[data-testid=service-map] .map-node'],
  ['trace-absent', '/trace/123', '.empty'],
  ['services', '/services?from=now-30m&to=now', '.trace-list [role=cell]'],
  ['services-map', '/services?from=now-30m&to=now&view=map', '[data-testid=service-map] .map-node'],
  ['service', '/services?from=now-30m&to=now&service=checkout', '[data-testid=chart] canvas'],
  [
    'sql',
    notebook(MEMORY, MOST),
    '[data-testid=sql-cell]:nth-of-type(2) [role=row]',
    async (page) => {
      await page.getByRole('button', { name: 'Chart' }).first().click();
      await page.waitForSelector('[data-testid=sql-cell] canvas');
    },
  ],
  ['sql-plan', notebook(`EXPLAIN ANALYZE ${MOST}`), '[data-testid=sql-plan]'],
  ['sql-error', notebook('SELECT name,\n  nothing\nFROM metrics'), '[role=alert]'],
  ['sql-empty', '/sql', '.sql-starters'],
  ['cardinality', '/cardinality', '.bars'],
  ['cardinality-focus', '/cardinality?focus=pharos_shard_lag_entries', '.facts-table'],
  ['dashboards', '/dashboards', '.builtin-list'],
  ['dashboard', '/dashboards/pharos-cluster?from=now-15m&to=now', '[data-testid=panel] canvas'],
  ['dashboard-ingest', '/dashboards/pharos-ingest?from=now-15m&to=now', '[data-testid=panel] canvas'],
  ['dashboard-queries', '/dashboards/pharos-queries?from=now-15m&to=now', '[data-testid=panel] canvas'],
  ['dashboard-host', '/dashboards/pharos-host', '[data-testid=panel]'],
  ['dashboard-edit', '/dashboards/new', '.empty'],
  ['cluster', '/cluster?shard=3', '[data-testid=matrix]'],
  ['admin', '/admin', '.panel'],
  ['admin-node', '/admin?tab=node', '.feature-list'],
  ['admin-config', '/admin?tab=config', 'pre.block'],
  ['admin-flags', '/admin?tab=flags', '.facts-table'],
  ...PAGE_SCREENS,
  ...ASK_SCREENS,
  ...DASHBOARD_SCREENS,
  ['not-found', '/nothing/here', '.empty'],
];

/** Shown in the README. */
const PICTURES = [
  'home',
  'explore',
  'heatmap',
  'metrics',
  'dashboard',
  'cluster',
  'cardinality',
  'plan',
  'logs',
  'sql',
  'trace-span',
  'traces-compare',
  'services-map',
  'service',
  'dashboards',
  'admin',
];

/** What a label value may hold that a page must not believe. */
const HOSTILE = {
  markup: '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>',
  attribute: '"><svg onload=window.hacked=1>',
  template: '{{constructor}} ${window.hacked=1} $job',
  rtl: '\u202Egnp.exe\u202C العربية עברית',
  emoji: '🏮🧭👩‍🚀 zero\u200Bwidth',
  control: 'bell\u0007 esc\u001b[31m tab\t line\nbreak',
  path: '../../etc/passwd%00',
  long: 'x'.repeat(4000),
};

/** When `seed` wrote, in milliseconds since the epoch. */
let seededAt = 0;

async function seed() {
  const now = Date.now();
  seededAt = now;
  const samples = (value) => Array.from({ length: 120 }, (_, i) => [now - (119 - i) * 5000, value + Math.sin(i / 8)]);
  await cluster.write(
    Object.entries(HOSTILE).map(([kind, text], i) => ({
      labels: { __name__: 'hostile_values', job: 'seed', kind, text },
      samples: samples(i),
    })),
  );
  await cluster.write([
    {
      labels: { __name__: 'seeded_requests_total', job: 'seed' },
      samples: Array.from({ length: 120 }, (_, i) => [now - (119 - i) * 5000, i * 10]),
      exemplars: Array.from({ length: 6 }, (_, i) => ({
        labels: { trace_id: `4bf92f3577b34da6a3ce929d0e0e473${i}` },
        value: 1 + i / 4,
        time: now - (100 - i * 16) * 5000,
      })),
    },
  ]);
}

/** Kinds of lines: severity, what is said, and fields. */
const LINES = [
  [
    9,
    (i) => `GET /api/items/${i} 200 in ${(i % 40) + 3} ms`,
    (i) => ({ 'http.status': 200, 'http.route': '/api/items', took: (i % 40) + 3.5 }),
  ],
  [9, (i) => `order ${10_000 + i} placed by user-${i % 17}`, (i) => ({ user: `user-${i % 17}`, paid: i % 3 !== 0 })],
  [5, (i) => `cache hit for key item:${i}`, () => ({ cache: 'items' })],
  [13, (i) => `slow query took ${800 + i} ms`, (i) => ({ db: 'orders', took: 800 + i })],
  [
    17,
    (i) => `POST /api/pay 503 upstream timeout after ${5000 + (i % 9)} ms`,
    () => ({ 'http.status': 503, 'http.route': '/api/pay' }),
  ],
  [9, (i) => `cart of user-${i % 17} has ${(i % 6) + 1} items`, (i) => ({ user: `user-${i % 17}` })],
];

/** Half an hour of logs of three services, and lines that a page must not believe. */
async function seedLogs() {
  const now = Date.now();
  const records = (of) =>
    Array.from({ length: 400 }, (_, i) => {
      const [severity, body, fields] = LINES[((i * 7919 + of * 31) >>> 3) % LINES.length];
      const time = now - 2000 - i * 4200 - (of * 997 + ((i * 7919) % 1500));
      return { time, severity, body: body(i), fields: fields(i), ...(severity > 12 ? { trace: TRACE } : {}) };
    });
  await cluster.writeLogs({ checkout: records(1), cart: records(2), frontend: records(3) });
  await cluster.writeLogs({
    hostile: Object.entries(HOSTILE).map(([kind, text], i) => ({
      time: now - 5000 - i,
      severity: 21,
      body: `${kind} ${text}`,
      fields: { kind, text, [`<b>${kind}</b>`]: text.slice(0, 20) },
    })),
  });
}

/** A tenant of its own with a quiet half hour, and an incident in three minutes of it: what a comparison has to name. */
const INCIDENT = { tenant: `incident-${process.pid}`, from: 0, to: 0 };

async function seedIncident() {
  const end = Math.floor(Date.now() / 60_000) * 60_000;
  Object.assign(INCIDENT, { from: end - 15 * 60_000, to: end - 12 * 60_000 });
  const times = Array.from({ length: 360 }, (_, i) => end - (359 - i) * 5000);
  const isIn = (time) => time >= INCIDENT.from && time < INCIDENT.to;
  let id = 0;
  const record = (time, more) => ({
    time,
    body: 'order taken',
    ...more,
    fields: { region: ['us-east', 'us-west'][id % 2], request_id: `r-${id++}`, ...more?.fields },
  });
  await cluster.writeLogs({ cart: times.flatMap((time) => [record(time), record(time + 1000)]) }, 1, INCIDENT.tenant);
  await cluster.writeLogs(
    {
      payment: times.filter(isIn).flatMap((time) =>
        Array.from({ length: 12 }, (_, i) =>
          record(time + i, {
            severity: 17,
            body: 'the bank does not answer',
            fields: { region: 'eu-west', bank: HOSTILE.markup, note: HOSTILE.long },
          }),
        ),
      ),
    },
    1,
    INCIDENT.tenant,
  );
  const series = (labels, value) => ({
    labels: { __name__: 'shop_queue_length', job: 'shop', ...labels },
    samples: times.map((time) => [time, value(time)]),
  });
  await cluster.write(
    [
      ...['us-east', 'us-west'].flatMap((region) =>
        ['cart', 'mail'].map((service) => series({ region, service }, () => 10)),
      ),
      series({ region: 'eu-west', service: 'payment', bank: HOSTILE.markup }, (time) => (isIn(time) ? 160 : 10)),
      series({ region: 'eu-west', service: 'sink' }, () => -5),
    ],
    1,
    INCIDENT.tenant,
  );
}

/** Records of the last hour that a search finds. */
async function logCount(query) {
  const answer = await fetch(`${cluster.url()}/api/v1/logs/top?field=level&query=${encodeURIComponent(query)}`);
  return (await answer.json()).data.total;
}

async function main() {
  instance = await browser();
  await cluster.start();
  await seed();
  await seedLogs();
  await seedSpans(cluster, HOSTILE);
  await seedIncident();
  await seedAsk(cluster);
  await seedPages(cluster);
  await seedDashboards(cluster);
  await until(
    'the cluster monitors itself',
    // Pages look at whole steps, the last of which may lie a little back.
    async () => (await cluster.query('count(rate(process_cpu_seconds_total[1m] offset 5s))')).length === 1,
  );

  for (const theme of ['dark', 'light']) {
    for (const [name, path, wanted, act] of SCREENS) {
      await test(`${name}, ${theme}`, () =>
        onPage({ theme }, async (page) => {
          await go(page, typeof path === 'string' ? path : path());
          await page.waitForSelector(wanted);
          await act?.(page);
          await settled(page);
          await sleep(250);
          if (shots) await page.screenshot({ path: join(shots, `${name}-${theme}.png`) });
          if (images && PICTURES.includes(name) && (theme === 'dark' || name === 'home')) {
            mkdirSync(images, { recursive: true });
            await page.screenshot({
              path: join(images, `${name}${theme === 'light' ? '-light' : ''}.jpg`),
              type: 'jpeg',
              quality: 55,
            });
          }
          await clean(page, name);
        }));
    }
  }

  await test('a link is the view: back, forward, reload, frozen', () =>
    onPage({}, async (page) => {
      await go(page, '/explore');
      await type(page, QUERY);
      await page.keyboard.press('Control+Enter');
      await page.waitForSelector('[data-testid=chart] canvas');
      assert(new URL(page.url()).searchParams.get('q')?.includes('process_cpu'), 'the query is in the address');
      await page.getByRole('tab', { name: 'Table' }).click();
      await page.waitForSelector('[role=table]');
      await page.goBack();
      await page.waitForSelector('[data-testid=chart] canvas');
      await page.goForward();
      await page.waitForSelector('[role=table]');
      await page.reload();
      await page.waitForSelector('[role=table]');
      await page.locator('h1').click();
      await page.keyboard.press('t');
      await page.keyboard.press('f');
      await page.waitForFunction(() => /from=(%22)?\d{13}/.test(location.search));
    }));

  await test('a wrong query is named, and where', () =>
    onPage({}, async (page) => {
      await go(page, explore('sum(rate(up[5m])'));
      await page.waitForSelector('[role=alert]');
      const text = await page.locator('[role=alert]').first().innerText();
      assert(/not valid/.test(text) && /parse error/.test(text), text);
    }));

  await test('nothing is told from no such metric and from another time', () =>
    onPage({}, async (page) => {
      await go(page, explore('no_such_metric_at_all'));
      await page.getByText('There is no metric no_such_metric_at_all').waitFor();
      await go(page, `/explore?q=${encodeURIComponent('["hostile_values"]')}&from=2020-01-01&to=2020-01-02`);
      await page.getByText('Nothing in this time range').waitFor();
      await page.getByRole('button', { name: 'Go there' }).click();
      await page.waitForSelector('[data-testid=chart] canvas');
    }));

  await test('completion finds metrics by the server', () =>
    onPage({}, async (page) => {
      await go(page, '/explore');
      const editor = page.locator('.cm-content').first();
      await editor.click();
      await page.keyboard.type('pharos_shard_la', { delay: 20 });
      await page.locator('.cm-tooltip-autocomplete li', { hasText: 'pharos_shard_lag_entries' }).waitFor();
    }));

  await test('exemplars are dots, and a click shows them', () =>
    onPage({}, async (page) => {
      await go(page, exploreSeeded('rate(seeded_requests_total[1m])', '&exemplars=true'));
      await page.getByText(/Exemplars \(6\)/).waitFor();
      await settled(page);
      await sleep(300);
      // The dots lie on known values: their places are read from the chart's own scales by trying them out.
      const box = await page.locator('.u-over').boundingBox();
      let shown = false;
      for (let x = 2; x < box.width && !shown; x += 4) {
        for (let y = 4; y < box.height && !shown; y += 12) {
          await page.mouse.move(box.x + x, box.y + y);
          shown = await page.evaluate(
            () => document.querySelector('.chart-tip:not([hidden])')?.textContent?.includes('trace_id') ?? false,
          );
          if (shown) await page.mouse.click(box.x + x, box.y + y);
        }
      }
      assert(shown, 'a dot is under some point of the chart');
      await page.getByRole('dialog').getByText('4bf92f3577b34da6', { exact: false }).waitFor();
      await page.getByRole('link', { name: 'Open its trace' }).click();
      await page.waitForURL(/\/trace\/4bf92f3577b34da6/);
      await page.locator('.wf-row', { hasText: 'POST /orders' }).waitFor();
    }));

  await test('a drag zooms, a double click zooms out', () =>
    onPage({}, async (page) => {
      await go(page, explore(QUERY));
      await page.waitForSelector('.u-over');
      await settled(page);
      const box = await page.locator('.u-over').boundingBox();
      await page.mouse.move(box.x + box.width * 0.4, box.y + 50);
      await page.mouse.down();
      await page.mouse.move(box.x + box.width * 0.6, box.y + 60, { steps: 5 });
      await page.mouse.up();
      await page.waitForFunction(() => /from=(%22)?\d{13}/.test(location.search));
      const [from, to] = await page.evaluate(() =>
        ['from', 'to'].map((k) => Number((new URLSearchParams(location.search).get(k) ?? '').replaceAll('"', ''))),
      );
      assert(to - from > 60_000 && to - from < 400_000, `zoomed to ${to - from} ms`);
    }));

  await test('hostile text is text, everywhere', () =>
    onPage({}, async (page) => {
      // A query at one moment looks back five minutes.
      await seed();
      const places = [
        exploreSeeded('hostile_values'),
        exploreSeeded('hostile_values', '&view=table'),
        '/browse?metric=hostile_values&by=text',
        '/cardinality?limit=500',
        '/cardinality?focus=hostile_values',
        `/explore?q=${encodeURIComponent(JSON.stringify([`hostile_values{text=${JSON.stringify(HOSTILE.markup)}}`]))}`,
        `/browse?search=${encodeURIComponent(HOSTILE.markup)}`,
      ];
      for (const path of places) {
        await go(page, path);
        await settled(page);
        await sleep(200);
        assert((await page.evaluate(() => window.hacked)) === undefined, `${path} ran what a label says`);
        const made = await page.evaluate(
          () => document.querySelectorAll('#root img, #root script, #root iframe, svg[onload]').length,
        );
        assert(made === 0, `${path} made elements of what a label says`);
      }
      await go(page, exploreSeeded('hostile_values{kind="markup"}', '&view=table'));
      await page.getByText('<script>window.hacked=1</script>', { exact: false }).first().waitFor();
    }));

  await test('logs are searched, narrowed, opened, and the link is the view', () =>
    onPage({}, async (page) => {
      await go(page, '/logs?from=now-1h&to=now');
      await page.waitForSelector('.log-row');
      const total = async () =>
        Number((await page.getByTestId('log-total').innerText()).split(' records')[0].replace(/\D/g, ''));
      await until('all are counted', async () => (await total()) >= 1200);
      const search = page.getByTestId('log-editor').locator('.cm-content');
      await search.click();
      await page.keyboard.insertText('service.name:checkout level>=warn');
      await page.keyboard.press('Escape');
      await page.keyboard.press('Enter');
      await page.waitForURL(/q=service/);
      const wanted = await logCount('service.name:checkout level>=warn');
      await until('the search counts what the server counts', async () => (await total()) === wanted);
      await settled(page);
      await page.locator('.facet-value', { hasText: 'error' }).click();
      await page.waitForURL(/level%3Aerror/);
      const errors = await logCount('service.name:checkout level>=warn level:error');
      await until('the filter counts', async () => (await total()) === errors);
      // A row that is about to be replaced by those of the filter takes no click.
      await settled(page);
      await page.locator('.log-row').first().click();
      const record = page.getByTestId('log-record');
      await record.getByText(TRACE).waitFor();
      await record.getByRole('tab', { name: 'Surroundings' }).click();
      await record.getByTestId('log-around').locator('li.is-this', { hasText: 'upstream timeout' }).waitFor();
      assert((await record.getByTestId('log-around').locator('li').count()) > 5, 'lines around it');
      await page.reload();
      await page.getByTestId('log-record').getByText(TRACE).waitFor();
      // Without the list, too: the link finds its record by itself.
      await page.keyboard.press('Escape');
      await page.getByTestId('log-record').waitFor({ state: 'detached' });
      await page.locator('h1').click();
      await page.keyboard.press('j');
      await page.getByTestId('log-record').waitFor();
    }));

  await test('all logs come by scrolling', () =>
    onPage({}, async (page) => {
      await go(page, '/logs?from=now-1h&to=now&q=service.name%3Acart');
      await page.waitForSelector('.log-row');
      const list = page.getByTestId('log-list');
      const wanted = await logCount('service.name:cart');
      assert(wanted >= 400, `${wanted} lines are there`);
      await until('the last one is reached', async () => {
        await list.evaluate((box) => box.scrollTo({ top: box.scrollHeight }));
        return (await page.locator(`.log-row[aria-posinset="${wanted}"]`).count()) === 1;
      });
      assert((await page.locator('.log-row').count()) < 150, 'only rows in sight are in the page');
    }));

  await test('a drag over the bars zooms into logs', () =>
    onPage({}, async (page) => {
      await go(page, '/logs?from=now-1h&to=now');
      await page.waitForSelector('.log-bars rect');
      await settled(page);
      const box = await page.locator('.log-bars').boundingBox();
      await page.mouse.move(box.x + box.width * 0.6, box.y + 20);
      await page.mouse.down();
      await page.mouse.move(box.x + box.width * 0.8, box.y + 20, { steps: 4 });
      await page.mouse.up();
      await page.waitForFunction(() => /from=(%22)?\d{13}/.test(location.search));
      await page.waitForSelector('.log-row');
    }));

  await test('what tells an incident from the rest is named: of logs', () =>
    onPage({}, async (page) => {
      await go(page, incident('/logs'));
      await page.waitForSelector('.log-bars rect');
      await settled(page);
      // 27 minutes are shown, and the fourteenth to the seventeenth are chosen.
      await choosePart(page, '.log-bars', 14.05 / 27, 16.95 / 27);
      await until('the part is in the address', () => parameter(page, 'part') === `${INCIDENT.from}-${INCIDENT.to}`);
      assert((await page.getByTestId('chosen').innerText()).includes('504 records'), 'they are counted');
      const asked = [];
      page.on('request', (request) => request.url().includes('/logs/top') && asked.push(request.url()));
      await page.getByRole('button', { name: 'Compare selection' }).click();
      const compare = page.getByTestId('compare');
      await compare.getByText('6 fields compared').waitFor();
      assert(asked.length <= 16, `${asked.length} questions`);
      await compare.getByText('504 records chosen').waitFor();
      await compare.getByText('576 others').waitFor();
      await compare.getByText('more than 1 000 values: request_id').waitFor();
      const service = await compare.locator('.compare-field', { hasText: 'service.name' }).innerText();
      assert(/^service\.name\s+86 %\s+payment\s+86 %\s+0 %\s+cart\s+14 %\s+100 %$/.test(service.trim()), service);
      assert((await page.evaluate(() => window.hacked)) === undefined, 'it ran what a value says');
      assert((await compare.locator('img, script').count()) === 0, 'it made elements of what a value says');
      // The link is the view; a value narrows the search.
      await page.reload();
      await compare.locator('li button', { hasText: 'payment' }).click();
      await page.waitForURL(/q=service.name/);
      await compare.waitFor({ state: 'detached' });
      await page.getByTestId('log-total').getByText('432 records').waitFor();
      // Nothing else lies in the range now: as long a time before is what there is to compare with.
      await page.getByRole('button', { name: 'Compare selection' }).click();
      await compare.getByText('There is nothing to compare it with').waitFor();
      // A drag as ever zooms.
      await page.getByRole('button', { name: 'Zoom in' }).click();
      await page.waitForURL((url) => url.searchParams.get('from')?.includes(String(INCIDENT.from)));
      assert(parameter(page, 'part') === null, 'a part that is all is none');
    }));

  await test('a comparison of logs tells what it could not ask, and ends with its panel', () =>
    onPage({}, async (page) => {
      await page.route(/\/logs\/top.*field=region/, (route) =>
        route.fulfill({
          status: 400,
          contentType: 'application/json',
          body: JSON.stringify({ status: 'error', errorType: 'execution', error: 'too much memory' }),
        }),
      );
      await go(page, incident('/logs', chosen()));
      const compare = page.getByTestId('compare');
      await compare.getByText('Could not be compared: region. too much memory').waitFor();
      await compare.getByText('5 fields compared').waitFor();
      await clean(page, 'a comparison with a failure');
      await page.unroute(/\/logs\/top.*field=region/);
      await compare.getByRole('button', { name: 'Try again' }).click();
      await compare.getByText('6 fields compared').waitFor();
      // Questions that are under way when the panel is closed are ended.
      await page.locator('h1').click();
      await page.keyboard.press('Escape');
      await compare.waitFor({ state: 'detached' });
      const held = [];
      await page.route(/\/logs\/top.*field=bank/, (route) => void held.push(route));
      const ended = [];
      page.on('requestfailed', (request) => ended.push(request.url()));
      await page.keyboard.press('c');
      await page.getByLabel('First moment of the chosen part').waitFor();
      await until('an edge has the keys', () =>
        page.evaluate(() => document.activeElement?.getAttribute('aria-label') === 'First moment of the chosen part'),
      );
      const before = parameter(page, 'part');
      await page.keyboard.press('ArrowRight');
      await until('the edge has moved', () => parameter(page, 'part') !== before);
      await page.keyboard.press('c');
      await until('a question is held', () => held.length === 1);
      await page.getByRole('button', { name: 'Close the comparison' }).click();
      await until('it is ended', () => ended.some((url) => url.includes('field=bank')));
    }));

  await test('what tells an incident from the rest is named: of series', () =>
    onPage({}, async (page) => {
      await go(page, incident('/explore', { q: QUEUES }));
      await page.waitForSelector('.u-over');
      await settled(page);
      await choosePart(page, '.u-over', 14 / 27, 16.9 / 27);
      await page.getByRole('button', { name: 'Compare selection' }).click();
      const compare = page.getByTestId('compare');
      const region = compare.locator('.compare-field', { hasText: 'region' });
      await region.waitFor();
      const names = await compare.locator('.compare-field h3 bdi').allInnerTexts();
      assert(names.join() === 'bank,region,service', names.join());
      assert(/^region\s+\d\d %\s+eu-west/.test((await region.innerText()).trim()), await region.innerText());
      await compare.getByText('numbers below zero are left out').waitFor();
      assert((await page.evaluate(() => window.hacked)) === undefined, 'it ran what a label says');
      // A click draws only what has the value, another one all.
      const value = region.locator('li button', { hasText: 'eu-west' });
      const drawn = () => page.locator('.legend tbody tr:not(.is-off)').count();
      assert((await drawn()) === 10, `${await drawn()} series`);
      await value.click();
      await until('two are drawn', async () => (await drawn()) === 2);
      await value.click();
      await until('all are drawn', async () => (await drawn()) === 10);
      // The other query has its own total, and a link says which.
      await compare.getByRole('button', { name: 'B', exact: true }).click();
      await until('one label differs', async () => (await compare.locator('.compare-field').count()) === 1);
      await page.reload();
      await compare.getByRole('button', { name: 'B', exact: true, pressed: true }).waitFor();
      // The editor takes the keys when it comes.
      await settled(page);
      // By keys alone: nothing chosen, a part, its edge, the comparison.
      await page.locator('h1').click();
      await page.keyboard.press('Escape');
      await page.getByRole('button', { name: 'Compare a part' }).waitFor();
      await page.keyboard.press('c');
      await until('a part is chosen', () => parameter(page, 'part') !== null);
      const before = parameter(page, 'part');
      await page.getByLabel('First moment of the chosen part').focus();
      await page.keyboard.press('ArrowLeft');
      await until('the edge has moved', () => parameter(page, 'part') !== before);
      await page.keyboard.press('c');
      await compare.waitFor();
      await page.getByRole('button', { name: 'Zoom in' }).click();
      await until('it is the range', () => Number(parameter(page, 'to')) - Number(parameter(page, 'from')) < 600_000);
      assert(parameter(page, 'part') === null && parameter(page, 'compare') === null, page.url());
    }));

  await test('a part of a panel is compared, of the panel that it was dragged over', () =>
    onPage({}, async (page) => {
      await go(page, '/dashboards/pharos-queries?from=now-15m&to=now');
      const panel = page.locator('[data-testid=panel][data-kind=timeseries]').nth(1);
      await panel.locator('.u-over').waitFor();
      await settled(page);
      const title = await panel.locator('.panel-title').innerText();
      await panel.scrollIntoViewIfNeeded();
      const box = await panel.locator('.u-over').boundingBox();
      await page.keyboard.down('Shift');
      await page.mouse.move(box.x + box.width * 0.7, box.y + 20);
      await page.mouse.down();
      await page.mouse.move(box.x + box.width * 0.9, box.y + 30, { steps: 6 });
      await page.mouse.up();
      await page.keyboard.up('Shift');
      await page.getByTestId('compare').waitFor();
      await until('one panel is left', async () => (await page.getByTestId('panel').count()) === 1);
      assert((await page.locator('.panel-title').innerText()) === title, 'another panel answered');
      assert(parameter(page, 'from') === 'now-15m', 'no other panel has zoomed');
      await settled(page);
      await clean(page, 'a panel with its comparison');
      await page.goBack();
      await until('all panels are back', async () => (await page.getByTestId('panel').count()) > 3);
      await panel.hover();
      await panel.getByRole('button', { name: /^Panel/ }).click();
      await page.getByRole('menuitem', { name: /Compare a part/ }).click();
      await page.getByTestId('compare').waitFor();
      await page.getByTestId('part').waitFor();
    }));

  await test('the search of logs completes fields and values by the server', () =>
    onPage({}, async (page) => {
      await go(page, '/logs');
      const search = page.getByTestId('log-editor').locator('.cm-content');
      await search.click();
      await page.keyboard.type('http.rou', { delay: 20 });
      const field = page.locator('.cm-tooltip-autocomplete li', { hasText: 'http.route:' });
      await field.waitFor();
      // The list takes no key in its first moments: they may be meant for the text.
      await until('the field is chosen', async () => {
        await page.keyboard.press('ArrowDown');
        return (await field.getAttribute('aria-selected')) === 'true';
      });
      await page.keyboard.press('Enter');
      await page.keyboard.type('"/api/p', { delay: 20 });
      await page.locator('.cm-tooltip-autocomplete li', { hasText: '/api/pay' }).waitFor();
    }));

  await test('a wrong search of logs is named, and where', () =>
    onPage({}, async (page) => {
      await go(page, `/logs?q=${encodeURIComponent('level:error AND (')}`);
      const alert = page.locator('[role=alert]').first();
      await alert.getByText('a term is due', { exact: false }).waitFor();
      assert((await alert.locator('pre').innerText()).includes('^'), 'the place is shown');
    }));

  await test('a pattern narrows the search to its lines', () =>
    onPage({}, async (page) => {
      await go(page, '/logs?from=now-1h&to=now&view=patterns');
      const row = page.getByTestId('patterns').locator('tr', { hasText: 'POST /api/pay' });
      await row.waitFor();
      const count = (await row.locator('td').first().innerText()).trim();
      await row.locator('.pattern-text').click();
      await until('as many as the pattern says', async () =>
        (await page.getByTestId('log-total').innerText()).startsWith(`${count} records`),
      );
    }));

  await test('the live tail shows a line that was just written, and pauses', () =>
    onPage({}, async (page) => {
      await go(page, `/logs?live=true&q=${encodeURIComponent('service.name:tailed')}`);
      await page.getByTestId('live-state').getByText(/Live$/).waitFor();
      const write = (body) => cluster.writeLogs({ tailed: [{ time: Date.now(), body }] });
      await write('the first line of the tail');
      await page.locator('.log-row', { hasText: 'the first line of the tail' }).waitFor();
      await page.getByRole('button', { name: 'Pause' }).click();
      await write('a line that waits');
      await page.getByRole('button', { name: '1 new' }).waitFor();
      assert((await page.locator('.log-row', { hasText: 'a line that waits' }).count()) === 0, 'it stands still');
      await page.getByRole('button', { name: '1 new' }).click();
      await page.locator('.log-row', { hasText: 'a line that waits' }).waitFor();
    }));

  await test('hostile log lines are text', () =>
    onPage({}, async (page) => {
      const query = encodeURIComponent('service.name:hostile');
      for (const more of ['', '&wrap=true', '&view=patterns', '&columns=%5B%22text%22%5D']) {
        await go(page, `/logs?from=now-1h&to=now&q=${query}${more}`);
        await page.waitForSelector(more.includes('patterns') ? '[data-testid=patterns] tbody tr' : '.log-row');
        await settled(page);
        if (!more.includes('patterns')) {
          await page.locator('.log-row', { hasText: 'markup' }).click();
          await page.getByTestId('log-record').getByText('<b>markup</b>').first().waitFor();
          await page.getByTestId('log-record').getByRole('tab', { name: 'JSON' }).click();
        }
        assert((await page.evaluate(() => window.hacked)) === undefined, `${more} ran what a line says`);
        const made = await page.evaluate(
          () => document.querySelectorAll('#root img, #root script, #root iframe, svg[onload], .log-body b').length,
        );
        assert(made === 0, `${more} made elements of what a line says`);
      }
      await page.locator('.log-row', { hasText: '<script>window.hacked=1</script>' }).waitFor();
      await page.locator('.log-row', { hasText: 'bell␇ esc' }).waitFor();
    }));

  await test('traces are searched, narrowed, opened, and a span shows its logs', () =>
    onPage({}, async (page) => {
      await go(page, '/traces?from=now-1h&to=now');
      await page.waitForSelector('.trace-list [role=cell]');
      await page.getByLabel('Service', { exact: true }).fill('checkout');
      await page.keyboard.press('Enter');
      await page.waitForURL(/service=checkout/);
      await page.getByLabel('Status').selectOption('error');
      await page.waitForURL(/status=error/);
      await page.getByText('resource.service.name = "checkout" && status = error').waitFor();
      await settled(page);
      const shown = page.locator('.trace-list [role=rowgroup] [role=row]');
      await until('only failed ones are shown', async () => {
        const rows = await shown.allInnerTexts();
        return rows.length > 3 && rows.every((row) => /■/.test(row));
      });
      await page.getByRole('button', { name: 'Slowest' }).click();
      await page.waitForURL(/order=slowest/);
      await settled(page);
      await page.reload();
      await page.waitForSelector('.trace-list [role=cell]');
      await page.getByLabel('Attribute, key=value').fill('region=nowhere');
      await page.keyboard.press('Enter');
      await page.getByText('No trace matches in this time').waitFor();
      await page.getByRole('button', { name: 'Without the condition region=nowhere' }).click();
      await page.waitForSelector('.trace-list [role=cell]');
      await page.locator('.trace-root-link').first().click();
      await page.waitForURL(/\/trace\//);
      await page.waitForSelector('.wf-row');

      await go(page, `/trace/${TRACE}`);
      await page.locator('.wf-row', { hasText: 'POST /orders' }).click();
      await page.waitForURL(new RegExp(`span=%22${SPAN}|span=${SPAN}`));
      const drawer = page.getByTestId('span-drawer');
      await drawer.getByText('order.items').waitFor();
      await drawer.getByRole('tab', { name: /^Logs \d+/ }).click();
      await drawer.getByTestId('span-logs').locator('li').first().waitFor();
      const there = await drawer.getByTestId('span-logs').locator('li').count();
      assert(there > 5, `${there} lines of the span`);
      await drawer.getByRole('link', { name: 'Logs of the span' }).click();
      await page.waitForURL(/\/logs\?/);
      await page.waitForSelector('.log-row');
      // And back: the record knows its trace.
      await page.locator('.log-row').first().click();
      await page.getByTestId('log-record').locator('.trace-chip').click();
      await page.waitForURL(new RegExp(`/trace/${TRACE}`));
      await page.getByTestId('span-drawer').getByText('order.items').waitFor();
    }));

  await test('all traces come by scrolling', () =>
    onPage({}, async (page) => {
      await go(page, '/traces?from=now-1h&to=now&service=mail');
      await page.waitForSelector('.trace-list [role=cell]');
      const table = page.getByRole('table', { name: 'Traces' });
      await until('the last one is reached', async () => {
        await table.evaluate((box) => box.scrollTo({ top: box.scrollHeight }));
        return /^247 traces ·/.test(await page.getByTestId('trace-count').innerText());
      });
      assert((await page.locator('.trace-list [role=rowgroup] [role=row]').count()) < 80, 'only rows in sight');
    }));

  await test('TraceQL completes by the server, and an error is named at its place', () =>
    onPage({}, async (page) => {
      await go(page, '/traces?from=now-1h&to=now');
      await page.getByTestId('traceql-editor').locator('.cm-content').click();
      await page.keyboard.type('{ span.db.sy', { delay: 20 });
      await page.locator('.cm-tooltip-autocomplete li', { hasText: 'span.db.system' }).waitFor();
      await page.keyboard.type('stem = "po', { delay: 20 });
      await page.locator('.cm-tooltip-autocomplete li', { hasText: 'postgresql' }).waitFor();
      await page.keyboard.press('Escape');
      await page.keyboard.press('Control+a');
      await page.keyboard.press('Backspace');
      await page.keyboard.insertText('{ name = }');
      await page.keyboard.press('Escape');
      await page.keyboard.press('Enter');
      const alert = page.getByRole('alert').first();
      await alert.getByText('line 1, col 10', { exact: false }).waitFor();
      assert((await alert.locator('pre').innerText()).split('\n')[1].indexOf('^') === 9, await alert.innerText());
      await page.locator('.cm-lintRange-error').first().waitFor();
    }));

  await test('a trace is found by its id, with zeros or without, and by what a header says', () =>
    onPage({}, async (page) => {
      for (const [text, wanted] of [
        ['abc123', 'late part'],
        [BROKEN.toUpperCase(), 'late part'],
        [`00-${TRACE}-${SPAN}-01`, 'POST /orders'],
      ]) {
        await go(page, '/traces');
        await page.getByTestId('traceql-editor').locator('.cm-content').click();
        await page.keyboard.insertText(text);
        await page.keyboard.press('Escape');
        await page.keyboard.press('Enter');
        await page.locator('.wf-row', { hasText: wanted }).waitFor();
      }
      await page.getByTestId('span-drawer').waitFor();
      await page.keyboard.press('Control+k');
      await page.getByRole('dialog').getByRole('combobox').fill('abc12300');
      await page.getByRole('option', { name: /abc12300/ }).waitFor();
      await page.keyboard.press('Enter');
      await page.getByText('There is no trace abc12300').waitFor();
      await page.keyboard.press('Control+k');
      await page.getByRole('dialog').getByRole('combobox').fill('checko');
      await page.getByRole('option', { name: /^checkout/ }).click();
      await page.waitForURL(/\/services\?.*service=checkout/);
    }));

  await test('two traces of the list are compared', () =>
    onPage({}, async (page) => {
      await go(page, '/traces?order=slowest');
      const row = (id) => page.getByRole('row').filter({ has: page.locator(`a[href*="/trace/${id}"]`) });
      await row(SLOW).getByRole('button', { name: 'Compare with another trace' }).click();
      await page.getByRole('status').getByText('choose the other one').waitFor();
      assert(new URL(page.url()).pathname === '/traces', 'a button of a row does not open the trace');
      await clean(page, 'the list while two are chosen');
      if (shots) await page.screenshot({ path: join(shots, 'traces-two.png') });
      await page.keyboard.press('Escape');
      await page.getByText('choose the other one').waitFor({ state: 'detached' });
      await row(SLOW).getByRole('button', { name: 'Compare with another trace' }).click();
      await page.getByRole('button', { name: 'Compare the two traces' }).first().click();
      await page.waitForURL(new RegExp(`/trace/${SLOW}.*view=compare.*with=`));
      await page.getByTestId('compare-traces').getByRole('table', { name: 'Operations of both traces' }).waitFor();
    }));

  await test('a trace is compared with another one, operation by operation', () =>
    onPage({}, async (page) => {
      await go(page, `/trace/${TRACE}`);
      await page.waitForSelector('.wf-row');
      await page.getByRole('button', { name: 'Compare', exact: true }).click();
      const box = page.getByTestId('compare-traces');
      await box.getByText(SLOW).waitFor();
      await box.getByRole('row').filter({ hasText: SLOW }).getByRole('button').click();
      await page.waitForURL(new RegExp(`with=.*${SLOW}`));
      const rows = box.getByRole('table', { name: 'Operations of both traces' }).getByRole('rowgroup').getByRole('row');
      await rows.first().waitFor();
      assert((await rows.count()) === 11, `${await rows.count()} operations`);
      // The slow one takes most of its time where nothing is called any more.
      const first = await rows.first().innerText();
      assert(/^payment\s+POST \/pay\s+1\s+1\s+0\s+1\s/.test(first) && /−[\d.]+ (ms|s)$/.test(first.trim()), first);
      // The link is the view; the other way round is the other trace's page.
      await page.reload();
      await box.getByRole('link', { name: 'The other way round' }).click();
      await page.waitForURL(new RegExp(`/trace/${SLOW}.*${TRACE}`));
      await until('it is the difference of the other', async () =>
        /\+[\d.]+ (ms|s)$/.test((await rows.first().innerText()).trim()),
      );
      await rows.first().getByRole('button').click();
      await page.locator('.wf-row.is-hit', { hasText: 'POST /pay' }).waitFor();
      // An id that is pasted; one that is not there; one whose names are hostile.
      await page.getByRole('button', { name: 'Compare', exact: true }).click();
      await box.getByRole('button', { name: 'Another trace' }).click();
      await box.getByLabel('Id of the other trace').fill('12300');
      await box.getByLabel('Id of the other trace').press('Enter');
      await box.getByRole('alert').waitFor();
      await box.getByLabel('Id of the other trace').fill(HOSTILE_TRACE);
      await box.getByLabel('Id of the other trace').press('Enter');
      await box.getByText('markup <img src=x', { exact: false }).first().waitFor();
      assert((await page.evaluate(() => window.hacked)) === undefined, 'it ran what a name says');
      assert((await box.locator('img, script').count()) === 0, 'it made elements of what a name says');
    }));

  await test('a trace of ten thousand spans is walked, searched, folded and zoomed', () =>
    onPage({}, async (page) => {
      await go(page, `/trace/${LARGE}`);
      await page.waitForSelector('.wf-row');
      await page.locator('.trace-head').getByText('10 000').waitFor();
      const rows = page.locator('.wf-row');
      assert((await rows.count()) < 120, `${await rows.count()} rows are in the page`);
      const tree = page.getByTestId('waterfall');
      const frames = await tree.evaluate(async (box) => {
        const times = [];
        let last = performance.now();
        for (let i = 0; i < 120; i++) {
          box.scrollTop += 400;
          await new Promise((done) => requestAnimationFrame(done));
          times.push(performance.now() - last);
          last = performance.now();
        }
        return times.sort((a, b) => a - b);
      });
      console.log(
        `     scrolling: half the frames within ${frames[60].toFixed(1)} ms, 95 % ${frames[114].toFixed(1)} ms`,
      );
      // What is looked for stays, with the way to it; the rest goes.
      const find = page.getByLabel('Find spans');
      await find.fill('needle');
      await until('four are found', async () => /4 found|of 4/.test(await page.getByTestId('trace-hits').innerText()));
      await until(
        'others are hidden',
        async () => (await rows.count()) < 40 && (await page.locator('.is-hit').count()) === 4,
      );
      await find.press('Enter');
      await find.press('Enter');
      await page.waitForURL(/find=needle/);
      await until('the second is gone to', async () =>
        (await page.locator('.wf-row[aria-selected=true]').innerText()).includes('needle'),
      );
      await page.getByLabel('hide others').uncheck();
      await until('others are back', async () => (await rows.count()) > 20);
      await find.press('Escape');
      // From error to error.
      await page.locator('h1').click();
      await page.keyboard.press('e');
      const selected = page.locator('.wf-row[aria-selected=true]');
      await selected.locator('.wf-mark').waitFor();
      const first = await selected.getAttribute('data-span');
      await page.keyboard.press('e');
      await until('the next error', async () => (await selected.getAttribute('data-span')) !== first);
      await page.keyboard.press('Enter');
      await page
        .getByTestId('span-drawer')
        .getByText(/^shard \d+ is gone$/)
        .waitFor();
      await page.keyboard.press('Escape');
      // Levels, and the tree by keyboard.
      await page.getByLabel('Levels that are shown').selectOption('1');
      await until('one row', async () => (await rows.count()) === 1);
      await tree.focus();
      await page.keyboard.press('Home');
      await page.keyboard.press('ArrowRight');
      await until('it is open', async () => (await rows.count()) > 20);
      await page.keyboard.press('ArrowDown');
      await page.keyboard.press('Enter');
      await page.getByTestId('span-drawer').waitFor();
      await page.keyboard.press('ArrowLeft');
      await page.keyboard.press('Escape');
      await page.getByTestId('span-drawer').waitFor({ state: 'detached' });
      // A drag over the strip.
      const strip = await page.getByTestId('minimap').boundingBox();
      await page.mouse.move(strip.x + strip.width * 0.3, strip.y + 20);
      await page.mouse.down();
      await page.mouse.move(strip.x + strip.width * 0.4, strip.y + 20, { steps: 4 });
      await page.mouse.up();
      await page.waitForURL(/time=\d+-\d+/);
      await page.locator('h1').click();
      await page.keyboard.press('0');
      await page.waitForURL((url) => !url.search.includes('time='));
    }));

  await test('a trace is a flame and a graph, too', () =>
    onPage({}, async (page) => {
      await go(page, `/trace/${TRACE}`);
      await page.waitForSelector('.wf-row');
      await page.getByRole('button', { name: 'Flame' }).click();
      await page.waitForURL(/view=flame/);
      const box = await page.getByTestId('flame').boundingBox();
      // The root's box is the first lane, its name the tip's.
      await page.mouse.move(box.x + 60, box.y + 10);
      await page.locator('.flame .chart-tip', { hasText: 'GET /cart' }).waitFor();
      await page.mouse.click(box.x + 60, box.y + 10);
      await page.getByTestId('span-drawer').getByText('http.route').waitFor();
      await page.getByRole('button', { name: 'Graph' }).click();
      await page.getByTestId('service-map').getByRole('link', { name: 'checkout 1 call' }).waitFor();
      await page.getByRole('row', { name: /frontend checkout 1/ }).waitFor();
      await page.getByRole('button', { name: 'Tree' }).click();
      await page.waitForSelector('.wf-row.is-chosen');
    }));

  await test('spans that come after a trace was opened are shown, and nothing else moves', () =>
    onPage({}, async (page) => {
      const trace = '5'.repeat(32);
      const id = (n) => n.toString(16).padStart(16, '0');
      const start = Date.now() - 1000;
      const part = (n, name, more) => ({
        trace,
        id: id(n),
        name,
        start: start + n,
        end: start + 900,
        ...more,
      });
      await cluster.writeSpans({ store: [part(7, 'late read', { parent: id(1) })] });
      await go(page, `/trace/${trace}?span=${id(7)}`);
      const row = (name) => page.locator('.wf-row', { hasText: name });
      await row('late read').getByText('orphan').waitFor();
      await cluster.writeSpans({ web: [part(1, 'GET /late'), part(3, 'early read', { parent: id(1) })] }, 2);
      await row('GET /late').waitFor();
      await row('late read').getByText('orphan').waitFor({ state: 'detached' });
      assert(await page.locator('.wf-row.is-chosen', { hasText: 'late read' }).isVisible(), 'the chosen one stays');
      assert(parameter(page, 'span') === id(7), 'also in the address');
    }));

  await test('parts that are missing, and long silences, are said', () =>
    onPage({}, async (page) => {
      await go(page, '/trace/abc123');
      await page.locator('.wf-row', { hasText: 'late part' }).getByText('orphan').waitFor();
      await page.waitForSelector('.gap-fold');
      await page.getByRole('button', { name: /Show times in which nothing runs/ }).click();
      await page.locator('.gap-fold').first().waitFor({ state: 'detached' });
      await page.locator('.wf-row', { hasText: 'late part' }).click();
      const drawer = page.getByTestId('span-drawer');
      await drawer.getByText('feedfeedfeedfeed').first().waitFor();
      await drawer.getByRole('tab', { name: 'Links 1' }).click();
      await drawer.getByRole('link', { name: TRACE }).click();
      await page.waitForURL(new RegExp(`/trace/${TRACE}`));
      await page.getByTestId('span-drawer').getByText('order.items').waitFor();
    }));

  await test('what is slow is told from the rest', () =>
    onPage({}, async (page) => {
      await go(page, '/traces?from=now-1h&to=now&service=frontend&roots=true');
      await page.waitForSelector('.trace-list [role=cell]');
      await choose(page);
      await page.getByRole('button', { name: 'Compare selection' }).click();
      const field = page.locator('.compare-field', { hasText: 'span.region' });
      await field.waitFor();
      assert((await field.locator('h3').innerText()).includes('100'), await field.innerText());
      const best = await page.locator('.compare-field').first().innerText();
      assert(/100/.test(best), best);
      await field.locator('li button').first().click();
      await page.waitForURL(/eu-west/);
      await page.locator('.trace-tag', { hasText: 'span.region=eu-west' }).waitFor();
      // A zoom takes time and durations along.
      await choose(page);
      await page.getByRole('button', { name: 'Zoom in' }).click();
      await page.waitForURL(/dmin=/);
      assert(/from=(%22)?\d{13}/.test(page.url()), page.url());
      await page.waitForSelector('.trace-list [role=cell]');
    }));

  await test('services have rate, errors and duration, a map, and ways to their signals', () =>
    onPage({}, async (page) => {
      await go(page, '/services?from=now-1h&to=now');
      const row = page.getByRole('row', { name: /checkout/ });
      await row.waitFor();
      const text = await row.innerText();
      assert(/server/.test(text) && /■ \d+(\.\d+)? %/.test(text) && / ms| s/.test(text), text);
      await page.getByRole('tab', { name: 'Map' }).click();
      const map = page.getByTestId('service-map');
      for (const name of ['frontend', 'cart', 'checkout', 'payment', 'mail'])
        await map.getByRole('link', { name: new RegExp(`^${name}`) }).waitFor();
      const x = async (name) => (await map.getByRole('link', { name: new RegExp(`^${name}`) }).boundingBox()).x;
      assert((await x('frontend')) < (await x('checkout')), 'callers stand before whom they call');
      assert((await x('checkout')) < (await x('payment')), 'and so on');
      await page.getByRole('row', { name: /checkout payment 247/ }).waitFor();
      // One and its neighbours.
      await page.getByLabel('Find a service').fill('payment');
      await map.getByRole('link', { name: /^cart/ }).waitFor({ state: 'detached' });
      await map.getByRole('link', { name: /^payment/ }).waitFor();
      await map.getByRole('link', { name: /^checkout/ }).click();
      await page.waitForURL(/service=checkout/);
      await page.waitForSelector('[data-testid=chart] canvas');
      await page.getByRole('row', { name: /POST \/orders/ }).waitFor();
      await page.getByRole('row', { name: /frontend checkout/ }).waitFor();
      await page.getByRole('link', { name: 'Failed ones' }).click();
      await page.waitForURL(/\/traces\?.*status=error/);
      await page.waitForSelector('.trace-list [role=cell]');
      await page.goBack();
      await page.getByRole('link', { name: 'POST /orders' }).click();
      await page.waitForURL(/operation=/);
      await page.waitForSelector('.trace-list [role=cell]');
      await page.locator('h1').click();
      await page.keyboard.press('g');
      await page.keyboard.press('v');
      await page.waitForURL(/\/services/);
      await page.keyboard.press('g');
      await page.keyboard.press('t');
      await page.waitForURL(/\/traces/);
    }));

  await test('metrics made of spans are there for the links of services', async () => {
    await until(
      'calls are counted',
      async () => (await cluster.query('sum(traces_spanmetrics_calls_total{service="checkout"})')).length === 1,
    );
    await onPage({}, async (page) => {
      await go(page, '/services?from=now-15m&to=now&service=checkout');
      await page.getByRole('link', { name: 'Metrics', exact: true }).last().click();
      await page.waitForURL(/\/explore/);
      await page.getByText('traces_spanmetrics_calls_total', { exact: false }).first().waitFor();
    });
  });

  await test('hostile spans are text', () =>
    onPage({}, async (page) => {
      const places = [
        `/trace/${HOSTILE_TRACE}`,
        `/trace/${HOSTILE_TRACE}?span=0000000000000001`,
        `/trace/${HOSTILE_TRACE}?find=${encodeURIComponent('<script>')}`,
        `/traces?from=now-1h&to=now&q=${encodeURIComponent('{ span.kind != nil }')}`,
        `/traces?from=now-1h&to=now&service=${encodeURIComponent(HOSTILE.markup)}`,
        '/services?from=now-1h&to=now',
        `/services?from=now-1h&to=now&service=${encodeURIComponent(HOSTILE.markup)}`,
        '/services?from=now-1h&to=now&view=map',
      ];
      for (const path of places) {
        await go(page, path);
        await settled(page);
        await sleep(200);
        assert((await page.evaluate(() => window.hacked)) === undefined, `${path} ran what a span says`);
        const made = await page.evaluate(
          () =>
            document.querySelectorAll(
              '#root img:not(.cm-widgetBuffer), #root script, #root iframe, svg[onload], #root .record-fields b',
            ).length,
        );
        assert(made === 0, `${path} made elements of what a span says`);
      }
      await go(page, `/trace/${HOSTILE_TRACE}`);
      await page.locator('.wf-row', { hasText: 'control bell␇ esc' }).waitFor();
      await page.locator('.wf-row', { hasText: '<script>window.hacked=1</script>' }).first().click();
      const drawer = page.getByTestId('span-drawer');
      await drawer.getByText('<b>markup</b>').first().waitFor();
      await drawer.getByRole('button', { name: '… all 1,000,000 characters' }).waitFor();
      await clean(page, 'a hostile span');
      for (const name of ['Events 1', 'JSON']) {
        await drawer.getByRole('tab', { name }).click();
        await drawer.getByText('onerror', { exact: false }).first().waitFor();
      }
    }));

  const write = async (page, text, nth = 0) => {
    await page.getByTestId('sql-editor').locator('.cm-content').nth(nth).click();
    await page.keyboard.press('Control+a');
    // Text over coloured text makes the browser itself try an inline style, which the policy refuses.
    await page.keyboard.press('Backspace');
    await page.keyboard.insertText(text);
    await page.keyboard.press('Escape');
  };

  await test('a notebook of SQL runs, is saved and shared', () =>
    onPage({}, async (page, context) => {
      await go(page, '/sql');
      await write(page, 'SELECT kind, count(*) AS samples FROM hostile_values GROUP BY kind ORDER BY kind');
      await page.keyboard.press('Control+Enter');
      const cell = page.getByTestId('sql-cell').first();
      await cell.getByRole('row', { name: /^attribute \d+$/ }).waitFor();
      assert(/^8 rows/.test(await cell.getByTestId('sql-stats').innerText()), 'eight kinds');
      await cell.getByRole('button', { name: 'Explain' }).click();
      await cell.getByTestId('sql-plan').getByText('ClusterScan').waitFor();
      await cell
        .getByTestId('sql-plan')
        .getByText(/shards: .* samples read/)
        .waitFor();
      await page.getByRole('group', { name: 'Add a cell' }).getByRole('button', { name: 'SQL', exact: true }).click();
      await write(page, 'SELECT 9007199254740993 AS big, NULL AS nothing', 1);
      await page.getByRole('button', { name: 'Run all' }).click();
      const second = page.getByTestId('sql-cell').nth(1);
      await second.getByText('9007199254740993', { exact: true }).last().waitFor();
      await second.getByText('NULL', { exact: true }).last().waitFor();
      const download = page.waitForEvent('download');
      await second.getByRole('button', { name: 'CSV' }).click();
      const csv = readFileSync(await (await download).path(), 'utf8');
      assert(csv === 'big,nothing\r\n9007199254740993,', JSON.stringify(csv));
      await page.getByRole('button', { name: 'Save', exact: true }).click();
      await page.getByLabel('Name of the notebook').fill('made by a test');
      await page.getByLabel('Name of the notebook').press('Enter');
      await page.getByRole('button', { name: 'Notebooks (1)' }).waitFor();
      // The link is the notebook, on another node, too.
      const other = await context.newPage();
      const link = new URL(page.url());
      await other.goto(`${cluster.url(2)}${link.pathname}${link.search}`);
      await other.getByTestId('sql-cell').nth(1).getByText('9007199254740993', { exact: true }).last().waitFor();
      await other.getByRole('heading', { name: 'SQL: made by a test' }).waitFor();
      await other.close();
    }));

  await test('an error of SQL is named at its place', () =>
    onPage({}, async (page) => {
      await go(page, '/sql');
      await write(page, 'SELECT name,\n  nothing\nFROM metrics');
      await page.keyboard.press('Control+Enter');
      const alert = page.getByRole('alert');
      await alert.getByText('No field named nothing', { exact: false }).waitFor();
      assert(
        (await alert.locator('pre').innerText()).split('\n')[1].indexOf('^') === 2,
        await alert.locator('pre').innerText(),
      );
      await page.locator('.cm-lintRange-error', { hasText: 'nothing' }).waitFor();
      await page.getByRole('button', { name: 'Explain' }).click();
      await alert.getByText('line 2, column 3', { exact: false }).waitFor();
    }));

  await test('SQL completes tables and columns by the server, and stops when asked to', () =>
    onPage({}, async (page) => {
      await go(page, '/sql');
      await page.getByTestId('sql-editor').locator('.cm-content').click();
      await page.keyboard.type('SELECT * FROM hostile_va', { delay: 20 });
      await page.locator('.cm-tooltip-autocomplete li', { hasText: 'hostile_values' }).waitFor();
      await sleep(200);
      await page.keyboard.press('Enter');
      await page.keyboard.type(' WHERE kin', { delay: 20 });
      await page.locator('.cm-tooltip-autocomplete li', { hasText: 'kind' }).first().waitFor();
      await page.keyboard.press('Escape');
      await write(page, 'SELECT sum(value) FROM generate_series(1, 100000000000)');
      await page.keyboard.press('Control+Enter');
      const running = async () => {
        const answer = await fetch(`${cluster.url()}/api/v1/status/active_queries`);
        return (await answer.json()).data.active.filter((q) => q.query.includes('100000000000')).length;
      };
      await until('it runs', async () => (await running()) > 0);
      await page.getByRole('button', { name: 'Stop' }).click();
      await until('it is stopped on the server', async () => (await running()) === 0);
      await page.getByRole('button', { name: 'Run', exact: true }).waitFor();
    }));

  await test('hostile cells of SQL are text', () =>
    onPage({}, async (page) => {
      await go(page, notebook('SELECT DISTINCT kind, text FROM hostile_values', 'SELECT \'<b>x</b>\' AS "<i>y</i>"'));
      await page.getByRole('cell', { name: '<b>x</b>' }).waitFor();
      await page.getByText('<script>window.hacked=1</script>', { exact: false }).first().waitFor();
      assert((await page.evaluate(() => window.hacked)) === undefined, 'it ran what a cell says');
      const made = await page.evaluate(
        () => document.querySelectorAll('#root img, #root script, .grid-table b, .grid-table i').length,
      );
      assert(made === 0, 'it made elements of what a cell says');
    }));

  await test('the palette finds screens and metrics by keyboard', () =>
    onPage({}, async (page) => {
      await go(page, '/');
      await page.keyboard.press('Control+k');
      await page.getByRole('combobox').fill('shard_lag');
      await page.getByRole('option', { name: /pharos_shard_lag_entries/ }).waitFor();
      await clean(page, 'the palette');
      await page.keyboard.press('Enter');
      await page.waitForURL(/metric=pharos_shard_lag_entries/);
      await page.locator('h1').click();
      await page.keyboard.press('g');
      await page.keyboard.press('n');
      await page.waitForURL(/\/cluster/);
      await page.keyboard.press('?');
      await page.getByRole('dialog').getByText('Freeze the time range').waitFor();
    }));

  await test('a dashboard is made, edited, undone, saved, reloaded, shared', () =>
    onPage({}, async (page, context) => {
      await go(page, '/dashboards/new');
      await page.getByRole('button', { name: 'Add a time series' }).click();
      await page.waitForSelector('[data-testid=preview]');
      await type(page, 'sum by ($by) (rate(process_cpu_seconds_total[$__rate_interval]))');
      await page.getByLabel('Title').fill('Processor by $by');
      await page.getByRole('button', { name: 'Run' }).click();
      await page.getByRole('button', { name: 'Done' }).click();
      await page.getByRole('button', { name: /^Settings/ }).click();
      await page.getByRole('button', { name: 'Add a variable' }).click();
      await page.getByRole('dialog').getByLabel('Name', { exact: true }).fill('by');
      await page.getByRole('dialog').getByLabel('Kind').selectOption('custom');
      await page.getByRole('dialog').getByLabel('Values, with commas between').fill('instance,job');
      await page.getByLabel('several at once').uncheck();
      await page.getByLabel('the choice "All"').uncheck();
      await page.getByRole('dialog').getByRole('button', { name: 'Done' }).click();
      await page.getByRole('heading', { name: 'Processor by instance' }).waitFor();
      await page.waitForSelector('[data-testid=panel] canvas');
      // One more panel, and undo takes it away again.
      await page.getByRole('button', { name: 'Add', exact: true }).click();
      await page.getByRole('menuitem', { name: 'Figure' }).click();
      await page.getByRole('button', { name: 'Done' }).click();
      await until('two panels', async () => (await page.locator('[data-testid=panel]').count()) === 2);
      await page.getByRole('button', { name: 'Undo (Ctrl Z)' }).click();
      await until('one panel', async () => (await page.locator('[data-testid=panel]').count()) === 1);
      await page.getByRole('button', { name: 'Redo (Ctrl Y)' }).click();
      await until('two panels again', async () => (await page.locator('[data-testid=panel]').count()) === 2);
      await page.getByRole('button', { name: 'Undo (Ctrl Z)' }).click();
      await page.getByRole('button', { name: 'Save', exact: true }).click();
      await page.getByRole('dialog').getByLabel('Title').fill('Made by a test');
      await clean(page, 'the dialog of a save');
      await page.getByRole('dialog').getByRole('button', { name: 'Save' }).click();
      await page.waitForURL(/\/dashboards\/made-by-a-test-/);
      await page.waitForSelector('[data-testid=panel] canvas');
      const uid = new URL(page.url()).pathname.split('/').pop();
      // Another node has it, too, and a link with a choice shows the choice.
      await page.goto(`${cluster.url(2)}/dashboards/${uid}?v-by=job`);
      await page.getByRole('heading', { name: 'Processor by job' }).waitFor();
      await page.waitForSelector('[data-testid=panel] canvas');

      // Two people: who saves second is told, and nothing is lost.
      const other = await context.newPage();
      other.setDefaultTimeout(60_000);
      await other.goto(`${cluster.url(3)}/dashboards/${uid}`);
      for (const one of [page, other]) {
        await one.waitForSelector('[data-testid=panel]');
        await one.getByRole('button', { name: 'Edit', exact: true }).click();
        await one.getByRole('button', { name: /^Settings/ }).click();
        await one
          .getByRole('dialog')
          .getByLabel('Tags')
          .fill(one === page ? 'first' : 'second');
        await one.getByRole('dialog').getByRole('button', { name: 'Done' }).click();
      }
      const save = async (one) => {
        await one.getByRole('button', { name: 'Save', exact: true }).click();
        await one.getByRole('dialog').getByRole('button', { name: 'Save', exact: true }).click();
      };
      await save(page);
      await page.getByRole('dialog').waitFor({ state: 'detached' });
      await save(other);
      await other.getByRole('dialog').getByText('Somebody was faster').waitFor();
      await other.getByRole('button', { name: /Save over it/ }).click();
      await other.getByRole('dialog').waitFor({ state: 'detached' });
      const versions = await (await fetch(`${cluster.url()}/api/v1/dashboards/${uid}/versions`)).json();
      assert(versions.data.map((v) => v.tags.join()).join(' ') === 'second first ', JSON.stringify(versions.data));
      await other.close();
    }));

  await test('annotations mark what happened, are told, switched, edited, undone, saved', () =>
    onPage({}, async (page) => {
      const { tenant, to } = INCIDENT;
      const range = `from=${to - 25 * 60_000}&to=${to + 11 * 60_000}&tenant=${tenant}`;
      const target = { refId: 'A', expr: 'sum by (region) (shop_queue_length)' };
      const panel = (id, x) => ({ id, type: 'timeseries', title: `Queue ${id}`, gridPos: { x, y: 0, w: 12, h: 8 } });
      const grafana = {
        title: 'Annotated',
        panels: [
          { ...panel(1, 0), targets: [target] },
          { ...panel(2, 12), targets: [target] },
        ],
        templating: {
          list: [{ name: 'bank', type: 'query', query: 'label_values(shop_queue_length, bank)', includeAll: true }],
        },
        annotations: {
          list: [
            { builtIn: 1, name: 'Annotations & Alerts', datasource: { type: 'grafana', uid: '-- Grafana --' } },
            { name: 'Long queue', expr: 'shop_queue_length{bank=~"$bank"} > 100', textFormat: 'queue of {{bank}}' },
            { name: 'Lines', datasource: { type: 'loki' }, expr: '{service_name="cart"} |= "order"', enable: false },
            { name: 'Deploys', datasource: { type: 'elasticsearch' } },
          ],
        },
      };
      await go(page, `/dashboards?import=true&tenant=${tenant}`);
      await page
        .getByLabel('A file with a dashboard')
        .setInputFiles({ name: 'a.json', mimeType: 'application/json', buffer: Buffer.from(JSON.stringify(grafana)) });
      const report = await page.getByTestId('import-report').innerText();
      assert(report.includes('Deploys') && report.includes('elasticsearch'), report);
      assert(!report.includes('Annotations & Alerts') && !report.includes('Long queue'), report);
      await page.getByRole('dialog').getByRole('button', { name: 'Import', exact: true }).click();
      await page.waitForURL((url) => /\/dashboards\/annotated-[a-z2-9]{5}$/.test(url.pathname));
      const path = new URL(page.url()).pathname;

      // A region on both panels; what a label holds is text.
      await go(page, `${path}?${range}`);
      const bar = page.getByTestId('annotations');
      await until('both panels', async () => (await page.locator('.mark.is-region').count()) === 2);
      await page.locator('.mark-handle.is-region').first().hover();
      const tip = page.getByTestId('mark-tip');
      assert((await tip.innerText()).includes(`queue of ${HOSTILE.markup}`), await tip.innerText());
      if (shots) await page.screenshot({ path: join(shots, 'annotations-dark.png') });
      await clean(page, 'marks with one that is told');
      assert((await page.evaluate(() => window.hacked)) === undefined, 'labels are text');
      await page.mouse.move(0, 0);
      await bar.getByRole('button', { name: 'Marks of Long queue' }).click();
      await page.getByLabel('Marks, the newest first').getByText('queue of').waitFor();
      await clean(page, 'the list of marks');
      await page.keyboard.press('Escape');

      // Switches are in the address, and a link shows what they say.
      await bar.getByRole('checkbox', { name: 'Lines' }).check();
      await bar.getByText(/newest 500/).waitFor();
      await bar.getByRole('checkbox', { name: 'Long queue' }).uncheck();
      await until('no region', async () => (await page.locator('.mark.is-region').count()) === 0);
      await page.reload();
      await bar.getByText(/newest 500/).waitFor();
      assert(!(await bar.getByRole('checkbox', { name: 'Long queue' }).isChecked()), 'a link says what is off');

      // Another one, of the search of logs, with a text of fields; undone and done again.
      await go(page, `${path}?${range}`);
      await page.getByRole('button', { name: 'Edit', exact: true }).click();
      await page.getByRole('button', { name: /^Settings/ }).click();
      const dialog = page.getByRole('dialog');
      await dialog.getByRole('button', { name: 'Add an annotation' }).click();
      await dialog.getByLabel('Name', { exact: true }).fill('Bank');
      await dialog.getByLabel('Colour').selectOption('red');
      await dialog.getByLabel('Source').selectOption('logs');
      await dialog.getByLabel('Asked').fill('service.name:payment bank:$bank');
      await dialog.getByLabel('Text', { exact: true }).fill('{{region}}: {{body}}');
      await clean(page, 'the settings of annotations');
      if (shots) await page.screenshot({ path: join(shots, 'annotations-settings.png') });
      await dialog.getByRole('button', { name: 'Done' }).click();
      await bar.getByText('432').waitFor();
      await page.getByRole('button', { name: 'Undo (Ctrl Z)' }).click();
      await bar.getByText('432').waitFor({ state: 'detached' });
      await page.getByRole('button', { name: 'Redo (Ctrl Y)' }).click();
      await bar.getByText('432').waitFor();
      await page.getByRole('button', { name: 'Save', exact: true }).click();
      await dialog.getByRole('button', { name: 'Save', exact: true }).click();
      await dialog.waitFor({ state: 'detached' });
      const stored = await fetch(`${cluster.url(2)}/api/v1${path}`, { headers: { 'X-Scope-OrgID': tenant } });
      const { annotations } = (await stored.json()).data.dashboard;
      assert(annotations.map((a) => `${a.name} ${a.source}`).join() === 'Long queue promql,Lines logql,Bank logs');

      await page.emulateMedia({ colorScheme: 'light' });
      await go(page, `${path}?${range}`);
      await bar.getByText('432').waitFor();
      await page.locator('.mark-handle').last().hover();
      await tip.getByText('eu-west: the bank does not answer').first().waitFor();
      if (shots) await page.screenshot({ path: join(shots, 'annotations-light.png') });
      await clean(page, 'marks in light');
    }));

  await test('every dashboard of the test data is imported and draws', async () => {
    const data = process.env.PHAROS_TESTDATA;
    if (!data) {
      assert(process.env.CI !== 'true', 'PHAROS_TESTDATA is not set');
      console.log('     skipped: PHAROS_TESTDATA is not set');
      return;
    }
    const files = readdirSync(join(data, 'dashboards'), { recursive: true }).filter((name) => name.endsWith('.json'));
    assert(files.length > 0, 'there are some');
    for (const name of files) {
      await onPage({}, async (page) => {
        await go(page, '/dashboards?import=true');
        await page.getByLabel('A file with a dashboard').setInputFiles(join(data, 'dashboards', name));
        await page.waitForSelector('[data-testid=import-report]');
        await page.getByRole('dialog').getByRole('button', { name: 'Import', exact: true }).click();
        await page.waitForURL((url) => /\/dashboards\/[\w-]+-[a-z2-9]{5}$/.test(url.pathname));
        await page.waitForSelector('[data-testid=panel]');
        assert((await page.locator('[data-testid=panel]').count()) > 0, name);
      });
    }
  });

  await test('a dashboard keeps its layout after a drag', () =>
    onPage({}, async (page) => {
      await go(page, '/dashboards/pharos-queries');
      await page.waitForSelector('[data-testid=panel]');
      await page.getByRole('button', { name: 'Edit', exact: true }).click();
      const head = page.locator('.drag-handle', { hasText: 'Queries by node' });
      await head.waitFor();
      await sleep(300);
      const before = await head.boundingBox();
      await page.mouse.move(before.x + 40, before.y + 10);
      await page.mouse.down();
      await page.mouse.move(before.x - 500, before.y + 60, { steps: 12 });
      await page.mouse.up();
      await until('it has moved', async () => ((await head.boundingBox())?.x ?? before.x) < before.x - 100);
      await page.getByRole('button', { name: 'Undo (Ctrl Z)' }).click();
      await until('it is back', async () => Math.abs(((await head.boundingBox())?.x ?? 0) - before.x) < 3);
    }));

  await askFlows({ test, onPage, go, settled, clean, assert, parameter, cluster });

  await dashboardFlows({ test, onPage, go, settled, clean, assert, parameter, cluster, shots });

  await test('a running query is listed and killed', () =>
    onPage({}, async (page) => {
      await go(page, '/admin');
      const asked = fetch(
        `${cluster.url()}/api/v1/query_range?query=${encodeURIComponent(SLOW_QUERY(1))}&start=0&end=10000&step=1`,
      )
        .then((a) => a.json())
        .catch((e) => ({ error: String(e) }));
      const row = page.locator('tr', { hasText: '(vector(1) + time()' }).first();
      const found = await Promise.race([row.waitFor({ timeout: 30_000 }).then(() => true), asked.then((a) => a)]);
      assert(found === true, `the query was not seen running: ${JSON.stringify(found).slice(0, 300)}`);
      await row.getByRole('button', { name: 'Kill' }).click();
      await page.getByRole('dialog').getByRole('button', { name: 'Kill', exact: true }).click();
      const answer = await asked;
      assert(answer.errorType === 'canceled', JSON.stringify(answer).slice(0, 300));
    }));

  await pageFlows({ test, onPage, go, settled, assert, parameter, cluster });

  await test('first data on an empty tenant moves the counter', () =>
    onPage({}, async (page) => {
      await go(page, '/?tenant=newcomer');
      await page.getByText('Nothing has arrived for tenant newcomer yet', { exact: false }).waitFor();
      await cluster.write(
        [{ labels: { __name__: 'first_metric', job: 'x' }, samples: [[Date.now(), 1]] }],
        1,
        'newcomer',
      );
      await page.getByText('series of tenant newcomer are being written', { exact: false }).waitFor();
    }));

  await test('a node that dies shows on the map', () =>
    onPage({}, async (page) => {
      await go(page, '/cluster');
      await page.waitForSelector('[data-testid=matrix]');
      await page.getByText('Healthy').first().waitFor();
      const victim = readdirSync('/proc').find((pid) => {
        if (!/^\d+$/.test(pid)) return false;
        try {
          return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`${cluster.dir}/node-3\0`);
        } catch {
          return false;
        }
      });
      assert(victim, 'the process of node 3 is found');
      // Stopped, not killed: the supervisor would start it again at once.
      process.kill(Number(victim), 'SIGSTOP');
      const begun = Date.now();
      try {
        await page.locator('tr.is-down', { hasText: 'node 3' }).waitFor();
        console.log(`     the map showed it after ${Date.now() - begun} ms`);
        await page.getByText('Degraded').or(page.getByText('Critical')).first().waitFor();
      } finally {
        process.kill(Number(victim), 'SIGCONT');
      }
      await page.getByText('Healthy').first().waitFor();
    }));
}

try {
  await main();
} catch (error) {
  failures.push('the run itself');
  console.log(cluster.log?.slice(-3000));
  console.log(error.stack ?? error);
} finally {
  await instance?.close();
  await cluster.stop();
}
console.log(`${passed} passed, ${failures.length} failed${failures.length > 0 ? `: ${failures.join('; ')}` : ''}`);
process.exit(failures.length > 0 ? 1 : 0);

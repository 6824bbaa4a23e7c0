// What people do on dashboards: logs, traces and SQL on panels, links, filters, versions, and stopping what runs.

import { join } from 'node:path';
import { sleep, until } from './harness.mjs';
import { TRACE } from './spans.mjs';

const grid = (x, y, w, h) => ({ x, y, w, h });
const dashboard = (title, panels, more = {}) => ({
  format: 1,
  title,
  tags: [],
  time: { from: 'now-30m', to: 'now' },
  refresh: 'off',
  variables: [],
  annotations: [],
  panels,
  ...more,
});
const panel = (id, kind, title, queries, place, more = {}) => ({
  id,
  kind,
  title,
  grid: place,
  queries: queries.map((q, i) => ({ ref: 'ABCD'[i], ...(typeof q === 'string' ? { expr: q } : q) })),
  options: {},
  ...more,
});

const MEMORY =
  'SELECT $__timeGroup(time, $__interval) AS moment, max(value) AS bytes\nFROM process_resident_memory_bytes\n' +
  'WHERE $__timeFilter(time)\nGROUP BY moment\nORDER BY moment';
const ROUTES =
  'SELECT service, count(*) AS lines FROM logs WHERE $__timeFilter(time) AND service IN ($service) GROUP BY service ORDER BY service';

/** Panels of everything that is no number, for all services or one. */
const SIGNALS = dashboard(
  'Signals',
  [
    panel('1', 'logs', 'Lines of $service', ['level:error service.name:$service'], grid(0, 0, 24, 8)),
    panel(
      '2',
      'logs',
      'Lines by LogQL',
      [{ expr: '{service_name=~"$service"} |= "timeout"', language: 'logql' }],
      grid(0, 8, 12, 8),
      {
        options: { limit: 5, fields: ['http_route'], wrap: true },
      },
    ),
    panel(
      '3',
      'traces',
      'Failed visits',
      ['{ status = error && resource.service.name =~ "$service" }'],
      grid(12, 8, 12, 8),
    ),
    panel('4', 'sql', 'Lines by service', [ROUTES], grid(0, 16, 12, 8)),
    panel('5', 'sql', 'Memory', [MEMORY], grid(12, 16, 12, 8), { options: { chart: true } }),
    panel(
      '6',
      'timeseries',
      'Rates',
      [
        { expr: 'sum by (service_name) (rate({service_name=~"$service"}[$__interval]))', language: 'logql' },
        { expr: '{ } | rate()', language: 'traceql' },
      ],
      grid(0, 24, 24, 8),
    ),
  ],
  {
    variables: [
      {
        name: 'service',
        kind: 'custom',
        query: 'checkout,cart,frontend',
        multi: true,
        all: true,
        initial: ['checkout', 'cart'],
      },
    ],
  },
);

let stored = 0;
/** Stores a dashboard, or its next version; gives its name. */
async function store(cluster, made, { uid = `t${process.pid}-${++stored}`, expected = 0, message = '' } = {}) {
  const answer = await fetch(`${cluster.url()}/api/v1/dashboards/${uid}`, {
    method: 'PUT',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ expected, message, dashboard: made }),
  });
  if (!answer.ok) throw new Error(`a dashboard is not stored: ${answer.status} ${await answer.text()}`);
  return uid;
}

const LINKED = (other) =>
  dashboard(
    'Linked',
    [
      panel('1', 'table', 'Memory', ['process_resident_memory_bytes'], grid(0, 0, 12, 9), {
        links: [
          { title: 'Lines of $job', url: '/logs?q=level:error' },
          { title: 'Book', url: 'https://book.test/$job', keepTime: true },
        ],
        options: {
          overrides: [
            {
              match: { name: 'instance' },
              look: { links: [{ title: 'Explore', url: `/explore?q=["up{instance=\\"\${__value.raw}\\"}"]` }] },
            },
          ],
          links: [
            { title: 'Value', url: `/dashboards/${other}?v-instance=\${__data.fields.instance}`, keepVariables: true },
          ],
        },
      }),
      panel('2', 'timeseries', 'Course', ['max(process_resident_memory_bytes)'], grid(12, 0, 12, 9), {
        options: {
          links: [
            { title: 'Then', url: '/logs?from=${__value.time}&to=now' },
            { title: 'Away', url: 'https://away.test/?v=${__value.raw}' },
          ],
        },
      }),
      panel('3', 'stat', 'Now', ['count(process_resident_memory_bytes)'], grid(0, 9, 6, 6), {
        options: { links: [{ title: 'Away', url: 'https://away.test/?v=${__value.raw}&s=${__series.name}' }] },
      }),
    ],
    {
      variables: [{ name: 'job', kind: 'custom', query: 'pharos,other' }],
      links: [
        { title: 'Of $job', url: 'https://x.test/?j=$job', keepTime: true, keepVariables: true },
        { title: 'Ours', url: '/dashboards/pharos-cluster', keepVariables: true },
        { title: 'Alike', url: '', tags: [`alike-${process.pid}`], asMenu: true, keepVariables: true },
        { title: 'Not to be followed', url: 'javascript:window.hacked=1' },
      ],
    },
  );

/** A question that is answered at once, and one that takes the server a while: sorting, and little memory. */
const QUICK = 'count(process_resident_memory_bytes)';
export const SLOW_QUERY = (n) => `sum(quantile_over_time(0.5, (vector(${n}) + time() * 7919 % 100003)[1h:10ms]))`;

export const DASHBOARD_SCREENS = [];

export async function seedDashboards(cluster) {
  const signals = await store(cluster, SIGNALS);
  const alike = await store(cluster, dashboard('Alike one', [], { tags: [`alike-${process.pid}`] }));
  const linked = await store(cluster, LINKED(alike));
  // What was seeded is seen from then, however long the tests before take.
  SEEDED.at = Date.now();
  SEEDED.signals = signals;
  SEEDED.alike = alike;
  SEEDED.linked = linked;
}
const SEEDED = {};

DASHBOARD_SCREENS.push(
  ['dashboard-signals', () => `/dashboards/${SEEDED.signals}`, '[data-testid=panel-lines] .log-row'],
  [
    'dashboard-signals-open',
    () => `/dashboards/${SEEDED.signals}`,
    '[data-testid=panel-lines] .log-row',
    async (page) => {
      await page.locator('[data-testid=panel-lines] .log-row').first().click();
      await page.locator('.panel-line-fields').first().waitFor();
    },
  ],
  ['dashboard-logs-edit', () => `/dashboards/${SEEDED.signals}?edit=1`, '[data-testid=log-editor] .cm-content'],
  ['dashboard-traces-edit', () => `/dashboards/${SEEDED.signals}?edit=3`, '[data-testid=traceql-editor] .cm-content'],
  ['dashboard-sql-edit', () => `/dashboards/${SEEDED.signals}?edit=5`, '[data-testid=sql-editor] .cm-content'],
  ['dashboard-linked', () => `/dashboards/${SEEDED.linked}`, '.dashboard-links a'],
);

export async function dashboardFlows({ test, onPage, go, settled, clean, assert, parameter, cluster, shots }) {
  const shot = (page, name) => (shots ? page.screenshot({ path: join(shots, `${name}.png`) }) : undefined);
  const frame = (page, title) => page.getByRole('group', { name: title, exact: true });
  const hrefOf = async (locator) => {
    const url = new URL(await locator.evaluate((a) => a.href));
    return {
      path: url.origin === new URL(cluster.url()).origin ? url.pathname : url.origin + url.pathname,
      of: url.searchParams,
    };
  };
  const fillEditor = async (page, testId, text) => {
    await page.locator(`[data-testid=${testId}] .cm-content`).click();
    await page.keyboard.press('Control+a');
    // Text that is put over coloured text takes its colour along as a style of its own, which the page's policy forbids.
    await page.keyboard.press('Delete');
    await page.keyboard.insertText(text);
    await page.keyboard.press('Escape');
  };

  await test('logs, traces and SQL stand on a dashboard, with its variables, and lead to their pages', () =>
    onPage({}, async (page) => {
      const path = `/dashboards/${SEEDED.signals}`;
      await go(page, path);
      const lines = frame(page, 'Lines of checkout + cart');
      await lines.locator('.log-row').first().waitFor();
      assert((await lines.locator('.log-level.lv-error').count()) > 0, 'levels have their colour');
      const body = await lines.locator('.log-body').first().innerText();
      assert(body.includes('503 upstream timeout'), body);
      // A line opens in its place, and from there in Logs, as the record of the same search.
      await lines.locator('.log-row').first().click();
      const fields = lines.locator('.panel-line-fields').first();
      await fields.getByText('http.route', { exact: true }).waitFor();
      const service = await fields.locator('dl > div', { hasText: 'service.name' }).locator('dd').innerText();
      assert(['checkout', 'cart'].includes(service), service);
      await fields.getByRole('link', { name: 'Open in Logs' }).click();
      await page.waitForURL(/\/logs\?/);
      await page.getByTestId('log-record').getByText('http.route').waitFor();
      assert(parameter(page, 'q') === 'level:error service.name:(checkout OR cart)', parameter(page, 'q'));
      await page.goBack();

      // LogQL: as many as the panel says, and what was looked for is marked.
      const logql = frame(page, 'Lines by LogQL');
      await logql.locator('.log-row').first().waitFor();
      assert((await logql.locator('.log-row').count()) === 5, 'five lines');
      await logql.getByText('the newest 5; there are more').waitFor();
      assert((await logql.locator('mark').first().innerText()) === 'timeout', 'the word is marked');
      assert((await logql.locator('.log-cell').first().innerText()) === '/api/pay', 'a field beside the line');
      await logql.locator('.log-row').first().click();
      await logql.getByRole('link', { name: /written around it/ }).waitFor();
      assert(
        (await logql.getByRole('link', { name: 'Open its trace' }).getAttribute('href')).includes(TRACE),
        'its trace',
      );

      // Traces, of the chosen services; a click opens one.
      const traces = frame(page, 'Failed visits');
      await traces.locator('[role=row] .trace-root-link').first().waitFor();
      // SQL: a table, and rows along their time.
      const table = frame(page, 'Lines by service');
      await table.getByRole('cell', { name: 'checkout' }).waitFor();
      const rows = await table.getByRole('row').allInnerTexts();
      assert(rows.length === 3 && rows.every((row) => !row.includes('frontend')), rows.join('|'));
      await frame(page, 'Memory').scrollIntoViewIfNeeded();
      await frame(page, 'Memory').locator('canvas').waitFor();
      await frame(page, 'Rates').scrollIntoViewIfNeeded();
      await frame(page, 'Rates').locator('canvas').waitFor();
      const legend = await frame(page, 'Rates').getByLabel('Legend').innerText();
      assert(legend.includes('checkout') && !legend.includes('frontend'), legend);
      await settled(page);
      await shot(page, 'dashboard-signals');

      // Another choice asks anew.
      await go(page, `${path}?v-service=frontend`);
      await frame(page, 'Lines of frontend').locator('.log-row').first().waitFor();
      await frame(page, 'Lines by service').getByRole('cell', { name: 'frontend' }).waitFor();
      await frame(page, 'Failed visits').locator('[role=row] .trace-root-link').first().click();
      await page.waitForURL(/\/trace\/[0-9a-f]{32}/);

      // Nothing found, and what is wrong, are told.
      await go(page, `${path}?from=2020-01-01&to=2020-01-02`);
      await page.getByText('No lines in this range').first().waitFor();
      await page.getByText('No trace matches in this range').waitFor();
      await page.getByText('No rows').first().waitFor();
    }));

  await test('panels of logs, traces and SQL are made, changed and saved', () =>
    onPage({}, async (page) => {
      await go(page, '/dashboards/new');
      const add = async (kind) => {
        await page.getByRole('button', { name: 'Add', exact: true }).click();
        await page.getByRole('menuitem', { name: kind, exact: true }).click();
        await page.waitForSelector('[data-testid=preview]');
      };
      const preview = page.getByTestId('preview');
      const run = () => page.getByRole('button', { name: 'Run', exact: true }).click();
      await add('Logs');
      await page.getByLabel('Title').fill('Made lines');
      await fillEditor(page, 'log-editor', 'level:(');
      await run();
      await preview.getByRole('alert').waitFor();
      await fillEditor(page, 'log-editor', 'level:warn slow');
      await run();
      await preview.locator('.log-row').first().waitFor();
      await page.getByLabel('Fields beside each line').fill('db');
      await preview.locator('.log-cell', { hasText: 'orders' }).first().waitFor();
      await page.getByLabel('Language of query A').selectOption('LogQL');
      await page.getByLabel('Query A', { exact: true }).fill('count_over_time({service_name="cart"}[1m])');
      await run();
      await preview.getByText('choose the kind Time series').waitFor();
      await page.getByLabel('Query A', { exact: true }).fill('{service_name="cart"} |= "slow"');
      await run();
      await preview.locator('.log-row').first().waitFor();
      await page.getByRole('button', { name: 'Done' }).click();

      await add('Traces');
      await page.getByLabel('Title').fill('Made traces');
      await preview.locator('.trace-root-link').first().waitFor();
      await fillEditor(page, 'traceql-editor', '{ name = "POST /pay" } | rate()');
      await run();
      await preview.getByText('choose the kind Time series').waitFor();
      // As a time series the same query is one of numbers.
      await page.getByLabel('Kind').selectOption('Time series');
      await preview.locator('canvas').waitFor();
      await page.getByLabel('Kind').selectOption('Traces');
      await fillEditor(page, 'traceql-editor', '{ name = "POST /pay" }');
      await run();
      await preview.locator('.trace-root-link').first().waitFor();
      // A form writes the query, too.
      await page.getByRole('button', { name: 'Search by a form' }).click();
      await page.getByLabel('Name of the span').fill('POST /pay');
      await page.getByLabel('Name of the span').press('Enter');
      await page.getByLabel('Status').selectOption('error');
      await page.getByRole('button', { name: 'Put into the query' }).click();
      await page
        .locator('[data-testid=traceql-editor] .cm-content')
        .getByText('{ name = "POST /pay" } | { name = "POST /pay" && status = error }')
        .waitFor();
      await preview.locator('.trace-root-link').first().waitFor();
      await page.getByRole('group', { name: 'Order' }).getByRole('button', { name: 'Slowest' }).click();
      await page.getByLabel('Traces at most').fill('3');
      await until('three traces', async () => (await preview.locator('.trace-root-link').count()) === 3);
      await preview.getByText('the slowest 3; there are more').waitFor();
      await page.getByRole('button', { name: 'Done' }).click();

      await add('SQL');
      await page.getByLabel('Title').fill('Made rows');
      await preview.getByText('This panel asks nothing').waitFor();
      await fillEditor(page, 'sql-editor', 'SELECT nothing FROM logs');
      await run();
      await preview.getByRole('alert').waitFor();
      await fillEditor(page, 'sql-editor', MEMORY);
      await run();
      await preview.getByRole('row').nth(1).waitFor();
      await page.getByRole('group', { name: 'Shown as' }).getByRole('button', { name: 'Time series' }).click();
      await preview.locator('canvas').waitFor();
      await shot(page, 'dashboard-sql-made');
      await page.getByRole('button', { name: 'Done' }).click();
      await page.getByRole('button', { name: 'Save', exact: true }).click();
      await page.getByRole('dialog').getByLabel('Title').fill('Made signals');
      await page.getByRole('dialog').getByRole('button', { name: 'Save' }).click();
      await page.waitForURL(/\/dashboards\/made-signals-/);
      const uid = new URL(page.url()).pathname.split('/').pop();
      const { data } = await (await fetch(`${cluster.url(2)}/api/v1/dashboards/${uid}`)).json();
      assert(
        data.dashboard.panels.map((p) => `${p.kind} ${p.queries[0].language ?? ''}`).join() ===
          'logs logql,traces ,sql ',
        JSON.stringify(data.dashboard.panels),
      );
      assert(data.dashboard.panels[2].options.chart === true, 'it is a chart');
      // From its menu a panel opens on the page of its language.
      const rows = frame(page, 'Made rows');
      await rows.hover();
      await rows.getByRole('button', { name: 'Panel Made rows' }).click();
      await page.getByRole('menuitem', { name: 'Open in SQL' }).click();
      await page.waitForURL(/\/sql\?/);
      await page.getByTestId('sql-cell').getByRole('row').nth(1).waitFor();
    }));

  await test('panels of logs and traces come from Grafana', () =>
    onPage({}, async (page) => {
      const grafana = {
        title: 'From Grafana',
        time: { from: 'now-30m', to: 'now' },
        panels: [
          {
            id: 1,
            type: 'logs',
            title: 'Lines',
            gridPos: { x: 0, y: 0, w: 24, h: 8 },
            datasource: { type: 'loki', uid: 'l' },
            targets: [{ refId: 'A', expr: '{service_name="$service"} |= "order"' }],
          },
          {
            id: 2,
            type: 'traces',
            title: 'Trace',
            gridPos: { x: 0, y: 8, w: 24, h: 6 },
            datasource: { type: 'tempo', uid: 't' },
            targets: [{ refId: 'A', queryType: 'traceql', query: TRACE }],
          },
          {
            id: 3,
            type: 'logs',
            title: 'Elastic',
            gridPos: { x: 0, y: 14, w: 24, h: 6 },
            datasource: { type: 'elasticsearch', uid: 'e' },
            targets: [{ refId: 'A', query: 'x' }],
          },
        ],
        templating: {
          list: [
            { name: 'service', type: 'custom', query: 'cart,checkout' },
            {
              name: 'Filters',
              type: 'adhoc',
              datasource: { type: 'prometheus' },
              filters: [{ key: 'job', operator: '=', value: 'x' }],
            },
          ],
        },
        links: [
          { type: 'dashboards', title: 'Others', tags: [`alike-${process.pid}`], asDropdown: true },
          { type: 'link', title: 'Inside', url: '/d/abc' },
        ],
      };
      await go(page, '/dashboards?import=true');
      await page
        .getByLabel('A file with a dashboard')
        .setInputFiles({ name: 'a.json', mimeType: 'application/json', buffer: Buffer.from(JSON.stringify(grafana)) });
      const report = await page.getByTestId('import-report').innerText();
      for (const part of ['elasticsearch', 'Inside', 'by its id']) assert(report.includes(part), report);
      await page.getByRole('dialog').getByRole('button', { name: 'Import', exact: true }).click();
      await page.waitForURL((url) => /\/dashboards\/from-grafana-[a-z2-9]{5}$/.test(url.pathname));
      await frame(page, 'Lines').locator('.log-row').first().waitFor();
      assert(
        (await frame(page, 'Lines').locator('.log-body').first().innerText()).includes('order'),
        'lines of orders',
      );
      await frame(page, 'Trace').locator('.trace-root-link').first().waitFor();
      assert((await frame(page, 'Trace').locator('.trace-root-link').count()) === 1, 'the one trace');
      await page.getByRole('button', { name: 'Change job="x"' }).waitFor();
      await page.getByRole('navigation', { name: 'Links' }).getByRole('button', { name: 'Others' }).click();
      await page.getByRole('link', { name: 'Alike one' }).waitFor();
    }));

  await test('links of a dashboard, its panels and values carry variables and the range', () =>
    onPage({}, async (page) => {
      const path = `/dashboards/${SEEDED.linked}`;
      await go(page, `${path}?v-job=other&from=now-20m&to=now`);
      const nav = page.getByRole('navigation', { name: 'Links' });
      const away = await hrefOf(nav.getByRole('link', { name: 'Of other' }));
      assert(away.path === 'https://x.test/' && away.of.get('j') === 'other', JSON.stringify(away));
      assert(away.of.get('from') === 'now-20m' && away.of.get('var-job') === 'other', String(away.of));
      const ours = await hrefOf(nav.getByRole('link', { name: 'Ours' }));
      assert(ours.path === '/dashboards/pharos-cluster' && ours.of.get('v-job') === 'other', String(ours.of));
      assert((await nav.getByRole('link', { name: 'Not to be followed' }).count()) === 0, 'no link to a script');
      await nav.getByRole('button', { name: 'Alike' }).click();
      await clean(page, 'a menu of links');
      await page.getByRole('link', { name: 'Alike one' }).click();
      await page.getByRole('heading', { name: 'Alike one' }).waitFor();
      assert(parameter(page, 'v-job') === 'other' && parameter(page, 'from') === 'now-20m', page.url());
      await page.goBack();

      // Of a panel, in its head.
      const memory = frame(page, 'Memory');
      await memory.getByRole('cell').first().waitFor();
      await memory.getByRole('button', { name: 'Links of the panel' }).click();
      const book = await hrefOf(page.getByRole('link', { name: 'Book' }));
      assert(book.path === 'https://book.test/other' && book.of.get('to') === 'now', JSON.stringify(book.path));
      await page.getByRole('link', { name: 'Lines of other' }).waitFor();
      await page.keyboard.press('Escape');

      // Of a value: of its column, and of numbers.
      const instance = memory.locator('.value-link').first();
      const to = await hrefOf(instance);
      assert(
        to.path === '/explore' && to.of.get('q') === `["up{instance=\\"${await instance.innerText()}\\"}"]`,
        String(to.of),
      );
      const value = await hrefOf(memory.locator('.num .value-link').first());
      assert(value.path === `/dashboards/${SEEDED.alike}`, value.path);
      assert(
        value.of.get('v-instance') === (await instance.innerText()) && value.of.get('v-job') === 'other',
        String(value.of),
      );
      const now = await hrefOf(frame(page, 'Now').locator('.value-link'));
      assert(now.path === 'https://away.test/' && now.of.get('v') === '3', String(now.of));

      // Of a point of a chart, by a click; and in the legend, without a pointer.
      await go(page, `${path}?from=now-1m&to=now`);
      const course = frame(page, 'Course');
      await course.locator('canvas').waitFor();
      await settled(page);
      const box = await course.locator('.u-over').boundingBox();
      const menu = page.getByRole('dialog', { name: /^Links of/ });
      await until('links of a point', async () => {
        const x = box.x + box.width * 0.8;
        for (let share = 0.04; share < 1; share += 0.06) {
          const y = box.y + box.height * share;
          await page.mouse.move(x - 2, y);
          await page.mouse.move(x, y);
          if ((await course.locator('.chart-tip-row.is-near').count()) === 0) continue;
          await page.mouse.click(x, y);
          return menu.waitFor({ timeout: 3000 }).then(
            () => true,
            () => false,
          );
        }
        return false;
      });
      const then = await hrefOf(menu.getByRole('link', { name: 'Then' }));
      assert(then.path === '/logs' && /^\d{13}$/.test(then.of.get('from')), String(then.of));
      const raw = await hrefOf(menu.getByRole('link', { name: 'Away' }));
      assert(Number(raw.of.get('v')) > 1e6, String(raw.of));
      await shot(page, 'dashboard-links');
      await clean(page, 'links of a point');
      await page.keyboard.press('Escape');
      await menu.waitFor({ state: 'detached' });
      await course.getByRole('button', { name: /Links of/ }).click();
      await page.getByRole('link', { name: 'Then' }).click();
      await page.waitForURL(/\/logs\?/);

      // Made and changed in the settings.
      await go(page, path);
      await page.getByRole('button', { name: 'Edit', exact: true }).click();
      await page.getByRole('button', { name: /^Settings/ }).click();
      const dialog = page.getByRole('dialog');
      await dialog.getByRole('button', { name: 'Add a link' }).click();
      await dialog.getByLabel('Title').last().fill('To $job');
      await dialog.getByLabel('Address').fill('https://made.test/${job}');
      await clean(page, 'the settings of links');
      await shot(page, 'dashboard-links-settings');
      await dialog.getByRole('button', { name: 'Done' }).click();
      const made = await hrefOf(nav.getByRole('link', { name: 'To pharos' }));
      assert(made.path === 'https://made.test/pharos', made.path);
      await page.getByRole('button', { name: 'Undo (Ctrl Z)' }).click();
    }));

  await test('filters join every query of PromQL, are completed, and stay in the address', () =>
    onPage({}, async (page) => {
      const uid = await store(
        cluster,
        dashboard(
          'Filtered',
          [
            panel('1', 'table', 'All', ['hostile_values'], grid(0, 0, 12, 9)),
            panel('2', 'stat', 'Count', ['count(hostile_values) or vector(0)'], grid(12, 0, 6, 6)),
            panel('3', 'timeseries', 'Sum', ['sum by (kind) (hostile_values)'], grid(0, 9, 12, 9)),
          ],
          {
            variables: [{ name: 'Filters', kind: 'filters', query: 'job="seed"' }],
            annotations: [{ name: 'There', source: 'promql', query: 'hostile_values > -10' }],
          },
        ),
      );
      const asked = [];
      page.on('request', (request) => {
        if (/\/api\/v1\/query/.test(request.url())) asked.push(decodeURIComponent(request.url().replaceAll('+', ' ')));
      });
      const then = `from=${SEEDED.at - 30 * 60_000}&to=${SEEDED.at}`;
      await go(page, `/dashboards/${uid}?${then}`);
      const rows = () => frame(page, 'All').getByRole('row').count();
      await until('nine rows', async () => (await rows()) === 9);
      assert(
        asked.every((url) => !url.includes('hostile_values') || url.includes('hostile_values{job="seed"}')),
        asked.join('\n'),
      );
      const bar = page.getByRole('group', { name: 'Filters' });
      await bar.getByRole('button', { name: 'Filter', exact: true }).click();
      const labels = page.locator('datalist option');
      await until('labels are offered', async () =>
        (await labels.evaluateAll((all) => all.map((o) => o.value))).includes('kind'),
      );
      // Only labels of series that meet the other filters.
      assert(
        !(await labels.evaluateAll((all) => all.map((o) => o.value))).includes('shard'),
        'labels of the same series',
      );
      await page.getByLabel('Label').fill('kind');
      await until('values are offered', async () =>
        (await labels.evaluateAll((all) => all.map((o) => o.value))).includes('emoji'),
      );
      await page.getByLabel('Operator').selectOption('!~');
      await page.getByLabel('Value').fill('emoji|rtl');
      await clean(page, 'a filter that is made');
      await shot(page, 'dashboard-filter');
      await page.getByLabel('Value').press('Enter');
      await until('seven rows', async () => (await rows()) === 7);
      await frame(page, 'Count').getByText('6', { exact: true }).waitFor();
      assert(new URL(page.url()).searchParams.get('v-Filters').includes('kind!~"emoji|rtl"'), page.url());
      assert(
        asked.some((url) => url.includes('hostile_values{job="seed", kind!~"emoji|rtl"} > -10')),
        'annotations, too',
      );

      // A link has them; one is changed, one is taken away.
      await page.reload();
      await until('seven rows again', async () => (await rows()) === 7);
      await bar.getByRole('button', { name: 'Change kind!~"emoji|rtl"' }).click();
      await page.getByLabel('Operator').selectOption('=~');
      await page.getByRole('button', { name: 'Change', exact: true }).click();
      await until('three rows', async () => (await rows()) === 3);
      await bar.getByRole('button', { name: 'Remove kind=~"emoji|rtl"' }).click();
      await until('nine rows again', async () => (await rows()) === 9);
      await bar.getByRole('button', { name: 'Remove job="seed"' }).click();
      await until('no filter', async () => (await bar.getByRole('button').count()) === 1);
      await page.reload();
      await until('still nine rows', async () => (await rows()) === 9);
      assert((await bar.getByRole('button').count()) === 1, 'none comes back');

      // What is asked is what is inspected.
      await go(page, `/dashboards/${uid}?${then}&v-Filters=${encodeURIComponent('kind="path", broken')}`);
      await until('two rows', async () => (await rows()) === 2);
      await bar.getByRole('alert').getByText('broken').waitFor();
      await frame(page, 'All').hover();
      await frame(page, 'All').getByRole('button', { name: 'Panel All' }).click();
      await page.getByRole('menuitem', { name: 'Inspect' }).click();
      await page.getByRole('dialog').getByRole('tab', { name: 'Query' }).click();
      await page.getByRole('dialog').getByText('hostile_values{kind="path"}', { exact: true }).waitFor();
      await page.keyboard.press('Escape');

      // Made in the settings.
      await go(page, '/dashboards/new');
      await page.getByRole('button', { name: /^Settings/ }).click();
      await page.getByRole('button', { name: 'Add a variable' }).click();
      const dialog = page.getByRole('dialog');
      await dialog.getByLabel('Name', { exact: true }).fill('By');
      await dialog.getByLabel('Kind').selectOption('filters of all PromQL queries');
      await dialog.getByRole('button', { name: 'Done' }).click();
      await page.getByRole('group', { name: 'By' }).getByRole('button', { name: 'Filter', exact: true }).waitFor();
    }));

  await test('two versions are compared, and an old one is restored', () =>
    onPage({}, async (page) => {
      const first = dashboard('Versioned', [
        panel('1', 'timeseries', 'Rate', ['sum(rate(process_cpu_seconds_total[5m]))'], grid(0, 0, 12, 9)),
        panel('2', 'stat', 'Gone', ['up'], grid(12, 0, 6, 6)),
        panel('3', 'text', 'Moved', [], grid(0, 9, 12, 4), { options: { text: 'x' } }),
      ]);
      const uid = await store(cluster, first, { message: 'the first' });
      const second = dashboard(
        'Versioned again',
        [
          panel('1', 'timeseries', 'Rate', ['sum(rate(process_cpu_seconds_total[1m]))'], grid(0, 0, 12, 9), {
            options: { unit: 's' },
          }),
          panel('3', 'text', 'Moved', [], grid(12, 9, 12, 4), { options: { text: 'x' } }),
          panel('4', 'logs', 'Come', ['level:error'], grid(0, 13, 12, 9)),
        ],
        { variables: [{ name: 'job', kind: 'custom', query: 'a,b' }] },
      );
      await store(cluster, second, { uid, expected: 1, message: 'the second' });
      await go(page, `/dashboards/${uid}`);
      await page.getByRole('button', { name: 'More', exact: true }).click();
      await page.getByRole('menuitem', { name: 'Versions' }).click();
      await page.getByText('the first').waitFor();
      await page.getByRole('button', { name: 'Changes since version 1' }).click();
      const changes = page.getByTestId('changes');
      await changes.waitFor();
      const heads = (await changes.getByRole('heading').allInnerTexts()).map((text) => text.replace(/\s+/g, ' '));
      assert(
        heads.join('|') ===
          '~dashboard changed Versioned again|+variable added job|~panel changed Rate|−panel removed Gone|+panel added Come',
        heads.join('|'),
      );
      const rate = changes.locator('section', { hasText: 'panel changed Rate' });
      assert((await rate.locator('del').first().innerText()) === '5m', await rate.innerText());
      assert((await rate.locator('ins').first().innerText()) === '1m', await rate.innerText());
      assert((await rate.innerText()).includes('unit'), await rate.innerText());
      await changes.getByText('1 panel lies elsewhere').click();
      await changes.getByText('Moved', { exact: true }).waitFor();
      await clean(page, 'what changed');
      await shot(page, 'dashboard-versions');
      // The address has what is compared, the other way round, too.
      assert(parameter(page, 'diff') === '1-2', page.url());
      await page.reload();
      await changes.locator('ins', { hasText: '1m' }).waitFor();
      await page.getByLabel('From').selectOption({ index: 0 });
      await page.getByText('They are the same').waitFor();
      await page.getByLabel('From').selectOption({ index: 1 });
      await page.getByRole('button', { name: 'Restore version 1' }).click();
      await page.getByRole('dialog').getByRole('button', { name: 'Restore', exact: true }).click();
      await page.getByRole('dialog').waitFor({ state: 'detached' });
      await frame(page, 'Gone').waitFor();
      assert((await frame(page, 'Come').count()) === 0, 'it is as it was');
      const { data } = await (await fetch(`${cluster.url(3)}/api/v1/dashboards/${uid}`)).json();
      assert(data.version === 3 && data.dashboard.title === 'Versioned', JSON.stringify(data).slice(0, 300));
      assert(data.message === 'version 1 restored', data.message);

      // What is not saved is compared, too.
      await page.getByRole('button', { name: 'Edit', exact: true }).click();
      await page.getByRole('button', { name: /^Settings/ }).click();
      await page.getByRole('dialog').getByLabel('Title').first().fill('Not saved');
      await page.getByRole('dialog').getByRole('button', { name: 'Done' }).click();
      await page.getByRole('button', { name: 'More', exact: true }).click();
      await page.getByRole('menuitem', { name: 'Versions' }).click();
      await page.getByRole('button', { name: 'What is changed and not saved' }).click();
      await changes.locator('ins', { hasText: 'Not saved' }).waitFor();
    }));

  await test('what a dashboard asks is stopped, and answers in part are told', () =>
    onPage({}, async (page) => {
      const uid = await store(
        cluster,
        dashboard('Slow', [
          panel('1', 'timeseries', 'Quick', [QUICK], grid(0, 0, 12, 9)),
          panel('2', 'stat', 'Warned', ['quantile(2, process_resident_memory_bytes)'], grid(12, 0, 6, 6)),
          panel('3', 'stat', 'Wrong', ['count(process_resident_memory_bytes)', 'sum('], grid(18, 0, 6, 6)),
          panel('4', 'text', 'Between', [], grid(0, 9, 24, 60), { options: { text: 'a way down' } }),
          panel('5', 'timeseries', 'Slow', [SLOW_QUERY(11)], grid(0, 69, 12, 9)),
          panel('6', 'timeseries', 'Half', [QUICK, SLOW_QUERY(21)], grid(12, 69, 12, 9)),
        ]),
      );
      await until('the cluster has said what memory it takes', async () => {
        const answer = await (await fetch(`${cluster.url()}/api/v1/query?query=${QUICK}`)).json();
        return answer.data.result.length > 0;
      });
      const failed = [];
      page.on('requestfailed', (request) => failed.push(decodeURIComponent(request.url())));
      await go(page, `/dashboards/${uid}`);
      // What is not in sight is not asked yet: the quick ones do not wait for the slow ones.
      await frame(page, 'Quick').locator('canvas').waitFor();
      await frame(page, 'Warned').locator('.stat-value').waitFor();
      await frame(page, 'Wrong')
        .getByRole('button', { name: /^partial/ })
        .waitFor();
      const state = page.getByTestId('dashboard-state');
      const running = async () => {
        const { data } = await (await fetch(`${cluster.url()}/api/v1/status/active_queries`)).json();
        return JSON.stringify(data).includes('vector(11)');
      };
      assert(!(await running()), 'it is out of sight');
      await frame(page, 'Slow').scrollIntoViewIfNeeded();
      await until('the server is at it', running);
      await state.getByRole('button', { name: /^Stop/ }).click();
      await frame(page, 'Slow').getByText('Stopped', { exact: true }).waitFor();
      await until('the request is ended', async () => failed.some((url) => url.includes('vector(11)')));
      await until('the server has stopped', async () => !(await running()));
      await state.getByText('2 stopped').waitFor();
      assert((await state.getByRole('button', { name: /^Stop/ }).count()) === 0, 'nothing runs');
      // Of a panel that has answers and lacks some, its badge says so.
      await frame(page, 'Half')
        .getByRole('button', { name: /^partial/ })
        .click();
      await page.getByText('Query B was stopped, and is not shown').waitFor();
      await clean(page, 'a badge that is open');
      await page.keyboard.press('Escape');
      await frame(page, 'Wrong')
        .getByRole('button', { name: /^partial/ })
        .waitFor();
      await frame(page, 'Warned')
        .getByRole('button', { name: /^warning/ })
        .click();
      await page.getByText(/quantile value should be between 0 and 1/).waitFor();
      await page.keyboard.press('Escape');
      await state.getByRole('button', { name: '2 panels partial' }).click();
      const told = page.getByRole('group', { name: '2 panels partial' });
      const titles = await told.getByRole('heading').allInnerTexts();
      assert(titles.sort().join() === 'Half,Wrong', titles.join());
      await shot(page, 'dashboard-stopped');
      await page.keyboard.press('Escape');
      await state.getByRole('button', { name: '1 panel with warnings' }).waitFor();
      // Stopped stays stopped while nobody says otherwise.
      await frame(page, 'Quick').scrollIntoViewIfNeeded();
      await sleep(300);
      await frame(page, 'Slow').scrollIntoViewIfNeeded();
      await sleep(500);
      assert(!(await running()), 'scrolling does not ask again');
      await frame(page, 'Slow').getByRole('button', { name: 'Run again' }).click();
      await until('it runs again', running);
      await state.getByRole('button', { name: /^Stop/ }).click();
      await frame(page, 'Slow').getByText('Stopped', { exact: true }).waitFor();
      await until('and is stopped again', async () => !(await running()));
    }));
}

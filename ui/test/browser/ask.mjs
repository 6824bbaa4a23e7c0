// What people do where they ask: Explore with its views, Inspect, and notebooks of SQL, PromQL and text.

import { readFileSync } from 'node:fs';
import { sleep, until } from './harness.mjs';

/** Seconds between the samples of the seeded histogram, and how many there are. */
const [STEP, STEPS] = [15, 48];
/** When it was seeded. */
let seededAt = 0;

/** Durations of two hosts: one of them is slow in the third quarter of the time. */
export async function seedAsk(cluster) {
  seededAt = Math.floor(Date.now() / (STEP * 1000)) * STEP * 1000;
  const bounds = ['0.1', '0.5', '2', '+Inf'];
  const series = [];
  for (const host of ['quick', 'slow']) {
    const total = bounds.map(() => 0);
    const samples = bounds.map(() => []);
    for (let i = 0; i < STEPS; i++) {
      const isSlow = host === 'slow' && i >= STEPS / 2 && i < (STEPS * 3) / 4;
      const grown = isSlow ? [2, 3, 20, 21] : [20, 21, 21, 21];
      bounds.forEach((_, b) => {
        total[b] += grown[b];
        samples[b].push([seededAt - (STEPS - 1 - i) * STEP * 1000, total[b]]);
      });
    }
    bounds.forEach((le, b) => {
      series.push({ labels: { __name__: 'seed_took_seconds_bucket', host, le }, samples: samples[b] });
    });
  }
  await cluster.write(series);
}

const TOOK = 'sum by (le, host) (increase(seed_took_seconds_bucket[30s]))';
const CPU = 'sum by (instance) (rate(process_cpu_seconds_total[1m]))';
const link = (path, params) =>
  `${path}?${new URLSearchParams(
    Object.entries(params).map(([name, value]) => [name, typeof value === 'string' ? value : JSON.stringify(value)]),
  )}`;
const explore = (queries, more = {}) => link('/explore', { q: queries, from: 'now-15m', to: 'now', ...more });
/** All of the seeded histogram, and nothing else. */
const seeded = () => ({ from: String(seededAt - (STEPS - 1) * STEP * 1000), to: String(seededAt), step: `${STEP}s` });
const notebook = (...cells) => link('/sql', { c: cells, from: 'now-15m', to: 'now' });

const KINDS = 'SELECT kind, count(*) AS samples\nFROM hostile_values\nGROUP BY kind\nORDER BY kind';
const MEMORY =
  "SELECT date_bin(INTERVAL '1 minute', time) AS minute, instance, max(value) AS bytes\nFROM process_resident_memory_bytes\n" +
  "WHERE time > now() - INTERVAL '15 minutes'\nGROUP BY minute, instance\nORDER BY minute";
const STORY = '# What happened\n\nThe queue grew. See **both**:\n\n- `samples`, by kind\n- processor time';

export const ASK_SCREENS = [
  ['explore-stat', explore([CPU], { view: 'stat' }), '[data-testid=figures] li'],
  [
    'explore-heat-compare',
    () => link('/explore', { q: [TOOK], view: 'heatmap', ...seeded(), ...slowPart(), compare: true }),
    '.compare-field',
  ],
  [
    'explore-inspect',
    explore([CPU, 'up']),
    '[data-testid=chart] canvas',
    async (page) => {
      await page.getByRole('button', { name: 'Inspect' }).click();
      await page.getByRole('dialog').getByRole('table').getByRole('cell').first().waitFor();
    },
  ],
  [
    'explore-inspect-cost',
    explore([CPU]),
    '[data-testid=chart] canvas',
    async (page) => {
      await page.getByRole('button', { name: 'Inspect' }).click();
      await page.getByRole('tab', { name: 'Statistics' }).click();
      await page.getByRole('button', { name: /Ask again/ }).click();
      await page.getByRole('table', { name: 'Work of the shards' }).waitFor();
    },
  ],
  ['explore-partial', explore(['pharos_shard_applied_index'], { limit: 3 }), '[data-testid=chart] canvas'],
  [
    'notebook',
    notebook(
      { kind: 'text', text: STORY },
      { kind: 'sql', text: KINDS, view: 'chart' },
      { kind: 'promql', text: CPU },
      { kind: 'promql', text: CPU, instant: true },
      { kind: 'sql', text: 'SELECT 1 AS folded', folded: true },
    ),
    '[data-kind=promql] canvas',
    (page) => page.waitForSelector('[data-kind=promql] [data-testid=name-bars]'),
  ],
  [
    'notebook-chart',
    notebook({ kind: 'sql', text: MEMORY, view: 'chart', chart: { draw: 'bar' } }),
    '[data-kind=sql] canvas',
  ],
];

/** The slow quarter, in the buckets above half a second. */
const slowPart = () => {
  const from = seededAt - (STEPS / 2 - 1) * STEP * 1000;
  return { box: `${from}-${from + (STEPS / 4 - 1) * STEP * 1000},0.5..2` };
};

export async function askFlows({ test, onPage, go, settled, clean, assert, parameter, cluster }) {
  const cell = (page, nth) => page.getByTestId('sql-cell').nth(nth);
  const write = async (page, scope, text) => {
    await scope.locator('.cm-content').click();
    await page.keyboard.press('Control+a');
    await page.keyboard.press('Backspace');
    await page.keyboard.insertText(text);
    await page.keyboard.press('Escape');
  };
  const saved = async (page, act) => {
    const download = page.waitForEvent('download');
    await act();
    const file = await download;
    return { name: file.suggestedFilename(), bytes: readFileSync(await file.path()) };
  };

  await test('a notebook holds SQL, PromQL and text, and its link is all of it', () =>
    onPage({}, async (page, context) => {
      await go(page, '/sql?from=now-15m&to=now');
      await write(page, cell(page, 0), KINDS);
      await page.keyboard.press('Control+Enter');
      await cell(page, 0)
        .getByRole('row', { name: /^attribute \d+$/ })
        .waitFor();
      const added = page.getByRole('group', { name: 'Add a cell' });
      await added.getByRole('button', { name: 'PromQL' }).click();
      await write(page, cell(page, 1), CPU);
      await page.keyboard.press('Control+Enter');
      await cell(page, 1).locator('canvas').waitFor();
      await cell(page, 1).getByRole('button', { name: 'Table' }).click();
      await cell(page, 1)
        .getByRole('columnheader', { name: /instance=/ })
        .first()
        .waitFor();
      await cell(page, 1).getByRole('button', { name: 'At its end' }).click();
      await cell(page, 1)
        .getByRole('columnheader', { name: /^instance/ })
        .waitFor();
      await cell(page, 1).getByRole('button', { name: 'Chart' }).click();
      await cell(page, 1).getByTestId('name-bars').waitFor();
      await added.getByRole('button', { name: 'Text' }).click();
      await page.getByRole('textbox', { name: 'Text 3' }).fill(`${STORY}\n\n<img src=x onerror="window.hacked=1">`);
      await page.keyboard.press('Control+Enter');
      await cell(page, 2).getByRole('heading', { name: 'What happened' }).waitFor();
      await cell(page, 2).getByText('onerror', { exact: false }).waitFor();
      assert((await cell(page, 2).locator('img').count()) === 0, 'text made an element of what it holds');
      // To the top, and a copy of it; the SQL is folded.
      await cell(page, 2).getByRole('button', { name: 'Move up' }).click();
      await cell(page, 1).getByRole('button', { name: 'Move up' }).click();
      await cell(page, 0).getByRole('heading', { name: 'What happened' }).waitFor();
      await cell(page, 0).getByRole('button', { name: 'Duplicate' }).click();
      await cell(page, 1).getByRole('heading', { name: 'What happened' }).waitFor();
      await cell(page, 1).getByRole('button', { name: 'Remove this cell' }).click();
      await page.getByRole('button', { name: 'Fold cell 2' }).click();
      await cell(page, 1).locator('.cm-content').waitFor({ state: 'detached' });
      const other = await context.newPage();
      const shared = new URL(page.url());
      await other.goto(`${cluster.url(2)}${shared.pathname}${shared.search}`);
      await cell(other, 0).getByRole('heading', { name: 'What happened' }).waitFor();
      await other.getByRole('button', { name: 'Unfold cell 2' }).click();
      await cell(other, 1)
        .getByRole('row', { name: /^attribute \d+$/ })
        .waitFor();
      await cell(other, 2).getByTestId('name-bars').waitFor();
      await other.close();
    }));

  await test('PromQL of a notebook follows the time of the page', () =>
    onPage({}, async (page) => {
      await go(page, notebook({ kind: 'promql', text: 'seed_took_seconds_bucket', view: 'table' }));
      await cell(page, 0).getByTestId('stats').waitFor();
      const asked = page.waitForRequest((request) => {
        const { pathname, searchParams } = new URL(request.url());
        const [start, end] = ['start', 'end'].map((name) => Number(searchParams.get(name)));
        return pathname === '/api/v1/query_range' && end - start > 3 * 3600;
      });
      await page.goto(page.url().replace('now-15m', 'now-6h'));
      await asked;
    }));

  await test('all cells run in order until they are stopped', () =>
    onPage({}, async (page) => {
      const slow = 'SELECT sum(value) AS slow FROM generate_series(1, 200000000000)';
      await go(page, notebook('SELECT 11 AS first', slow, 'SELECT 33 AS third'));
      await cell(page, 0).getByTestId('sql-stats').waitFor();
      const running = async () => {
        const answer = await fetch(`${cluster.url()}/api/v1/status/active_queries`);
        return (await answer.json()).data.active.filter((q) => q.query.includes('200000000000')).length;
      };
      await until('the second runs', async () => (await running()) > 0);
      assert((await cell(page, 2).getByTestId('sql-stats').count()) === 0, 'the third waits for the second');
      await page.getByRole('button', { name: 'Stop all' }).click();
      await until('it is stopped on the server', async () => (await running()) === 0);
      await page.getByRole('button', { name: 'Run all' }).waitFor();
      await sleep(500);
      assert((await cell(page, 2).getByTestId('sql-stats').count()) === 0, 'nothing runs after the stop');
      await cell(page, 2).getByRole('button', { name: 'Run' }).click();
      await cell(page, 2).getByText('33', { exact: true }).last().waitFor();
    }));

  await test('a notebook goes through a file, and a wrong file is named', () =>
    onPage({}, async (page) => {
      await go(page, notebook({ kind: 'text', text: STORY }, 'SELECT 42 AS answer'));
      await cell(page, 1).getByTestId('sql-stats').waitFor();
      const file = await saved(page, () => page.getByRole('button', { name: 'Export' }).click());
      assert(file.name === 'notebook.json', file.name);
      const made = JSON.parse(file.bytes.toString());
      assert(made.pharos === 'notebook' && made.cells.length === 2, file.bytes.toString());
      made.name = 'from a file';
      await go(page, '/sql');
      await page.evaluate(() => localStorage.removeItem('pharos.notebooks'));
      await go(page, '/sql');
      const give = (name, text) =>
        page
          .getByLabel('Notebook file')
          .setInputFiles({ name, mimeType: 'application/json', buffer: Buffer.from(text) });
      await give('other.json', '{"title": "a dashboard"}');
      await page.getByRole('alert').getByText('other.json: This is no notebook', { exact: false }).waitFor();
      await give('mine.json', JSON.stringify(made));
      await page.getByRole('heading', { name: 'SQL: from a file' }).waitFor();
      await cell(page, 0).getByRole('heading', { name: 'What happened' }).waitFor();
      await cell(page, 1).getByText('42', { exact: true }).last().waitFor();
    }));

  await test('answers are files: CSV, JSON and Arrow', () =>
    onPage({}, async (page) => {
      await go(
        page,
        notebook('SELECT 9007199254740993 AS big, \'a,"b"\' AS text', {
          kind: 'promql',
          text: 'seed_took_seconds_bucket{host="slow"}',
        }),
      );
      const take = (nth, name) => saved(page, () => cell(page, nth).getByRole('button', { name, exact: true }).click());
      const csv = await take(0, 'CSV');
      assert(csv.name === 'statement 1.csv', csv.name);
      assert(csv.bytes.toString() === 'big,text\r\n9007199254740993,"a,""b"""', csv.bytes.toString());
      const json = (await take(0, 'JSON')).bytes.toString();
      assert(json.includes('"big":9007199254740993,') && JSON.parse(json)[0].text === 'a,"b"', json);
      const isArrow = ({ bytes }, word) => bytes.readInt32LE(0) === -1 && bytes.includes(word);
      assert(isArrow(await take(0, 'Arrow'), 'big'), 'a stream of Arrow begins with a message');
      const rows = JSON.parse((await take(1, 'JSON')).bytes.toString());
      assert(
        rows.length > 100 && rows[0].host === 'slow' && typeof rows[0].value === 'number',
        JSON.stringify(rows[0]),
      );
      const arrow = await take(1, 'Arrow');
      assert(arrow.name === 'query 2.arrows' && isArrow(arrow, 'host'), arrow.name);
    }));

  await test('columns of an answer are chosen for its chart, and the link has them', () =>
    onPage({}, async (page) => {
      const text = "SELECT * FROM (VALUES (1, 10, 5, 'a'), (2, 20, 6, 'a'), (3, 15, 7, 'b')) AS t(n, v, w, host)";
      await go(page, notebook(text));
      await cell(page, 0).getByRole('button', { name: 'Chart' }).click();
      await cell(page, 0).getByTestId('name-bars').waitFor();
      await cell(page, 0).getByLabel('Along').selectOption('n');
      await cell(page, 0).locator('canvas').waitFor();
      await cell(page, 0).getByRole('button', { name: 'Bars' }).click();
      // Of piled bars every one is seen: none covers another.
      const drawn = () =>
        page.evaluate(() => {
          const canvas = document.querySelector('[data-testid=sql-cell] canvas');
          const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
          const seen = new Map();
          for (let i = 0; i < data.length; i += 4) {
            const colour = `rgb(${data[i]}, ${data[i + 1]}, ${data[i + 2]})`;
            seen.set(colour, (seen.get(colour) ?? 0) + 1);
          }
          const lines = document.querySelectorAll('[data-testid=legend] tbody line');
          return [...lines].map((line) => seen.get(getComputedStyle(line).stroke) ?? 0);
        });
      await until('both series are drawn', async () => {
        const pixels = await drawn();
        return pixels.length === 2 && pixels.every((count) => count > 500);
      });
      await cell(page, 0)
        .getByRole('button', { name: /^Numbers/ })
        .click();
      await page.getByRole('checkbox', { name: 'w' }).uncheck();
      await page.keyboard.press('Escape');
      await cell(page, 0)
        .getByRole('button', { name: /^A series for each/ })
        .click();
      await page.getByRole('checkbox', { name: 'host' }).check();
      await page.keyboard.press('Escape');
      const names = async () =>
        (await cell(page, 0).getByTestId('legend').locator('tbody .legend-name').allInnerTexts()).join();
      await until('a series for each host', async () => (await names()) === 'a,b');
      await page.reload();
      await cell(page, 0).locator('canvas').waitFor();
      await until('the link has the columns', async () => (await names()) === 'a,b');
      assert(
        await cell(page, 0).getByRole('button', { name: 'Bars', pressed: true }).isVisible(),
        'and how it is drawn',
      );
    }));

  await test('a chart can be inspected: data, statistics, its trace, the query as it was sent', () =>
    onPage({}, async (page) => {
      await go(page, explore([CPU, 'up']));
      await page.waitForSelector('[data-testid=chart] canvas');
      await settled(page);
      await page.locator('h1').click();
      await page.keyboard.press('i');
      const box = page.getByRole('dialog');
      const table = box.getByRole('table', { name: 'Data of query A' });
      await table
        .getByRole('columnheader', { name: /instance=/ })
        .first()
        .waitFor();
      const first = () => table.getByRole('row').nth(1).getByRole('cell').first().innerText();
      const oldest = await first();
      await table.getByRole('button', { name: /^time/ }).click();
      await table.getByRole('button', { name: /^time/ }).click();
      await until('sorted by a click', async () => (await first()) > oldest);
      await box.getByRole('button', { name: 'By series' }).click();
      await table
        .getByRole('cell', { name: /instance=/ })
        .first()
        .waitFor();
      await box.getByRole('button', { name: 'By time' }).click();
      const csv = await saved(page, () => box.getByRole('button', { name: 'CSV' }).click());
      assert(
        csv.name === 'query A by time.csv' && /^time,"?\{instance=/.test(csv.bytes.toString()),
        csv.bytes.toString(),
      );
      await box.getByRole('button', { name: 'B', exact: true }).click();
      await box.getByRole('table', { name: 'Data of query B' }).waitFor();
      await box.getByRole('button', { name: 'A', exact: true }).click();
      await box.getByRole('tab', { name: 'Query' }).click();
      await box.getByText('curl -sG', { exact: false }).waitFor();
      await box.getByText('GET /api/v1/query_range').waitFor();
      await box.getByRole('tab', { name: 'Statistics' }).click();
      await box.getByTestId('inspect-facts').getByText('samples read').waitFor();
      await box.getByRole('button', { name: /Ask again/ }).click();
      await box.getByRole('table', { name: 'Work of the shards' }).getByRole('cell').first().waitFor();
      await clean(page, 'an inspected chart');
      await box.getByTestId('inspect-facts').getByRole('link').click();
      await page.waitForURL(/\/trace\/[0-9a-f]{32}/);
      const span = page.locator('.wf-row', { hasText: 'GET /api/v1/query_range' }).first();
      await until('the trace is written', async () => {
        const again = page.getByRole('button', { name: 'Look again' });
        if (await again.isVisible()) await again.click();
        return span.isVisible();
      });
    }));

  await test('a panel of a dashboard can be inspected', () =>
    onPage({}, async (page) => {
      await go(page, '/dashboards/pharos-queries?from=now-15m&to=now');
      const panel = page.locator('[data-testid=panel][data-kind=timeseries]').first();
      await panel.locator('canvas').waitFor();
      await panel.getByRole('button', { name: /^Panel/ }).click();
      await page.getByRole('menuitem', { name: 'Inspect' }).click();
      const box = page.getByRole('dialog');
      await box.getByRole('table').getByRole('columnheader', { name: /^time/ }).waitFor();
      await box.getByRole('tab', { name: 'Query' }).click();
      await box.getByText('curl -sG', { exact: false }).waitFor();
      await box.getByRole('tab', { name: 'Panel' }).click();
      await box.getByText('"kind": "timeseries"', { exact: false }).waitFor();
      await clean(page, 'an inspected panel');
      await page.keyboard.press('Escape');
      await box.waitFor({ state: 'detached' });
    }));

  await test('figures are a number a series', () =>
    onPage({}, async (page) => {
      await go(page, explore(['seed_took_seconds_bucket{le="+Inf"}'], { ...seeded(), view: 'stat' }));
      const figures = page.getByTestId('figures').getByRole('listitem');
      await figures.nth(1).waitFor();
      assert((await figures.count()) === 2, 'one for each host');
      const slow = figures.filter({ hasText: 'slow' });
      const figure = () => slow.locator('.figure-number').getAttribute('title');
      assert((await figure()) === String(21 * STEPS), `the last value: ${await figure()}`);
      await slow.locator('svg polyline').first().waitFor();
      await page.getByLabel('Figure').selectOption('min');
      await until('the least', async () => (await figure()) === '21');
      assert(parameter(page, 'figure') === 'min', 'it is in the address');
    }));

  await test('a part of a heatmap is compared with the rest', () =>
    onPage({}, async (page) => {
      await go(page, explore([TOOK], { ...seeded(), view: 'heatmap' }));
      await page.waitForSelector('[data-testid=heatmap] canvas');
      await settled(page);
      const heat = await page.getByTestId('heatmap').boundingBox();
      const x = (share) => heat.x + 64 + (heat.width - 72) * share;
      const y = (share) => heat.y + 6 + (heat.height - 30) * share;
      await page.keyboard.down('Shift');
      // Of four rows the second from the top is the slow one.
      await page.mouse.move(x(0.52), y(0.3));
      await page.mouse.down();
      await page.mouse.move(x(0.73), y(0.45), { steps: 6 });
      await page.mouse.up();
      await page.keyboard.up('Shift');
      await page.getByTestId('chosen').waitFor();
      assert(/,0\.5\.\.2$/.test(parameter(page, 'box')), parameter(page, 'box'));
      await page.getByRole('button', { name: 'Compare selection' }).click();
      const compare = page.getByTestId('compare');
      const slow = compare.getByRole('button', { name: /^slow/ });
      assert(/100\s?%/.test(await slow.innerText()), await slow.innerText());
      await slow.click();
      await page.getByText('Only the histograms of', { exact: false }).waitFor();
      await page.getByRole('button', { name: 'Draw all' }).click();
      // Without a pointer: all buckets of the middle, then fewer.
      await page.keyboard.press('Escape');
      await page.getByTestId('chosen').waitFor({ state: 'detached' });
      await page.keyboard.press('c');
      await page.getByTestId('chosen').waitFor();
      assert(/-Infinity\.\.Infinity$/.test(parameter(page, 'box')), parameter(page, 'box'));
      await page.getByLabel('Buckets above').selectOption({ index: 2 });
      await until('fewer buckets', async () => /,0\.5\.\.Infinity$/.test(parameter(page, 'box')));
      const before = parameter(page, 'box');
      await page.getByRole('slider', { name: 'First moment' }).focus();
      await page.keyboard.press('ArrowLeft');
      await until('an edge has moved', async () => parameter(page, 'box') !== before);
      await clean(page, 'a part of a heatmap');
      await page.getByRole('button', { name: 'Zoom in' }).click();
      await page.getByTestId('chosen').waitFor({ state: 'detached' });
      const shown = () => Number(parameter(page, 'to')) - Number(parameter(page, 'from'));
      const part = shown();
      assert(part < 0.5 * STEPS * STEP * 1000, `zoomed to ${part} ms`);
      // A drag without Shift zooms, as over any chart.
      await settled(page);
      const zoomed = await page.getByTestId('heatmap').boundingBox();
      await page.mouse.move(zoomed.x + zoomed.width * 0.3, zoomed.y + 40);
      await page.mouse.down();
      await page.mouse.move(zoomed.x + zoomed.width * 0.7, zoomed.y + 60, { steps: 6 });
      await page.mouse.up();
      await until('a drag zooms', async () => shown() < part * 0.6);
    }));

  await test('an answer that is not whole says so', () =>
    onPage({}, async (page) => {
      await go(page, explore(['pharos_shard_applied_index'], { limit: 3 }));
      await page.getByText(/^\W*Partial: .*truncated/).waitFor();
      await page.getByRole('combobox', { name: 'Series', exact: true }).selectOption('0');
      await page.getByText(/^\W*Partial/).waitFor({ state: 'detached' });
      await go(page, explore(['up', 'sum(rate(up[5m])']));
      await page.getByText(/^\W*Partial: 1 of 2 queries failed/).waitFor();
    }));

  await test('an error names its trace, and leads to it', () =>
    onPage({}, async (page) => {
      await go(page, explore(['sum(rate(up[5m])']));
      const alert = page.getByRole('alert');
      await alert.waitFor();
      const trace = alert.getByRole('link', { name: /^[0-9a-f]{32}$/ });
      // Of each route the server keeps a trace a second.
      await until('the trace of an error is kept', async () => {
        if (await trace.isVisible()) return true;
        await sleep(1200);
        await alert.getByRole('button', { name: 'Try again' }).click();
        await sleep(500);
        return trace.isVisible();
      });
      await trace.click();
      await page.waitForURL(/\/trace\/[0-9a-f]{32}/);
      const span = page.locator('.wf-row', { hasText: 'GET /api/v1/query_range' }).first();
      await until('the trace is written', async () => {
        const again = page.getByRole('button', { name: 'Look again' });
        if (await again.isVisible()) await again.click();
        return span.isVisible();
      });
    }));

  await test('what helps to write is loaded when somebody writes', () =>
    onPage({}, async (page) => {
      const loaded = [];
      page.on('request', (request) => loaded.push(new URL(request.url()).pathname));
      const isHelp = (path) => /editorWriting|promqlWriting/.test(path);
      await go(page, explore(['up']));
      await page.locator('.cm-content').waitFor();
      await page.waitForSelector('[data-testid=chart] canvas');
      await settled(page);
      assert(!loaded.some(isHelp), `loaded unasked: ${loaded.filter(isHelp)}`);
      await page.locator('.cm-content').click();
      await page.keyboard.press('Control+End');
      await page.keyboard.type(' + pharos_shard_la', { delay: 20 });
      await page.locator('.cm-tooltip-autocomplete li', { hasText: 'pharos_shard_lag_entries' }).waitFor();
      assert(loaded.some(isHelp), 'it has names');
      await page.keyboard.press('Escape');
      await page.keyboard.type('{', { delay: 20 });
      assert((await page.locator('.cm-content').innerText()).endsWith('{}'), 'brackets close');
    }));
}

// What people do on the pages Logs, Home, Cluster, Cardinality and Admin, and with the time picker.

import { readFileSync } from 'node:fs';
import { sleep, until } from './harness.mjs';
import { visit } from './spans.mjs';

/** Logs of a tenant of its own: a boat's, thirty lines, some of them in colours. */
const BOAT = { tenant: `boat-${process.pid}`, end: 0 };
const ESC = '\u001b';
const COLOURED = `${ESC}[1;31mANCHOR${ESC}[0m is ${ESC}[38;5;208mlost${ESC}[0m, ${ESC}[44mblue ground${ESC}[0m`;

/** Two ships a day ago, five now: counted are those of the last minutes, so that they are written when they are asked for. */
async function fleet(cluster) {
  const series = (n, time) =>
    Array.from({ length: n }, (_, i) => ({ labels: { __name__: 'fleet_size', ship: `s${i}` }, samples: [[time, i]] }));
  const then = Date.now() - 90_000;
  await cluster.write(series(2, then - 86_400_000), 1, BOAT.tenant);
  await cluster.write(series(5, then), 1, BOAT.tenant);
}

let seeded;

export async function seedPages(cluster) {
  seeded = cluster;
  BOAT.end = Math.floor(Date.now() / 60_000) * 60_000;
  const records = Array.from({ length: 30 }, (_, i) => ({
    time: BOAT.end - 60_000 - i * 1000,
    severity: i % 10 === 0 ? 17 : 9,
    body: i === 3 ? COLOURED : `wave ${i}, "high"\nand low`,
    fields: { knots: i, deck: i % 2 === 0 ? 'upper' : 'lower' },
  }));
  await cluster.writeLogs({ boat: records }, 1, BOAT.tenant);
  await fleet(cluster);
}

const boat = (path, more = {}) =>
  `${path}?${new URLSearchParams({ tenant: BOAT.tenant, from: String(BOAT.end - 600_000), to: String(BOAT.end), ...more })}`;

/** Screens that are looked at in both themes. */
export const PAGE_SCREENS = [
  [
    'logs-pins',
    () => boat('/logs'),
    '.log-row',
    async (page) => {
      await page.locator('.log-row', { hasText: 'ANCHOR' }).click({ modifiers: ['ControlOrMeta'] });
      await page.locator('.log-row', { hasText: 'wave 5' }).click({ modifiers: ['Shift'] });
      await page.getByTestId('log-selected').getByRole('button', { name: 'Pin' }).click();
      await page.getByTestId('log-pins').locator('li').nth(2).waitFor();
      await page.locator('.log-row[role=option]', { hasText: 'ANCHOR' }).click();
      await page.waitForSelector('[data-testid=log-record]');
    },
  ],
  [
    'logs-export',
    () => boat('/logs'),
    '.log-row',
    async (page) => {
      await page.getByRole('button', { name: 'Save records as a file' }).click();
      await page.getByRole('dialog').getByRole('button', { name: 'CSV' }).click();
    },
  ],
  [
    'time-form',
    () => boat('/logs', { tz: 'America/St_Johns' }),
    '.log-row',
    async (page) => {
      await page.getByTestId('time-range').click();
      await page.getByLabel('Find a time zone').fill('america');
      await page.waitForSelector('.zone-list [role=option]');
    },
  ],
  [
    'home-services',
    '/',
    '[data-testid=health]',
    async (page) => {
      // A rate needs the counters of two times.
      await page.getByTestId('home-services').locator('li').first().waitFor({ timeout: 90_000 });
    },
  ],
  ['cluster-ring', '/cluster?view=ring&shard=2', '[data-testid=ring] .ring-cell'],
  ['cluster-filtered', '/cluster?only=late', '[data-testid=filtered-out]'],
  [
    'cardinality-grown',
    () => boat('/cardinality', { from: 'now-15m', to: 'now' }),
    '[aria-label^="Series in the registries"]',
    async (page) => {
      await fleet(seeded);
      await page.getByRole('button', { name: '1d ago' }).click();
      await page.getByTestId('grown').nth(1).waitFor();
    },
  ],
  ['cardinality-filtered', '/cardinality?find=no-such-name', '[data-testid=filtered-out]'],
  ['admin-tenants', () => `/admin?tab=tenants&tenant=${BOAT.tenant}`, '[role=row] >> text=boat'],
  ['services-filtered', '/services?from=now-30m&to=now&find=no-such-name', '[data-testid=filtered-out]'],
];

export async function pageFlows({ test, onPage, go, settled, assert, parameter, cluster }) {
  const lines = (page) => page.getByTestId('log-list').locator('.log-row');

  await test('lines are pinned, stay whatever is searched, are in the link, and are cleared', () =>
    onPage({}, async (page, context) => {
      await go(page, boat('/logs'));
      const line = lines(page).filter({ hasText: 'ANCHOR' });
      await line.waitFor();
      await line.hover();
      await line.locator('.log-pin').click();
      const pins = page.getByTestId('log-pins');
      await pins.getByText('1 pinned').waitFor();
      assert((await page.getByTestId('log-record').count()) === 0, 'pinning opens nothing');
      // By keys: open a line, pin it.
      await lines(page).filter({ hasText: 'wave 7' }).click();
      await page.getByTestId('log-record').waitFor();
      await page.keyboard.press('b');
      await pins.getByText('2 pinned').waitFor();
      await page.keyboard.press('Escape');
      await until('the link has both', () => (parameter(page, 'pins') ?? '').split(',').length === 2);
      // Several at once.
      await lines(page)
        .filter({ hasText: 'wave 10' })
        .click({ modifiers: ['ControlOrMeta'] });
      await lines(page)
        .filter({ hasText: 'wave 12' })
        .click({ modifiers: ['Shift'] });
      await page.getByTestId('log-selected').getByText('3 selected').waitFor();
      await page.getByTestId('log-selected').getByRole('button', { name: 'Pin' }).click();
      await pins.getByText('5 pinned').waitFor();
      // Another search, which finds none of them.
      await page.getByTestId('log-editor').locator('.cm-content').click();
      await page.keyboard.insertText('nothing_of_this_kind');
      await page.keyboard.press('Escape');
      await page.keyboard.press('Enter');
      await page.getByText('The search finds nothing in this time').waitFor();
      await pins.getByText('5 pinned').waitFor();
      await pins.locator('li', { hasText: 'ANCHOR' }).waitFor();
      // Somebody else opens the link.
      const other = await context.newPage();
      await other.goto(page.url());
      await other.getByTestId('log-pins').locator('li').nth(4).waitFor();
      const order = await other.getByTestId('log-pins').locator('li').allInnerTexts();
      assert(/ANCHOR/.test(order[0]) && /wave 12/.test(order[4]), order.join(' | '));
      // From the pin to the records around it, open.
      await other.getByTestId('log-pins').locator('li', { hasText: 'wave 10' }).hover();
      await other
        .getByTestId('log-pins')
        .locator('li', { hasText: 'wave 10' })
        .getByRole('button', { name: 'Go there' })
        .click();
      await other.getByTestId('log-record').getByText('wave 10').first().waitFor();
      await other.locator('.log-row.is-pinned[role=option]', { hasText: 'wave 10' }).waitFor();
      await other.close();
      // A pin of a record that is not there is said, and can be forgotten.
      await go(page, boat('/logs', { pins: JSON.stringify(['1795856400000000001_abc']) }));
      await pins.getByText('1 not there', { exact: false }).waitFor();
      await pins.getByRole('button', { name: 'Forget' }).click();
      await pins.waitFor({ state: 'detached' });
      assert(parameter(page, 'pins') === null, 'no pin is left in the link');
    }));

  await test('no more lines are pinned than a link holds, and that is said', () =>
    onPage({}, async (page) => {
      await go(page, boat('/logs'));
      await lines(page)
        .first()
        .click({ modifiers: ['ControlOrMeta'] });
      await lines(page)
        .nth(23)
        .click({ modifiers: ['Shift'] });
      await page.getByTestId('log-selected').getByText('24 selected').waitFor();
      await page.getByTestId('log-selected').getByRole('button', { name: 'Pin' }).click();
      const pins = page.getByTestId('log-pins');
      await pins.getByText('20 pinned').waitFor();
      await pins.getByText('20 are as many as a link holds', { exact: false }).waitFor();
      await pins.getByRole('button', { name: 'Clear' }).click();
      await pins.waitFor({ state: 'detached' });
    }));

  await test('records are saved as text, JSON lines and CSV', () =>
    onPage({}, async (page) => {
      const saved = async (which, form) => {
        const dialog = page.getByRole('dialog');
        await dialog.getByRole('button', { name: which }).click();
        await dialog.getByRole('button', { name: form, exact: true }).click();
        const [file] = await Promise.all([
          page.waitForEvent('download'),
          dialog.getByRole('button', { name: 'Save', exact: true }).click(),
        ]);
        return [readFileSync(await file.path(), 'utf8'), file.suggestedFilename()];
      };
      await go(page, boat('/logs', { columns: JSON.stringify(['knots']) }));
      await lines(page)
        .filter({ hasText: 'wave 1,' })
        .click({ modifiers: ['ControlOrMeta'] });
      await lines(page)
        .filter({ hasText: 'ANCHOR' })
        .click({ modifiers: ['ControlOrMeta'] });
      await page.getByTestId('log-selected').getByRole('button', { name: 'Save' }).click();
      const [text, name] = await saved('Selected, 2', 'Text');
      assert(/^logs-.*\.log$/.test(name), name);
      const rows = text.trimEnd().split('\n');
      assert(rows.length === 2 && / info 1 wave 1, "high"\\nand low$/.test(rows[0]), text);
      assert(rows[1].endsWith(' info 3 ANCHOR is lost, blue ground'), rows[1]);
      const [json] = await saved('All that is found, 30', 'JSON lines');
      const records = json.trimEnd().split('\n').map(JSON.parse);
      assert(records.length === 30 && records[3].body === COLOURED && records[0].id === undefined, json.slice(0, 500));
      assert(
        records.every((record) => record.resource['service.name'] === 'boat'),
        'the whole record',
      );
      const [csv] = await saved('All that is found, 30', 'CSV');
      assert(
        csv.startsWith('time,level,knots,body\r\n') && csv.includes('"wave 1, ""high""\nand low"'),
        csv.slice(0, 300),
      );
      await page.getByText('Saved 30 records', { exact: false }).waitFor();
      // Of the live tail, what is here.
      await go(page, '/logs?live=true&q=service.name%3Araft');
      await cluster.writeLogs({ raft: [{ time: Date.now(), body: 'still afloat' }] });
      await lines(page).filter({ hasText: 'still afloat' }).waitFor();
      await page.locator('h1').click();
      await page.keyboard.press('e');
      const [live] = await saved('All that is here, 1', 'Text');
      assert(/ info still afloat\n$/.test(live), live);
    }));

  await test('more records than a file holds: the newest, and it is said', () =>
    onPage({}, async (page) => {
      // A server that never comes to an end.
      let asked = 0;
      await page.route(/\/logs\/query.*limit=2000/, (route) => {
        asked += 1;
        const rows = Array.from({ length: 2000 }, (_, i) => ({
          id: `${asked}_1_${i}`,
          time: '2026-11-28T09:00:00Z',
          timeUnixNano: '1795856400000000001',
          body: `line ${asked} ${i}`,
        }));
        return route.fulfill({ json: { status: 'success', data: { rows, cursor: `${asked}` } } });
      });
      await go(page, boat('/logs'));
      await lines(page).first().waitFor();
      await page.keyboard.press('e');
      const dialog = page.getByRole('dialog');
      const [file] = await Promise.all([
        page.waitForEvent('download'),
        dialog.getByRole('button', { name: 'Save', exact: true }).click(),
      ]);
      await dialog.getByText('There are more: these are the newest', { exact: false }).waitFor();
      const count = readFileSync(await file.path(), 'utf8')
        .trimEnd()
        .split('\n').length;
      assert(count === 50_000 && asked === 25, `${count} lines by ${asked} questions`);
    }));

  await test('colours of terminals are colours, or their codes, and always text', () =>
    onPage({}, async (page) => {
      await go(page, boat('/logs'));
      const line = lines(page).filter({ hasText: 'ANCHOR' });
      assert((await line.locator('.log-body').innerText()) === 'ANCHOR is lost, blue ground', await line.innerText());
      const look = (text) =>
        line.locator('.log-body span', { hasText: text }).evaluate((span) => {
          const { color, backgroundColor, fontWeight } = getComputedStyle(span);
          return { color, backgroundColor, fontWeight, plain: getComputedStyle(span.parentElement).color };
        });
      const [red, own, ground] = [await look('ANCHOR'), await look('lost'), await look('blue')];
      assert(red.color !== red.plain && red.fontWeight === '700', JSON.stringify(red));
      assert(own.color !== own.plain && own.color !== red.color, JSON.stringify(own));
      assert(ground.backgroundColor !== 'rgba(0, 0, 0, 0)' && ground.color === ground.plain, JSON.stringify(ground));
      // What is searched for is marked over a change of colour.
      await page.getByRole('button', { name: 'Show the codes of colours as they are' }).click();
      await line.locator('.log-body', { hasText: '␛[1;31mANCHOR␛[0m is ␛[38;5;208mlost' }).waitFor();
      assert((await line.locator('.log-body span').count()) === 0, 'codes have no looks');
      await page.reload();
      await line.locator('.log-body', { hasText: '␛[1;31mANCHOR' }).waitFor();
      await page.getByRole('button', { name: 'Show colours' }).click();
      await line.locator('.log-body span').first().waitFor();
      await line.click();
      await page.getByTestId('log-record').locator('.ansi-ink-1', { hasText: 'ANCHOR' }).waitFor();
    }));

  await test('a zone is found by its city, kept, and read by all clocks of the page', () =>
    onPage({}, async (page) => {
      await go(page, boat('/logs', { columns: JSON.stringify(['knots']) }));
      const time = async () => (await lines(page).first().locator('.log-time').innerText()).slice(0, 8);
      await lines(page).first().waitFor();
      const clock = (zone) =>
        new Date(BOAT.end - 60_000).toLocaleTimeString('en-GB', { timeZone: zone, hour12: false });
      assert((await time()) === clock('UTC'), `${await time()} in UTC`);
      await page.getByTestId('time-range').click();
      await page.getByLabel('Find a time zone').fill('kolk');
      await page.getByRole('option', { name: /Asia\/Kolkata/ }).waitFor();
      await page.keyboard.press('Enter');
      await until('log times are of Kolkata', async () => (await time()) === clock('Asia/Kolkata'));
      assert(/UTC\+05:30/.test(await page.getByTestId('time-range').innerText()), 'the button says which');
      // The ends are the same moments, as those clocks show them.
      const from = new Date(BOAT.end - 600_000).toLocaleString('sv-SE', { timeZone: 'Asia/Kolkata' });
      assert((await page.getByLabel('From').inputValue()) === from, await page.getByLabel('From').inputValue());
      // Typed times are of it, too.
      await page.getByLabel('From').fill(from.replace(/\d\d$/, '30'));
      await page.getByRole('button', { name: 'Apply' }).click();
      await until('the range begins there', () => parameter(page, 'from') === String(BOAT.end - 600_000 + 30_000));
      await page.reload();
      await lines(page).first().waitFor();
      assert((await time()) === clock('Asia/Kolkata'), 'it is kept');
      // A tick of the bars and their tooltip.
      const tick = await page.locator('.log-tick').first().innerText();
      assert(/^\d\d:\d\d/.test(tick), tick);
      // A link may say another one; the choice of this browser takes its place.
      await go(page, boat('/logs', { tz: 'America/New_York' }));
      await lines(page).first().waitFor();
      await until('it is the link’s', async () => (await time()) === clock('America/New_York'));
      await page.getByRole('button', { name: 'Share a link' }).click();
      const shared = await page.getByLabel(/Frozen/).inputValue();
      assert(new URL(shared).searchParams.get('tz') === 'America/New_York', shared);
      await page.keyboard.press('Escape');
      await page.getByTestId('time-range').click();
      await page.getByRole('group', { name: 'Time zone' }).getByRole('button', { name: 'UTC', exact: true }).click();
      await until('it is UTC', async () => (await time()) === clock('UTC'));
      assert(parameter(page, 'tz') === null, 'the address says no other');
      // No such zone.
      await page.getByLabel('Find a time zone').fill('atlantis');
      await page.getByText('No time zone is called so', { exact: false }).waitFor();
    }));

  await test('a chart over the end of summer time has the hour twice', () =>
    onPage({}, async (page) => {
      const start = Date.UTC(2026, 9, 24, 23, 0);
      await page.route(/\/api\/v1\/query_range/, (route) =>
        route.fulfill({
          json: {
            status: 'success',
            data: {
              resultType: 'matrix',
              result: [
                {
                  metric: { __name__: 'tide' },
                  values: Array.from({ length: 25 }, (_, i) => [start / 1000 + i * 600, String(i)]),
                },
              ],
            },
          },
        }),
      );
      const range = 'from=2026-10-25 01:00&to=2026-10-25 04:00&tz=Europe/Berlin&step=10m';
      await go(page, `/explore?q=${encodeURIComponent('["tide"]')}&${range}`);
      await page.waitForSelector('.u-over');
      await settled(page);
      await sleep(300);
      const box = await page.locator('.u-over').boundingBox();
      const at = async (hours) => {
        await page.mouse.move(box.x + (box.width * hours) / 4, box.y + box.height / 2);
        return page.locator('.chart-tip-time').innerText();
      };
      const shown = [await at(1.51), await at(2.51), await at(3.51)];
      const wanted = ['2026-10-25 02:30:00', '2026-10-25 02:30:00', '2026-10-25 03:30:00'];
      assert(shown.join() === wanted.join(), shown.join());
    }));

  await test('home lists services with what they are asked, and opens one', () =>
    onPage({}, async (page) => {
      let n = 5000;
      const row = page.getByTestId('home-services').locator('li', { hasText: 'checkout' });
      await go(page, '/');
      await until('the checkout is asked something', async () => {
        const out = {};
        for (let i = 0; i < 10; i++) {
          n += 1;
          visit(out, n, Date.now() - 3000, (0xeeee0000n + BigInt(n)).toString(16).padStart(32, '0'));
        }
        await cluster.writeSpans(out);
        await sleep(2000);
        return (await row.count()) > 0 && !/\b0\/s/.test(await row.innerText());
      });
      const text = (await row.innerText()).replace(/\s+/g, ' ');
      assert(/checkout .*\/s .*\d % failed p99 .*s$/.test(text), text);
      assert((await row.locator('svg rect').count()) > 0, 'a course is drawn');
      await row.getByRole('link').click();
      await page.waitForURL(/service=checkout/);
      // Nothing of it where there are no spans.
      await go(page, `/?tenant=nobody-${process.pid}`);
      await page.getByText('Nothing has arrived for tenant', { exact: false }).waitFor();
      assert((await page.getByTestId('home-services').count()) === 0, 'no list');
    }));

  await test('the cluster shows its spread, a ring, and what a filter leaves', () =>
    onPage({}, async (page) => {
      await go(page, '/cluster');
      await page.getByTestId('spread').locator('tbody tr').nth(2).waitFor();
      const matrix = page.getByTestId('matrix');
      const cells = await matrix.locator('.cell').count();
      await page.getByRole('button', { name: 'Ring' }).click();
      const ring = page.getByTestId('ring');
      await ring.locator('.ring-cell').first().waitFor();
      assert((await ring.locator('.ring-cell').count()) === cells, 'a cell a replica');
      await ring.locator('.ring-cell').nth(3).click();
      await page.getByRole('complementary').getByText('wanted on').waitFor();
      assert((await ring.locator('.ring-chord').count()) === 2, 'lines from the leader to the others');
      await page.reload();
      await ring.locator('.ring-cell').first().waitFor();
      await page.getByRole('button', { name: 'Matrix' }).click();
      await page.getByLabel('Find a shard or a node').fill('2');
      await until('one shard is left', async () => (await matrix.locator('.cell').count()) === 3);
      await page.getByLabel('Find a shard or a node').fill('node 2');
      await until('one node is left', async () => (await matrix.locator('tbody tr').count()) === 1);
      await page.getByRole('button', { name: 'Moving' }).click();
      const none = page.getByTestId('filtered-out');
      await none.getByRole('button', { name: 'Clear the state' }).click();
      await none.waitFor({ state: 'detached' });
    }));

  await test('a list that its filter empties says so, and offers the way back', () =>
    onPage({}, async (page) => {
      const places = [
        ['/browse?from=now-15m&to=now&search=zzz_none', '.metric-card'],
        ['/services?from=now-1h&to=now&find=zzz_none', '.trace-list [role=cell]'],
        ['/services?from=now-1h&to=now&view=map&find=zzz_none', '.map-node'],
        ['/cluster?find=zzz_none', '[data-testid=matrix]'],
        ['/cardinality?find=zzz_none', '.bars td'],
        ['/admin?tab=flags&find=zzz_none', '.facts-table td'],
        ['/admin?tab=tenants&find=zzz_none', '[role=cell]'],
      ];
      for (const [path, list] of places) {
        await go(page, path);
        const none = page.getByTestId('filtered-out').first();
        await none.getByText('zzz_none').waitFor();
        await none.getByRole('button', { name: 'Clear the filter' }).click();
        await page.locator(list).first().waitFor();
        assert((await page.getByTestId('filtered-out').count()) === 0, `${path} is whole again`);
        assert(!page.url().includes('zzz_none'), page.url());
      }
      const fields = [
        [boat('/logs'), 'Find a field', '.facet-head'],
        ['/sql', 'Find a table', '.facet-head'],
        [
          `/explore?q=${encodeURIComponent('["pharos_shard_series"]')}&from=now-15m&to=now`,
          'Filter series',
          '.legend-name',
        ],
      ];
      for (const [path, label, list] of fields) {
        await go(page, path);
        await page.locator(list).first().waitFor();
        await page.getByLabel(label).fill('zzz_none');
        const none = page.getByTestId('filtered-out');
        await none.getByText('zzz_none').waitFor();
        await none.getByRole('button', { name: 'Clear the filter' }).click();
        await page.locator(list).first().waitFor();
      }
    }));

  await test('cardinality tells what has grown since a day ago', () =>
    onPage({}, async (page) => {
      await fleet(cluster);
      await go(page, boat('/cardinality', { from: 'now-15m', to: 'now' }));
      await page.getByText('Choose a moment to compare with', { exact: false }).waitFor();
      await page.getByRole('button', { name: '1d ago' }).click();
      const rows = page.getByTestId('grown');
      await rows.getByText('fleet_size').waitFor();
      await rows.getByText('ship').waitFor();
      const said = (await rows.allInnerTexts()).join(' ').replace(/\s+/g, ' ');
      assert(/fleet_size 5 \+3, \+150 %/.test(said) && /ship 5 \+3, \+150 %/.test(said), said);
      await page.getByRole('button', { name: '7d ago' }).click();
      await page.getByText('Nothing is known of a week ago').first().waitFor();
      // The registries over time, of the cluster's own metrics, whatever tenant is looked at.
      await page.locator('[aria-label^="Series in the registries"]').waitFor();
    }));

  await test('tenants are listed with what they have and send', () =>
    onPage({}, async (page) => {
      await go(page, '/admin?tab=tenants');
      const row = (name) => page.getByRole('row', { name: new RegExp(`^${name}`) });
      await row('default').waitFor();
      assert((await row(BOAT.tenant).count()) === 0, 'nobody has named it');
      await page.getByLabel('Name of a tenant').fill('no such name');
      assert(await page.getByRole('button', { name: 'Add' }).isDisabled(), 'a name that can not be');
      await page.getByLabel('Name of a tenant').fill(BOAT.tenant);
      await page.getByRole('button', { name: 'Add' }).click();
      await row(BOAT.tenant).waitFor();
      await until('its figures are there', async () => /\n5\n/.test(await row(BOAT.tenant).innerText()));
      const text = await row(BOAT.tenant).innerText();
      assert(/named here\n5\n30\n0\.00833\n[\d.]+ \w+\n0\n0/.test(text), text);
      await page.reload();
      await row(BOAT.tenant).getByRole('link', { name: '30' }).click();
      await page.waitForURL(/\/logs\?.*tenant=boat/);
      await page.getByText('30 records', { exact: false }).first().waitFor();
    }));
}

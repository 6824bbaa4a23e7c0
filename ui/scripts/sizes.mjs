// The size gates: what each screen takes from the wire, first visit. They are exact, so they fail a build; times are
// measured elsewhere (`make bench-ui`) and only recorded.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

const dist = join(new URL('..', import.meta.url).pathname, 'dist');
const manifest = JSON.parse(readFileSync(join(dist, 'manifest.json'), 'utf8'));
const KB = 1000;
const GOALS = { shell: 165 * KB, page: 380 * KB, all: 700 * KB };

const size = (file, form) => {
  const path = join(dist, file);
  return statSync(existsSync(path + form) ? path + form : path).size;
};

/** All files that an entry needs before it can show. */
function closure(key, seen = new Set()) {
  if (seen.has(key)) return seen;
  seen.add(key);
  for (const next of manifest[key].imports ?? []) closure(next, seen);
  return seen;
}

const filesOf = (keys) => {
  const files = new Set();
  for (const key of keys) {
    files.add(manifest[key].file);
    for (const css of manifest[key].css ?? []) files.add(css);
  }
  return [...files];
};

const entry = Object.keys(manifest).find((key) => manifest[key].isEntry);
const shell = closure(entry);
const fonts = readdirSync(join(dist, 'assets')).filter((name) => name.endsWith('.woff2'));
const fontBytes = fonts.reduce((sum, name) => sum + statSync(join(dist, 'assets', name)).size, 0);
const sum = (files, form) => files.reduce((total, file) => total + size(file, form), 0);
const isScript = (file) => file.endsWith('.js');

/** What screens load behind their first chunk without being asked: the tools of the top bar, the editor. */
const TOOLS = 'src/components/TopTools.tsx';
const BEHIND = {
  'src/pages/Explore.tsx': ['src/components/PromqlEditor.tsx'],
  'src/pages/Logs.tsx': ['src/components/LogEditor.tsx'],
  'src/pages/Traces.tsx': ['src/components/TraceqlEditor.tsx'],
  'src/pages/Sql.tsx': ['src/components/SqlEditor.tsx'],
};

const rows = [];
const check = (name, bytes, goal) => rows.push({ name, bytes, goal, ok: bytes <= goal });
check('shell, scripts, gzip', sum(filesOf(shell).filter(isScript), '.gz'), GOALS.shell);
for (const key of Object.keys(manifest).filter((k) => k.startsWith('src/pages/'))) {
  const keys = closure(key, new Set(shell));
  for (const more of [TOOLS, ...(BEHIND[key] ?? [])]) closure(more, keys);
  check(`${key.slice(10, -4)}, all, brotli, fonts included`, sum(filesOf(keys), '.br') + fontBytes, GOALS.page);
}
const scripts = readdirSync(join(dist, 'assets'))
  .filter(isScript)
  .map((name) => `assets/${name}`);
check('all scripts, gzip', sum(scripts, '.gz'), GOALS.all);

for (const row of rows) {
  console.log(
    `${row.ok ? 'ok  ' : 'OVER'} ${(row.bytes / KB).toFixed(1).padStart(7)} kB of ${row.goal / KB} kB  ${row.name}`,
  );
}
if (rows.some((row) => !row.ok)) process.exit(1);

// Says by its exit code whether `dist` is made from the sources that are here: 0 when it is. With `--write` it notes
// down what it is made from. Content counts, not times: a fresh checkout has all files of now.
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const root = new URL('..', import.meta.url).pathname;
const note = join(root, 'dist', 'source-hash.txt');
const PARTS = ['index.html', 'package-lock.json', 'vite.config.ts', 'public', 'scripts', 'src'];

function* files(path) {
  if (!statSync(path).isDirectory()) yield path;
  else for (const name of readdirSync(path).sort()) yield* files(join(path, name));
}

const hash = createHash('sha256');
for (const part of PARTS) {
  for (const path of files(join(root, part))) {
    if (/\.test\.tsx?$/.test(path)) continue;
    const bytes = readFileSync(path);
    hash.update(`${path.slice(root.length)} ${bytes.length}\n`).update(bytes);
  }
}
const now = hash.digest('hex');
if (process.argv.includes('--write')) writeFileSync(note, `${now}\n`);
else process.exit(existsSync(note) && readFileSync(note, 'utf8').trim() === now ? 0 : 1);

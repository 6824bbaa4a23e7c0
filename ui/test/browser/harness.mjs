// What the browser tests stand on: a real cluster of three nodes with live and seeded data, a real Chromium.

import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

export const root = new URL('../..', import.meta.url).pathname;

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Asks until it is so; the guard is generous, since machines are shared. */
export async function until(what, ask, guardMs = 120_000) {
  const end = Date.now() + guardMs;
  let last;
  while (Date.now() < end) {
    try {
      const answer = await ask();
      if (answer) return answer;
      last = 'not yet';
    } catch (error) {
      last = error;
    }
    await sleep(200);
  }
  throw new Error(`${what}: ${last instanceof Error ? last.message : last}`);
}

function binary() {
  const path = process.env.PHAROS_BIN;
  if (!path || !existsSync(path))
    throw new Error(`PHAROS_BIN names no binary (${path ?? 'not set'}): build one with \`make build\``);
  return path;
}

/** A cluster by `pharos dev`, on ports that other tests do not use. */
export class Cluster {
  constructor(nodes = 3) {
    this.dir = mkdtempSync(join(tmpdir(), 'pharos-ui-'));
    // Below the ports that the system gives out by itself.
    this.base = 20_000 + (process.pid % 250) * 40;
    this.nodes = nodes;
  }

  async start() {
    this.log = '';
    // While pages are worked on: a cluster that runs already, behind `npm run dev`.
    if (process.env.UI_ATTACH) return this;
    this.process = spawn(
      binary(),
      ['dev', '--nodes', String(this.nodes), '--data-dir', this.dir, '--port-base', String(this.base)],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    for (const stream of [this.process.stdout, this.process.stderr]) {
      stream.on('data', (piece) => {
        this.log += piece;
      });
    }
    for (let node = 1; node <= this.nodes; node++) {
      await until(
        `node ${node} is ready`,
        async () => {
          if (this.process.exitCode !== null) throw new Error(`pharos dev ended:\n${this.log}`);
          return (await fetch(`${this.url(node)}/-/ready`)).ok;
        },
        300_000,
      );
    }
    return this;
  }

  url(node = 1) {
    if (process.env.UI_ATTACH) return process.env.UI_ATTACH;
    return `http://127.0.0.1:${this.base + node}`;
  }

  async stop() {
    if (this.process?.exitCode === null) {
      this.process.kill('SIGINT');
      await Promise.race([new Promise((done) => this.process.once('exit', done)), sleep(60_000)]);
      if (this.process.exitCode === null) this.process.kill('SIGKILL');
    }
    rmSync(this.dir, { recursive: true, force: true });
  }

  async query(text, node = 1) {
    const answer = await fetch(`${this.url(node)}/api/v1/query?query=${encodeURIComponent(text)}`);
    return (await answer.json()).data.result;
  }

  /** Writes samples by remote write 1.0. */
  async write(series, node = 1, tenant) {
    const answer = await this.send('/api/v1/write', node, {
      body: snappy(writeRequest(series)),
      headers: {
        'Content-Type': 'application/x-protobuf',
        'Content-Encoding': 'snappy',
        'X-Prometheus-Remote-Write-Version': '0.1.0',
        ...(tenant ? { 'X-Scope-OrgID': tenant } : {}),
      },
    });
    if (!answer.ok) throw new Error(`write: ${answer.status} ${await answer.text()}`);
  }

  /** Posts as exporters do: what is answered 429 or 503, say because the disk is busy, is sent again, the same bytes. */
  send(path, node, request) {
    return until(`${path} is taken`, async () => {
      const answer = await fetch(`${this.url(node)}${path}`, { method: 'POST', ...request });
      if (answer.status === 429 || answer.status === 503) throw new Error(`${answer.status} ${await answer.text()}`);
      return answer;
    });
  }

  /** Writes log records by OTLP. */
  async writeLogs(services, node = 1, tenant) {
    const resourceLogs = Object.entries(services).map(([service, records]) => ({
      resource: { attributes: attributes({ 'service.name': service }) },
      scopeLogs: [
        {
          scope: { name: 'seed' },
          logRecords: records.map(({ time, severity = 9, body, fields = {}, trace }) => ({
            timeUnixNano: `${Math.round(time)}000000`,
            severityNumber: severity,
            body: value(body),
            attributes: attributes(fields),
            ...(trace ? { traceId: trace, spanId: trace.slice(16) } : {}),
          })),
        },
      ],
    }));
    await this.otlp('logs', { resourceLogs }, node, tenant);
  }

  /** Writes spans by OTLP: lists of `{trace, id, parent, name, kind, start, end, ...}` by service; times in milliseconds. */
  async writeSpans(services, node = 1, tenant) {
    const nanos = (ms) => `${Math.floor(ms)}${String(Math.round((ms % 1) * 1e6)).padStart(6, '0')}`;
    const resourceSpans = Object.entries(services).map(([service, spans]) => ({
      resource: { attributes: attributes({ 'service.name': service, 'host.name': `${service}-1` }) },
      scopeSpans: [
        {
          scope: { name: 'seed', version: '1.2' },
          spans: spans.map((span) => ({
            traceId: span.trace,
            spanId: span.id,
            ...(span.parent ? { parentSpanId: span.parent } : {}),
            name: span.name,
            kind: { internal: 1, server: 2, client: 3, producer: 4, consumer: 5 }[span.kind ?? 'internal'],
            startTimeUnixNano: nanos(span.start),
            endTimeUnixNano: nanos(span.end),
            attributes: attributes(span.fields ?? {}),
            events: (span.events ?? []).map(({ time, name, fields = {} }) => ({
              timeUnixNano: nanos(time),
              name,
              attributes: attributes(fields),
            })),
            links: (span.links ?? []).map(({ trace, id, fields = {} }) => ({
              traceId: trace,
              spanId: id,
              attributes: attributes(fields),
            })),
            ...(span.error === undefined ? {} : { status: { code: 2, message: span.error } }),
          })),
        },
      ],
    }));
    await this.otlp('traces', { resourceSpans }, node, tenant);
  }

  async otlp(what, body, node, tenant) {
    const answer = await this.send(`/v1/${what}`, node, {
      body: JSON.stringify(body),
      headers: { 'Content-Type': 'application/json', ...(tenant ? { 'X-Scope-OrgID': tenant } : {}) },
    });
    if (!answer.ok) throw new Error(`${what}: ${answer.status} ${await answer.text()}`);
    const { partialSuccess } = await answer.json();
    if (partialSuccess?.errorMessage) throw new Error(`${what}: ${JSON.stringify(partialSuccess)}`);
  }
}

/** Values and attributes of OTLP. */
const value = (of) =>
  typeof of === 'string'
    ? { stringValue: of }
    : typeof of === 'boolean'
      ? { boolValue: of }
      : Number.isInteger(of)
        ? { intValue: String(of) }
        : { doubleValue: of };
const attributes = (of) => Object.entries(of).map(([key, one]) => ({ key, value: value(one) }));

// --- Just enough of protobuf and snappy for remote write ------------------------------------------------------------

function varint(value) {
  const out = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  do {
    const byte = Number(rest & 127n);
    rest >>= 7n;
    out.push(rest > 0n ? byte | 128 : byte);
  } while (rest > 0n);
  return Buffer.from(out);
}

const field = (number, bytes) => Buffer.concat([varint((number << 3) | 2), varint(bytes.length), bytes]);
const text = (number, value) => field(number, Buffer.from(value));
const double = (number, value) => {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return Buffer.concat([varint((number << 3) | 1), bytes]);
};
const integer = (number, value) => Buffer.concat([varint(number << 3), varint(value)]);

const labelsOf = (labels) =>
  Object.entries(labels)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => field(1, Buffer.concat([text(1, name), text(2, value)])));

function writeRequest(series) {
  return Buffer.concat(
    series.map(({ labels, samples, exemplars = [] }) =>
      field(
        1,
        Buffer.concat([
          ...labelsOf(labels),
          ...samples.map(([time, value]) => field(2, Buffer.concat([double(1, value), integer(2, time)]))),
          ...exemplars.map((e) =>
            field(3, Buffer.concat([...labelsOf(e.labels), double(2, e.value), integer(3, e.time)])),
          ),
        ]),
      ),
    ),
  );
}

/** The block format with literals only. */
function snappy(bytes) {
  const out = [varint(bytes.length)];
  for (let at = 0; at < bytes.length; at += 60_000) {
    const piece = bytes.subarray(at, at + 60_000);
    const tag = Buffer.alloc(3);
    tag[0] = 61 << 2;
    tag.writeUInt16LE(piece.length - 1, 1);
    out.push(tag, piece);
  }
  return Buffer.concat(out);
}

// --- The browser ----------------------------------------------------------------------------------------------------

const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

export async function browser() {
  const executablePath = process.env.CHROMIUM ?? CHROMIUM.find((path) => existsSync(path));
  if (!executablePath) throw new Error('no Chromium: set CHROMIUM to its path');
  return chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--force-color-profile=srgb'],
  });
}

/** A page that remembers everything that went wrong on it. */
export async function open(instance, { theme = 'dark', width = 1440, height = 900 } = {}) {
  const context = await instance.newContext({
    viewport: { width, height },
    colorScheme: theme,
    reducedMotion: 'reduce',
    timezoneId: 'UTC',
    locale: 'en-GB',
  });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  const problems = [];
  page.on('pageerror', (error) => problems.push(`error: ${error.stack ?? error.message}`));
  page.on('console', (message) => {
    // Statuses of requests are judged by what the page shows of them.
    if (message.type() === 'error' && !/Failed to load resource/.test(message.text()))
      problems.push(`console: ${message.text()}`);
  });
  page.on('dialog', (dialog) => void dialog.accept());
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => {
      console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
    });
  });
  return { page, context, problems };
}

// Requests to the server: one envelope, one kind of error, cancelled with their screen.

import { currentTenant } from '../state/prefs';

export type ErrorType =
  | 'bad_data'
  | 'not_found'
  | 'conflict'
  | 'forbidden'
  | 'execution'
  | 'too_many_requests'
  | 'unavailable'
  | 'timeout'
  | 'canceled'
  | 'internal'
  | 'network';

/** Why a request failed, as the server says it, or that there was no server. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly type: ErrorType,
    readonly status: number,
    readonly details?: unknown,
    /** Id of the request's trace, where the server keeps it. */
    readonly trace?: string,
  ) {
    super(message);
    this.name = 'ApiError';
  }

  /** Whether the same request may succeed later. */
  get isPassing(): boolean {
    return ['too_many_requests', 'unavailable', 'timeout', 'network'].includes(this.type);
  }
}

/** What an answer carries besides its data. */
export interface Remarks {
  warnings: string[];
  infos: string[];
}

export interface Answer<T> extends Remarks {
  data: T;
  /** From the request's start to the parsed answer. */
  elapsedMs: number;
  /** Bytes of the body, after decompression. */
  bytes: number;
  /** Id of the request's trace, where the server keeps it. */
  trace?: string;
}

const traceOf = (response: Response): string | undefined => response.headers.get('X-Pharos-Trace-Id') ?? undefined;

/** A trace context of our own, sampled: the server keeps the trace of a request that has one. */
function traceParent(): string {
  const hex = [...crypto.getRandomValues(new Uint8Array(24))]
    .map((byte) => byte.toString(16).padStart(2, '0'))
    .join('');
  return `00-${hex.slice(0, 32)}-${hex.slice(32)}-01`;
}

export type Params = Record<string, string | number | boolean | undefined | string[]>;

/** An address on this server, also behind a proxy that serves it under a path. */
export const address = (path: string): string => new URL(path.replace(/^\//, ''), document.baseURI).toString();

function encode(params: Params): URLSearchParams {
  const out = new URLSearchParams();
  for (const [key, value] of Object.entries(params)) {
    if (value === undefined || value === '') continue;
    if (Array.isArray(value)) for (const one of value) out.append(key, one);
    else out.append(key, String(value));
  }
  return out;
}

async function exchange<T>(
  path: string,
  init: RequestInit,
  tenant: string | undefined,
  read: (response: Response) => Promise<T>,
): Promise<{ response: Response; body: T }> {
  const headers = new Headers(init.headers);
  if (tenant) headers.set('X-Scope-OrgID', tenant);
  try {
    const response = await fetch(address(path), { ...init, headers });
    return { response, body: await read(response) };
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new ApiError('The server does not answer. It may be stopped, or the network is down.', 'network', 0);
  }
}

async function send(
  path: string,
  init: RequestInit,
  tenant = currentTenant(),
): Promise<{ response: Response; text: string }> {
  const { response, body } = await exchange(path, init, tenant, (answer) => answer.text());
  return { response, text: body };
}

function failure(response: Response, text: string): ApiError {
  try {
    const body = JSON.parse(text) as { error?: string; errorType?: ErrorType; data?: unknown };
    if (body.error)
      return new ApiError(body.error, body.errorType ?? 'internal', response.status, body.data, traceOf(response));
  } catch {
    // Not the server's envelope: a proxy speaks.
  }
  const type: ErrorType =
    response.status === 404
      ? 'not_found'
      : response.status >= 500
        ? 'unavailable'
        : response.status === 413
          ? 'execution'
          : 'bad_data';
  const said = text.slice(0, 300).trim() || `HTTP ${response.status}`;
  return new ApiError(said, type, response.status, undefined, traceOf(response));
}

/** Whole numbers that a double can not hold stay exact, as bigint; for answers that show stored numbers. */
function exactNumbers(_key: string, value: unknown, context?: { source?: string }): unknown {
  const source = context?.source;
  return typeof value === 'number' && !Number.isSafeInteger(value) && source && /^-?\d+$/.test(source)
    ? BigInt(source)
    : value;
}

/** Whether a text may have such numbers; looking through it for them is far cheaper than a call for each value. */
const mayHaveLong = (text: string): boolean => /[[:,]\s*-?\d{16}/.test(text);

/** Longer parameters go into the body: some proxies cut addresses. */
const LONG_QUERY = 1500;

/** Asks an endpoint with Prometheus' envelope. */
export async function ask<T>(
  path: string,
  params: Params = {},
  options: { signal?: AbortSignal; post?: boolean; tenant?: string; exact?: boolean; traced?: boolean } = {},
): Promise<Answer<T>> {
  const begun = performance.now();
  const query = encode(params).toString();
  const post = options.post || query.length > LONG_QUERY;
  const traced = options.traced ? { traceparent: traceParent() } : undefined;
  const { response, text } = post
    ? await send(
        path,
        {
          method: 'POST',
          body: query,
          headers: { 'Content-Type': 'application/x-www-form-urlencoded', ...traced },
          signal: options.signal,
        },
        options.tenant,
      )
    : await send(query === '' ? path : `${path}?${query}`, { signal: options.signal, headers: traced }, options.tenant);
  if (!response.ok) throw failure(response, text);
  const body = (text === '' ? {} : JSON.parse(text, options.exact && mayHaveLong(text) ? exactNumbers : undefined)) as {
    data?: T;
    warnings?: string[];
    infos?: string[];
  };
  return {
    data: body.data as T,
    warnings: body.warnings ?? [],
    infos: body.infos ?? [],
    elapsedMs: performance.now() - begun,
    bytes: text.length,
    trace: traceOf(response),
  };
}

/** Asks an endpoint that answers plain JSON. */
export async function askPlain<T>(path: string, signal?: AbortSignal, tenant?: string): Promise<T> {
  const { response, text } = await send(path, { signal }, tenant);
  if (!response.ok) throw failure(response, text);
  return JSON.parse(text) as T;
}

/** Asks for a file, of any kind. */
export async function askFile(path: string, params: Params, signal?: AbortSignal): Promise<Blob> {
  const init = { method: 'POST', body: encode(params), signal };
  const { response, body } = await exchange(path, init, currentTenant(), (answer) => answer.blob());
  if (!response.ok) throw failure(response, await body.text());
  return body;
}

/** Sends JSON. */
export async function tell<T>(method: 'POST' | 'PUT' | 'DELETE', path: string, body?: unknown): Promise<T> {
  const { response, text } = await send(path, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } }),
  });
  if (!response.ok) throw failure(response, text);
  return (text === '' ? undefined : (JSON.parse(text) as { data: T }).data) as T;
}

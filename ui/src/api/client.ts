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

async function send(
  path: string,
  init: RequestInit,
  tenant = currentTenant(),
): Promise<{ response: Response; text: string }> {
  const headers = new Headers(init.headers);
  if (tenant) headers.set('X-Scope-OrgID', tenant);
  try {
    const response = await fetch(address(path), { ...init, headers });
    return { response, text: await response.text() };
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new ApiError('The server does not answer. It may be stopped, or the network is down.', 'network', 0);
  }
}

function failure(response: Response, text: string): ApiError {
  try {
    const body = JSON.parse(text) as { error?: string; errorType?: ErrorType; data?: unknown };
    if (body.error) return new ApiError(body.error, body.errorType ?? 'internal', response.status, body.data);
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
  return new ApiError(text.slice(0, 300).trim() || `HTTP ${response.status}`, type, response.status);
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
  options: { signal?: AbortSignal; post?: boolean; tenant?: string; exact?: boolean } = {},
): Promise<Answer<T>> {
  const begun = performance.now();
  const query = encode(params).toString();
  const post = options.post || query.length > LONG_QUERY;
  const { response, text } = post
    ? await send(
        path,
        {
          method: 'POST',
          body: query,
          headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
          signal: options.signal,
        },
        options.tenant,
      )
    : await send(query === '' ? path : `${path}?${query}`, { signal: options.signal }, options.tenant);
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
  };
}

/** Asks an endpoint that answers plain JSON. */
export async function askPlain<T>(path: string, signal?: AbortSignal): Promise<T> {
  const { response, text } = await send(path, { signal });
  if (!response.ok) throw failure(response, text);
  return JSON.parse(text) as T;
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

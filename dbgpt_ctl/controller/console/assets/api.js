/** The calls of /api/v1. Paths are relative, so that they hold below the prefix of a proxy. */

/** @import { Command, EventPage, Finding, Identity, Instance, Listing, Setting, Status, Who } from "./types.js" */

const ROOT = "../api/v1/";
const TIMEOUT_MILLIS = 15_000;

/** An answer that is no success. `status` is 0 where no answer came. */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {string} message
   * @param {string} [code]  stable, as docs/api.md lists it
   */
  constructor(status, message, code = "") {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** @returns {Promise<Listing>} */
export const list = () => get("instances");

/**
 * @param {Identity} key
 * @returns {Promise<{time: string, instance: Instance}>}
 */
export const getInstance = (key) => get("instance", identity(key));

/**
 * @param {Record<string, string>} query
 * @returns {Promise<EventPage>}
 */
export const events = (query) => get("events", query);

/** @returns {Promise<Status>} */
export const status = () => get("status");

/** @returns {Promise<{time: string, findings: Finding[]}>} */
export const diagnosis = () => get("diagnosis");

/** @returns {Promise<{settings: Setting[]}>} */
export const settings = () => get("settings");

/**
 * @param {Identity} key
 * @returns {Promise<{commands: Command[]}>}
 */
export const commands = (key) => get("commands", identity(key));

/** @returns {Promise<Who>} */
export const session = () => get("session");

/**
 * @param {string} token
 * @returns {Promise<Who>}
 */
export const signIn = (token) => send("POST", "session", { token });

/** @returns {Promise<Who>} */
export const signOut = () => send("DELETE", "session", {});

/**
 * @param {Identity} key
 * @param {{reason: string | null, for_secs: number | null}} request
 * @returns {Promise<{instance: Instance}>}
 */
export const drain = (key, request) => send("POST", "drain", { ...identityFields(key), ...request });

/**
 * @param {Identity} key
 * @returns {Promise<{instance: Instance}>}
 */
export const undrain = (key) => send("POST", "undrain", identityFields(key));

/**
 * Opens the stream of changes after a cursor, or from now on.
 *
 * @param {string | null} cursor
 * @param {AbortSignal} signal
 * @returns {Promise<ReadableStream<Uint8Array<ArrayBuffer>>>}
 */
export async function watch(cursor, signal) {
  const query = cursor === null ? "" : `?${new URLSearchParams({ cursor })}`;
  const response = await request(`watch${query}`, { signal });
  return /** @type {ReadableStream<Uint8Array<ArrayBuffer>>} */ (response.body);
}

/** @param {Identity} key */
function identityFields(key) {
  return { model_name: key.model_name, host: key.host, port: key.port };
}

/** @param {Identity} key */
function identity(key) {
  return { ...identityFields(key), port: String(key.port) };
}

/**
 * @param {string} path
 * @param {Record<string, string>} [query]
 */
async function get(path, query = {}) {
  const text = new URLSearchParams(query).toString();
  const signal = AbortSignal.timeout(TIMEOUT_MILLIS);
  return body(await request(text ? `${path}?${text}` : path, { signal }));
}

/**
 * @param {string} method
 * @param {string} path
 * @param {object} fields
 */
async function send(method, path, fields) {
  const headers = { "Content-Type": "application/json" };
  const signal = AbortSignal.timeout(TIMEOUT_MILLIS);
  return body(await request(path, { method, headers, body: JSON.stringify(fields), signal }));
}

/** @param {Response} response */
async function body(response) {
  try {
    return await response.json();
  } catch (error) {
    throw new ApiError(0, `the answer of the controller broke off: ${String(error)}`);
  }
}

/**
 * @param {string} path
 * @param {RequestInit} init
 */
async function request(path, init) {
  const headers = new Headers(init.headers);
  headers.set("X-Requested-With", "XMLHttpRequest"); // so that no 401 opens the browser's own dialog
  let response;
  try {
    response = await fetch(ROOT + path, { cache: "no-store", credentials: "same-origin", ...init, headers });
  } catch (error) {
    const late = error instanceof DOMException && error.name === "TimeoutError";
    throw new ApiError(0, late ? "the controller does not answer in time" : "the controller cannot be reached");
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  throw new ApiError(response.status, String(problem.detail ?? `status ${response.status}`), String(problem.code ?? ""));
}

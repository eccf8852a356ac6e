/**
 * The stream of changes. It closes while the page is hidden, because a browser allows six connections to a host, and
 * goes on from its cursor.
 *
 * It is read with fetch and not with EventSource, which hides the status of a refusal and the signs of life between
 * changes.
 */

import { ApiError, watch } from "./api.js";

/** @import { Change } from "./types.js" */

const FIRST_RETRY_MILLIS = 500;
const LAST_RETRY_MILLIS = 5000;
/** The controller sends a sign of life every 10 seconds. */
const SILENT_MILLIS = 25_000;

/**
 * Dispatches `changes` with all changes that came at once, `reset` where changes are missing (also at the first
 * connection), and `state` when `live` or `failure` changes.
 *
 * @typedef {CustomEvent<Change[]>} ChangesEvent
 */
export class Watch extends EventTarget {
  /** Whether changes arrive. */
  live = false;
  /** @type {ApiError | null} Why they do not. */
  failure = null;
  /** When the controller answered last, by the clock of this machine. */
  lastSeen = Date.now();
  /** @type {string | null} */
  cursor = null;
  /** @type {AbortController | null} */
  #connection = null;
  #retry = FIRST_RETRY_MILLIS;
  #timer = 0;
  #started = false;

  constructor() {
    super();
    document.addEventListener("visibilitychange", () => this.#started && (document.hidden ? this.#pause() : this.#connect()));
    addEventListener("online", () => this.#started && !this.live && this.#connect());
  }

  /**
   * Begins, or begins anew, after a cursor, or from now on.
   *
   * @param {string | null} cursor
   */
  start(cursor) {
    this.#started = true;
    this.cursor = cursor;
    this.#connect();
  }

  stop() {
    this.#started = false;
    this.#pause();
  }

  #pause() {
    clearTimeout(this.#timer);
    this.#connection?.abort();
    this.#connection = null;
    this.#set(false, null);
  }

  async #connect() {
    if (document.hidden) return;
    clearTimeout(this.#timer);
    this.#connection?.abort();
    const connection = new AbortController();
    this.#connection = connection;
    /** @type {ApiError} */
    let failure = new ApiError(0, "the connection ended");
    try {
      await this.#read(connection);
    } catch (error) {
      if (error instanceof ApiError) failure = error;
    }
    if (connection !== this.#connection) return;
    this.#set(false, failure);
    this.#timer = setTimeout(() => this.#connect(), this.#retry * (0.75 + Math.random() / 2));
    this.#retry = Math.min(LAST_RETRY_MILLIS, this.#retry * 2);
  }

  /**
   * Opens the stream and reads it to its end. One that is silent, also before it begins, is broken off.
   *
   * @param {AbortController} connection
   */
  async #read(connection) {
    let text = "";
    let silent = 0;
    const listen = () => {
      clearTimeout(silent);
      silent = setTimeout(() => connection.abort(), SILENT_MILLIS);
    };
    listen();
    try {
      const stream = await watch(this.cursor, connection.signal);
      const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        listen();
        this.lastSeen = Date.now();
        const messages = (text + value).split("\n\n");
        text = messages.pop() ?? "";
        this.#take(messages);
      }
    } finally {
      clearTimeout(silent);
    }
  }

  /** @param {string[]} messages */
  #take(messages) {
    /** @type {Change[]} */
    const changes = [];
    for (const { event, id, data } of messages.map(parsed)) {
      if (event === "change") changes.push(data);
      if (event === "reset" || (event === "ready" && this.cursor === null)) this.#dispatchReset(id);
      if (event === "ready") this.#ready();
      if (event === "refused") throw new ApiError(401, data.reason, data.code);
      if (id) this.cursor = id;
    }
    if (changes.length) this.dispatchEvent(new CustomEvent("changes", { detail: changes }));
  }

  #ready() {
    this.#retry = FIRST_RETRY_MILLIS;
    this.#set(true, null);
  }

  /** @param {string} cursor */
  #dispatchReset(cursor) {
    this.cursor = cursor;
    this.dispatchEvent(new Event("reset"));
  }

  /**
   * @param {boolean} live
   * @param {ApiError | null} failure
   */
  #set(live, failure) {
    this.live = live;
    this.failure = failure;
    this.dispatchEvent(new Event("state"));
  }
}

/**
 * One message of server-sent events, as this controller writes them: each field on one line.
 *
 * @param {string} message
 * @returns {{event: string, id: string, data: any}}
 */
function parsed(message) {
  /** @type {Record<string, string>} */
  const fields = {};
  for (const line of message.split("\n")) {
    const colon = line.indexOf(": ");
    if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
  }
  return { event: fields.event ?? "", id: fields.id ?? "", data: fields.data ? JSON.parse(fields.data) : null };
}

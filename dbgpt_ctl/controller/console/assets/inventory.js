/**
 * All instances in memory: loaded once, patched by changes, and loaded again now and then, because heartbeats are no
 * changes and the time of the last one would grow old.
 */

import * as api from "./api.js";
import { readList } from "./first_answers.js";
import { setClock } from "./time.js";

/** @import { Change, Identity, Instance } from "./types.js" */

const LEAST_REFRESH_MILLIS = 10_000;
const MOST_REFRESH_MILLIS = 60_000;
/** A list is loaded again after so many times the time that it took. */
const REST = 200;
/** So many changed instances are read one by one; for more of them the whole list is read. */
const MOST_SINGLE_READS = 10;
const SETTLE_MILLIS = 300;
/** In a storm of changes the next read waits so many times what the last one took: many pages may look. */
const READ_REST = 10;

/**
 * @param {Identity} key
 * @returns {string}
 */
export function keyOf(key) {
  return JSON.stringify([key.model_name, key.host, key.port]);
}

/**
 * `model_name` without its type, and the type.
 *
 * @param {string} modelName
 * @returns {[string, string]}
 */
export function nameAndType(modelName) {
  const at = modelName.lastIndexOf("@");
  return at < 0 ? [modelName, ""] : [modelName.slice(0, at), modelName.slice(at + 1)];
}

/** Dispatches `change` at most once per frame; `takeChanged` then tells which instances changed. */
export class Inventory extends EventTarget {
  /** @type {Map<string, Instance>} */
  instances = new Map();
  /** Whether a list was loaded. */
  loaded = false;
  /** @type {api.ApiError | null} Why the last load failed. */
  failure = null;
  /** @type {string | null} */
  staleSince = null;
  /** @type {string | null} */
  heldUntil = null;
  /** @type {Set<string> | null} */
  #changed = new Set();
  #frame = 0;
  /** @type {Map<string, Identity>} Changed instances whose other facts are to be read. */
  #unread = new Map();
  #readTimer = 0;
  #refreshTimer = 0;
  /** @type {Promise<void> | null} */
  #loading = null;
  /** @type {Change[]} Those that arrived during a load: the list may be older than they are. */
  #duringLoad = [];

  /** Loads the whole list. Calls at the same time share one load. A failure is noted in `failure`. */
  load() {
    if (this.#loading) return this.#loading;
    this.#duringLoad = [];
    const loading = this.#load().finally(() => {
      if (this.#loading === loading) this.#loading = null;
    });
    return this.#loading = loading;
  }

  /** Loads a list that is made after this call. One that is being loaded may be older, so another one follows it. */
  async reload() {
    await this.#loading;
    await this.load();
  }

  async #load() {
    clearTimeout(this.#refreshTimer);
    const began = performance.now();
    const before = this.instances;
    let wait = LEAST_REFRESH_MILLIS;
    try {
      const listing = await readList();
      if (before !== this.instances) return; // cleared meanwhile
      this.#take(listing);
      wait = Math.min(MOST_REFRESH_MILLIS, Math.max(wait, REST * (performance.now() - began)));
      this.failure = null;
    } catch (error) {
      if (!(error instanceof api.ApiError)) throw error;
      this.failure = error;
    }
    this.#note(null);
    if (!document.hidden) this.#refreshTimer = setTimeout(() => this.load(), wait);
  }

  /** Stops to load again until the next `load`. */
  rest() {
    clearTimeout(this.#refreshTimer);
  }

  /** Forgets all, as when somebody else signs in. */
  clear() {
    this.rest();
    this.#loading = null;
    this.instances = new Map();
    this.loaded = false;
    this.failure = this.staleSince = this.heldUntil = null;
    this.#note(null);
  }

  /** @param {import("./types.js").Listing} listing */
  #take(listing) {
    setClock(listing.time);
    this.staleSince = listing.stale_since;
    this.heldUntil = listing.held_until;
    this.loaded = true;
    const found = new Map();
    for (const instance of listing.instances) if (!instance.removed) found.set(keyOf(instance), instance);
    this.instances = found;
    for (const change of this.#duringLoad) this.#patch(change);
  }

  /**
   * Patches what a change tells at once; the other facts of the instance are read soon.
   *
   * @param {Change} change
   */
  apply(change) {
    if (this.#loading) this.#duringLoad.push(change);
    const key = this.#patch(change);
    this.#note(key);
    this.#readSoon(key, change);
  }

  /** @param {Change} change */
  #patch(change) {
    const key = keyOf(change);
    if (change.new === "absent") this.instances.delete(key);
    else this.instances.set(key, patched(this.instances.get(key), change));
    return key;
  }

  /**
   * Takes an instance as an answer shows it. One that is gone stays gone: the answer may be older than its removal.
   *
   * @param {Instance} instance
   */
  put(instance) {
    const key = keyOf(instance);
    if (!this.instances.has(key)) return;
    if (instance.removed) this.instances.delete(key);
    else this.instances.set(key, instance);
    this.#note(key);
  }

  /** The keys of the instances that changed since the last call; null: all may have changed. */
  takeChanged() {
    const changed = this.#changed;
    this.#changed = new Set();
    return changed;
  }

  /** @param {string | null} key */
  #note(key) {
    if (key === null) this.#changed = null;
    else this.#changed?.add(key);
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.dispatchEvent(new Event("change"));
    });
  }

  /**
   * @param {string} key
   * @param {Change} change
   */
  #readSoon(key, change) {
    if (change.new === "absent") this.#unread.delete(key);
    else this.#unread.set(key, { model_name: change.model_name, host: change.host, port: change.port });
    this.#readTimer ||= setTimeout(() => this.#read(), SETTLE_MILLIS);
  }

  async #read() {
    const began = performance.now();
    const keys = [...this.#unread.values()];
    this.#unread.clear();
    if (keys.length > MOST_SINGLE_READS) await this.reload();
    else await Promise.all(keys.map((key) => this.#readOne(key)));
    const rest = Math.max(SETTLE_MILLIS, READ_REST * (performance.now() - began));
    this.#readTimer = keys.length ? setTimeout(() => this.#read(), rest) : 0;
  }

  /** @param {Identity} key */
  async #readOne(key) {
    try {
      this.put((await api.getInstance(key)).instance);
    } catch (error) {
      if (!(error instanceof api.ApiError)) throw error; // it is gone, or the next load of the list has its facts
    }
  }
}

/**
 * The instance after a change, as far as the change tells.
 *
 * @param {Instance | undefined} before
 * @param {Change} change
 * @returns {Instance}
 */
function patched(before, change) {
  const state = /** @type {import("./types.js").State} */ (change.new);
  const started = { since: change.time, by: change.actor_name, reason: change.reason, until: null };
  const known = before ?? newInstance(change);
  return {
    ...known,
    state,
    routable: state === "healthy" && !change.drained,
    held: known.held && state === "healthy",
    drain: change.drained ? known.drain ?? started : null, // an answer to this page may have told more of it already
  };
}

/**
 * @param {Change} change
 * @returns {Instance}
 */
function newInstance({ model_name, host, port, time }) {
  return {
    model_name, host, port, state: "healthy", routable: false, held: false, drain: null, weight: 1, check_healthy: true,
    prompt_template: null, last_heartbeat: time, registered_at: time, deregistered_at: null, refused_at: null, flaps: 0,
    removed: false,
  };
}

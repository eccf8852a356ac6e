/** The newest events in memory: loaded once, and continued by the changes that the stream brings. */

import * as api from "./api.js";

/** @import { Change } from "./types.js" */
/** @import { ChangesEvent, Watch } from "./watch.js" */

export class Journal {
  /** @type {Change[]} The newest first; at most `most`. */
  events = [];
  loaded = false;
  /** @type {string | null} Some of the events before this time are no longer kept. */
  completeSince = null;
  /** @type {api.ApiError | null} Why the last load failed. */
  failure = null;
  /** @type {Record<string, string>} */
  #query = {};
  #loads = 0;
  /** Whether the events of the query are still to be asked for. */
  #waits = false;
  #frame = 0;
  #closed = new AbortController();
  #watch;
  #changed;

  /**
   * @param {Watch} watch
   * @param {number} most
   * @param {() => void} changed  called at most once per frame
   */
  constructor(watch, most, changed) {
    this.most = most;
    this.#watch = watch;
    this.#changed = changed;
    watch.addEventListener("changes", (event) => this.#add(/** @type {ChangesEvent} */ (event).detail), this.#closed);
    watch.addEventListener("reset", () => this.#load(), this.#closed);
    watch.addEventListener("state", () => this.#watched(), this.#closed);
  }

  /**
   * Loads the events of some instances.
   *
   * @param {Record<string, string>} query  may have a model_name, a host, a port, and in `by` a kind of actor
   */
  show(query) {
    if (this.#loads && JSON.stringify(query) === JSON.stringify(this.#query)) return;
    this.#query = query;
    this.loaded = false;
    this.#waits = true;
    if (this.#watch.live || this.#watch.failure) this.#load(); // else the stream begins soon, and with it a load
  }

  close() {
    this.#closed.abort();
  }

  #watched() {
    const { live, failure } = this.#watch;
    if (live ? this.failure || this.#waits : failure && this.#waits) this.#load();
  }

  async #load() {
    const load = ++this.#loads;
    this.#waits = false;
    const before = this.events;
    this.events = [];
    try {
      const page = await api.events({ ...this.#query, limit: String(this.most) });
      if (load !== this.#loads) return;
      const arrived = this.events.filter(({ id }) => id > page.last_id);
      this.events = [...arrived, ...page.events.reverse()];
      this.completeSince = page.complete_since;
      this.failure = null;
      this.loaded = true;
    } catch (error) {
      if (!(error instanceof api.ApiError)) throw error;
      if (load !== this.#loads) return;
      this.events.push(...before);
      this.failure = error;
    }
    this.#note();
  }

  /** @param {Change[]} changes */
  #add(changes) {
    const wanted = Object.entries(this.#query);
    for (const change of changes) {
      const known = change.id <= (this.events[0]?.id ?? 0);
      const values = { ...change, by: change.actor };
      if (!known && wanted.every(([name, value]) => String(values[/** @type {"host"} */ (name)]) === value)) this.events.unshift(change);
    }
    this.events.length = Math.min(this.events.length, this.most);
    this.#note();
  }

  #note() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      if (!this.#closed.signal.aborted) this.#changed();
    });
  }
}

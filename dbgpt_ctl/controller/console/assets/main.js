/** Starts the page: who looks, the instances, the stream of changes, and the view that the URL names. */

import { ApiError, status as readStatus } from "./api.js";
import { drawNotices, notices } from "./banner.js";
import { h, setText } from "./elements.js";
import { escaped } from "./escaping.js";
import { readCursor } from "./first_answers.js";
import { Inventory } from "./inventory.js";
import { listenToKeys } from "./keyboard.js";
import { followLinks, place } from "./location.js";
import { Session } from "./session.js";
import { refreshAges, setClock } from "./time.js";
import { show as showController } from "./views/controller.js";
import { show as showEvents } from "./views/events.js";
import { show as showInstance } from "./views/instance.js";
import { show as showInstances } from "./views/instances.js";
import { show as showOverview } from "./views/overview.js";
import { Watch } from "./watch.js";

/** @import { Context, Status, View } from "./types.js" */

const STATUS_MILLIS = 5000;
const RETRY_MILLIS = 2000;
const SHOW = { "": showOverview, instances: showInstances, instance: showInstance, events: showEvents, controller: showController };

/** The page as a whole. */
class Page {
  #session = new Session();
  #inventory = new Inventory();
  #watch = new Watch();
  /** @type {Status | null} */
  #status = null;
  /** @type {View | null} */
  #view = null;
  #shown = "none";
  #statusTimer = 0;

  /** Listens to all sources, and begins. */
  async run() {
    followLinks();
    listenToKeys(() => this.#view?.filter);
    addEventListener("popstate", () => this.#show());
    this.#inventory.addEventListener("change", () => this.#update(this.#inventory.takeChanged()));
    this.#watch.addEventListener("changes", (event) => {
      for (const change of /** @type {import("./watch.js").ChangesEvent} */ (event).detail) this.#inventory.apply(change);
    });
    this.#watch.addEventListener("reset", () => this.#inventory.reload());
    this.#watch.addEventListener("state", () => this.#watched());
    this.#session.addEventListener("change", () => this.#signedIn());
    document.addEventListener("visibilitychange", () => this.#visible());
    setInterval(() => this.#tick(), 1000);
    element("sign-in").addEventListener("click", () => this.#session.askForToken());
    element("sign-out").addEventListener("click", () => this.#session.signOut().catch(ignoreApiErrors));
    await this.#begin();
  }

  async #begin() {
    try {
      await this.#session.load();
    } catch (error) {
      ignoreApiErrors(error);
      const { message } = /** @type {ApiError} */ (error);
      setText(element("view"), `${message}. The page tries again by itself.`);
      setTimeout(() => this.#begin(), RETRY_MILLIS);
    }
  }

  #signedIn() {
    const { who } = this.#session;
    setText(element("who"), who.name ? `${escaped(who.name)} (${who.role})` : who.mode === "off" ? "authentication is off" : "not signed in");
    element("sign-in").hidden = who.mode === "off" || who.name !== null;
    element("sign-out").hidden = who.name === null;
    if (who.may_read) {
      this.#follow();
    } else {
      clearTimeout(this.#statusTimer);
      this.#watch.stop();
      this.#inventory.clear();
      this.#status = null;
    }
    this.#shown = "none";
    this.#show();
  }

  /** Reads the list and the changes since; then the status, because its answer would keep the list waiting. */
  async #follow() {
    const cursor = await readCursor().catch(ignoreApiErrors);
    if (!this.#session.who.may_read) return;
    this.#watch.start(cursor ?? null);
    await this.#inventory.load();
    requestAnimationFrame(() => setTimeout(() => this.#readStatus()));
  }

  #watched() {
    const { failure, live } = this.#watch;
    if (live) {
      if (this.#status) this.#readStatus();
      if (this.#inventory.failure) this.#inventory.load();
    }
    if (failure && failure.status === 401) this.#session.load().catch(ignoreApiErrors);
    this.#tick();
  }

  #visible() {
    if (document.hidden) this.#inventory.rest();
    else if (this.#session.who.may_read) this.#inventory.load();
  }

  /** Reads the status, and who is signed in: a token may have got another role. */
  async #readStatus() {
    clearTimeout(this.#statusTimer);
    if (!this.#session.who.may_read) return; // the list that was waited for may be the last one that was allowed
    this.#statusTimer = setTimeout(() => this.#readStatus(), STATUS_MILLIS);
    if (document.hidden) return;
    try {
      await this.#session.load();
      if (!this.#session.who.may_read) return;
      this.#status = await readStatus();
      this.#watch.lastSeen = Date.now();
      setClock(this.#status.time);
      const { staleSince, heldUntil } = this.#inventory;
      if (this.#status.stale_since !== staleSince || this.#status.held_until !== heldUntil) this.#inventory.load();
      this.#update(new Set());
    } catch (error) {
      ignoreApiErrors(error); // the banner tells of an outage
    }
  }

  #show() {
    const { view, params } = place();
    if (view === this.#shown && this.#view?.navigate) {
      this.#view.navigate(params);
      return;
    }
    this.#view?.close?.();
    if (this.#shown !== "none") element("view").focus({ preventScroll: true });
    this.#shown = view;
    this.#view = this.#session.who.may_read ? SHOW[view](this.#context(params)) : null;
    element("view").replaceChildren(this.#view?.element ?? h("p", {}, "Sign in to see the instances."));
    document.title = `${this.#view?.title ?? "Sign in"} · dbgpt_ctl`;
    for (const link of document.querySelectorAll("nav a")) {
      const current = link.getAttribute("href") === (view || "./");
      if (current) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    this.#view?.update(null);
    this.#tick();
  }

  /** @returns {Context} */
  #context(params = place().params) {
    const page = this;
    return {
      inventory: this.#inventory,
      watch: this.#watch,
      params,
      get who() { return page.#session.who; },
      get status() { return page.#status; },
    };
  }

  /** @param {ReadonlySet<string> | null} changed */
  #update(changed) {
    this.#view?.update(changed);
    this.#tick();
  }

  #tick() {
    drawNotices(element("notices"), this.#session.who.may_read ? notices(this.#inventory, this.#watch, this.#status) : []);
    const live = this.#watch.live && !this.#inventory.staleSince; // of a registry that cannot be read no change is known
    element("live").dataset.live = String(live);
    setText(element("live"), live ? "live" : "not live");
    refreshAges(document);
  }
}

/** @param {unknown} error */
function ignoreApiErrors(error) {
  if (!(error instanceof ApiError)) throw error;
}

/** @param {string} id */
function element(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

new Page().run();

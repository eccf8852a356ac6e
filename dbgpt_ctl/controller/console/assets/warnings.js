/** What is wrong and what to do about it, as `ctl status` warns of it. */

import * as api from "./api.js";
import { copyButton } from "./copy_button.js";
import { drawByKey, h, part, setText } from "./elements.js";

/** @import { Finding } from "./types.js" */

const LEAST_MILLIS = 5000;
const MOST_MILLIS = 30_000;
const MOST_EVIDENCE = 10;
/** Up to what is no part of the command any more. What is quoted belongs to it. */
const COMMAND = /\bctl (?:'[^']*'|[^\s;,'()]|[ ](?!(?:says|renews|shows|forgets|records|or|in|is)\b))+/g;
const PLACEHOLDER = /(?:^| )[A-Z]+(?: |$)/;

/** A part of a view. It is read again after changes, and now and then. */
export class Warnings {
  #list = h("ul", { class: "plain" });
  #text = h("p", { class: "muted" }, "Loading…");
  element = part("Warnings", this.#text, this.#list);
  #read = 0;
  #timer = 0;
  #closed = new AbortController();

  /** @param {import("./watch.js").Watch} watch */
  constructor(watch) {
    const soon = () => this.soon();
    document.addEventListener("visibilitychange", soon, this.#closed);
    for (const name of ["changes", "state"]) watch.addEventListener(name, soon, this.#closed);
    this.#load();
  }

  /** Reads them again, though not more often than every few seconds. */
  soon() {
    this.#in(Math.max(0, this.#read + LEAST_MILLIS - performance.now()));
  }

  close() {
    this.#closed.abort();
    clearTimeout(this.#timer);
  }

  /** @param {number} millis */
  #in(millis) {
    clearTimeout(this.#timer);
    if (!this.#closed.signal.aborted) this.#timer = setTimeout(() => this.#load(), millis);
  }

  async #load() {
    if (document.hidden) return; // it is read when the page is seen again
    this.#read = performance.now();
    try {
      const { findings } = await api.diagnosis();
      setText(this.#text, findings.length ? "" : "✓ This controller knows of nothing that is wrong.");
      drawByKey(this.#list, findings, (finding) => JSON.stringify(finding), (finding, before) => before ?? findingItem(finding));
    } catch (error) {
      if (!(error instanceof api.ApiError)) throw error;
      setText(this.#text, `They cannot be read now: ${error.message}.`);
    }
    this.#in(MOST_MILLIS);
  }
}

/**
 * Names in a finding are escaped already.
 *
 * @param {Finding} finding
 */
function findingItem({ severity, summary, evidence, fix, more }) {
  const shown = evidence.slice(0, MOST_EVIDENCE);
  const left = evidence.length - shown.length + more;
  return h(
    "li", { class: `finding ${severity}` },
    h("h3", {}, h("span", {}, severity), ` ${summary}`),
    h("ul", {}, ...shown.map(({ subject, detail }) => h("li", {}, subject && h("b", {}, subject), subject && ": ", detail)), left > 0 && h("li", {}, `and ${left} more`)),
    fix && h("p", {}, "What to do: ", ...fixParts(fix)),
  );
}

/**
 * The text with its commands to copy. One with a placeholder, as in `ctl why NAME`, must be completed first.
 *
 * @param {string} fix
 */
function fixParts(fix) {
  /** @type {(string | HTMLElement)[]} */
  const parts = [];
  let end = 0;
  for (const { 0: command, index } of fix.matchAll(COMMAND)) {
    const code = h("code", {}, command);
    parts.push(fix.slice(end, index), code);
    if (!PLACEHOLDER.test(command)) parts.push(" ", copyButton(code));
    end = index + command.length;
  }
  return [...parts, fix.slice(end)];
}

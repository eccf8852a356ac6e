/** Asks for a drain or an undrain of instances, says first what it does, and then how it goes. */

import * as api from "./api.js";
import { changeAll } from "./bulk_change.js";
import { countText, numberText } from "./counts.js";
import { disruptions } from "./disruption.js";
import { drawByKey, h, setText } from "./elements.js";
import { escaped } from "./escaping.js";
import { keyOf } from "./inventory.js";
import { referenceText } from "./reference.js";

/** @import { Instance } from "./types.js" */
/** @import { Inventory } from "./inventory.js" */

/** @typedef {"drain" | "undrain"} Verb */

const MOST_SHOWN = 10;
const MOST_WARNINGS = 5;
const MOST_REASON_CHARS = 255;
const MOST_DAYS = 366;
const DAY_SECS = 86_400;
const OWN = "own";
const TIMES = [["", "until it is undrained"], ["1800", "30 minutes"], ["7200", "2 hours"], [String(DAY_SECS), "1 day"], [OWN, "another time"]];
const UNITS = [["60", "minutes"], ["3600", "hours"], [String(DAY_SECS), "days"]];

/** A modal dialog. Closing it while it works leaves the instances that were not asked for yet as they are. */
export class DrainDialog {
  #inventory;
  #done;
  /** @type {Verb} */
  #verb = "drain";
  /** @type {string[]} */
  #keys = [];
  /** @type {Map<string, string>} Why instances were refused. */
  #problems = new Map();
  /** @type {Set<string>} */
  #changed = new Set();
  #asked = 0;
  #running = false;
  #title = h("h2", { id: "drain-title" });
  #list = h("ul", { class: "references" });
  #more = h("p", { class: "muted" });
  #warnings = h("ul", { class: "notice warnings" });
  #form = changeFields();
  #plan = h("div");
  #progress = h("progress", { "aria-label": "Progress", max: 1, value: 0 });
  #result = h("p", { role: "status" });
  #failures = h("ul", { class: "references problem" });
  #cancel = h("button", { type: "button", click: () => this.close() }, "Cancel");
  #submit = h("button", { class: "primary" });

  /**
   * @param {Inventory} inventory
   * @param {(changed: ReadonlySet<string>, message: string) => void} done  called when all that was asked for is answered
   *   and the dialog is closed
   */
  constructor(inventory, done) {
    this.#inventory = inventory;
    this.#plan.append(this.#list, this.#more, this.#warnings, this.#form.element);
    this.#done = done;
    this.element = h(
      "dialog", { class: "drain", "aria-labelledby": "drain-title", close: () => this.#closed() },
      h("form", { method: "dialog", submit: (/** @type {SubmitEvent} */ event) => this.#run(event) },
        this.#title, this.#plan, this.#progress, this.#result, this.#failures,
        h("div", { class: "buttons" }, this.#cancel, this.#submit)),
    );
  }

  /**
   * @param {Verb} verb
   * @param {Iterable<string>} keys
   */
  open(verb, keys) {
    this.#verb = verb;
    this.#keys = [...keys];
    this.#problems.clear();
    this.#changed.clear();
    this.#asked = 0;
    this.#form.clear();
    this.#form.element.hidden = verb === "undrain";
    this.#submit.autofocus = verb === "undrain";
    this.update();
    this.element.showModal();
  }

  close() {
    this.element.close();
  }

  /** Draws anew, as after a change of an instance. */
  update() {
    if (!this.#running) this.#drawTargets(this.#targets());
    this.#plan.hidden = this.#running;
    this.#drawProgress();
  }

  /** The chosen instances that are still there, and of an undrain those that are drained. */
  #targets() {
    const found = this.#keys.map((key) => this.#inventory.instances.get(key));
    return found.filter((instance) => instance !== undefined).filter(({ drain }) => this.#verb === "drain" || drain !== null);
  }

  /** @param {Instance[]} targets */
  #drawTargets(targets) {
    const count = countText(targets.length, "instance");
    const verb = this.#verb === "drain" ? "Drain" : "Undrain";
    const left = this.#keys.length - targets.length;
    const hidden = targets.length - MOST_SHOWN;
    setText(this.#title, `${verb} ${count}`);
    drawByKey(this.#list, targets.slice(0, MOST_SHOWN), keyOf, (instance, before) => {
      const line = before ?? h("li");
      setText(line, `${referenceText(instance)} (${this.#effect(instance)})`);
      return line;
    });
    setText(this.#more, [
      hidden > 0 && `and ${numberText(hidden)} more.`,
      left > 0 && `${numberText(left)} of the chosen ones ${left === 1 ? "is" : "are"} ${this.#verb === "drain" ? "gone" : "not drained"}.`,
    ].filter(Boolean).join(" "));
    this.#more.hidden = this.#more.textContent === "";
    this.#list.hidden = this.#problems.size > 0; // those that were refused stand below, each with its reason
    const warns = this.#drawWarnings(this.#verb === "drain" ? disruptions(targets, this.#inventory.instances.values()) : []);
    setText(this.#submit, this.#problems.size ? `Try ${count} again` : warns ? `${verb} ${count} all the same` : `${verb} ${count}`);
    this.#submit.disabled = targets.length === 0;
  }

  /** @param {Instance} instance */
  #effect({ state, drain }) {
    if (this.#verb === "undrain") return state === "healthy" ? "becomes routable" : `stays ${state}`;
    return drain ? "drained already: its end changes" : state === "healthy" ? "routable now" : state;
  }

  /** @param {string[]} lines */
  #drawWarnings(lines) {
    const more = lines.length - MOST_WARNINGS;
    const shown = more > 0 ? [...lines.slice(0, MOST_WARNINGS), `and ${countText(more, "more model")}`] : lines;
    drawByKey(this.#warnings, shown, (line) => line, (line, before) => before ?? h("li", {}, line));
    this.#warnings.hidden = lines.length === 0;
    return lines.length > 0;
  }

  #drawProgress() {
    const ended = this.#verb === "drain" ? "drained" : "undrained";
    const answered = this.#changed.size + this.#problems.size;
    this.#progress.hidden = !this.#running;
    this.#progress.max = Math.max(1, this.#asked);
    this.#progress.value = answered;
    const of = this.#changed.size === this.#asked ? "" : `${numberText(this.#changed.size)} of `;
    const refused = this.#problems.size ? `, ${numberText(this.#problems.size)} refused` : "";
    setText(this.#result, this.#asked ? `${of}${countText(this.#asked, "instance")} ${ended}${refused}.` : "");
    drawByKey(this.#failures, [...this.#problems], ([key]) => key, ([, problem], before) => before ?? h("li", {}, problem));
    setText(this.#cancel, this.#running ? "Stop" : this.#asked ? "Close" : "Cancel");
    if (this.#running) this.#submit.disabled = true;
  }

  /** @param {SubmitEvent} event */
  async #run(event) {
    event.preventDefault();
    if (this.#running) return;
    const instances = this.#targets();
    const request = this.#form.request();
    this.#keys = instances.map(keyOf);
    this.#problems.clear();
    [this.#asked, this.#running] = [this.#changed.size + instances.length, true];
    this.update();
    await changeAll({
      instances,
      change: (instance) => (this.#verb === "drain" ? api.drain(instance, request) : api.undrain(instance)),
      changed: (instance) => this.#took(instance),
      refused: (instance, problem) => this.#refused(instance, problem),
      stopped: () => !this.element.open,
    });
    this.#running = false;
    this.#keys = [...this.#problems.keys()];
    this.update();
    if (this.element.open && !this.#problems.size) this.close();
    else if (!this.element.open) this.#tell();
  }

  /** @param {Instance} instance */
  #took(instance) {
    this.#changed.add(keyOf(instance));
    this.#inventory.put(instance);
    this.update();
  }

  /**
   * @param {Instance} instance
   * @param {string} problem
   */
  #refused(instance, problem) {
    this.#problems.set(keyOf(instance), `${referenceText(instance)}: ${escaped(problem)}`);
    this.update();
  }

  #closed() {
    if (!this.#running && this.#asked) this.#tell();
  }

  #tell() {
    const left = this.#asked - this.#changed.size - this.#problems.size;
    this.#done(this.#changed, this.#result.textContent + (left ? ` ${countText(left, "other")} stayed as before.` : ""));
  }
}

/** The reason and the time of a drain. */
function changeFields() {
  const reason = h("input", { id: "drain-reason", maxlength: MOST_REASON_CHARS, autocomplete: "off", placeholder: "Shown to all who look" });
  const time = h("select", { id: "drain-time", change }, ...TIMES.map(option));
  const count = h("input", { type: "number", "aria-label": "Number", min: 1, step: 1, value: 4 });
  const unit = h("select", { "aria-label": "Unit", change }, ...UNITS.map(option));
  const own = h("span", { class: "own", hidden: true }, count, unit);
  unit.value = "3600";

  function change() {
    own.hidden = time.value !== OWN;
    count.disabled = own.hidden;
    count.required = !own.hidden;
    count.max = String((MOST_DAYS * DAY_SECS) / Number(unit.value));
  }

  function request() {
    const secs = time.value === OWN ? Number(count.value) * Number(unit.value) : Number(time.value);
    return { reason: reason.value.trim() || null, for_secs: secs || null };
  }

  function clear() {
    [reason.value, time.value] = ["", ""];
    change();
  }

  return {
    clear,
    element: h("div", {}, h("label", { for: "drain-reason" }, "Reason"), reason, h("label", { for: "drain-time" }, "For how long"),
      h("div", { class: "times" }, time, own)),
    request,
  };
}

/** @param {string[]} pair */
function option([value, name]) {
  return h("option", { value }, name);
}

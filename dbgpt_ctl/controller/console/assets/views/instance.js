/** @import { Command, Context, Identity, Instance, View } from "../types.js" */

import * as api from "../api.js";
import { copyButton } from "../copy_button.js";
import { DrainDialog } from "../drain_dialog.js";
import { drawOnChange, h, setText } from "../elements.js";
import { escaped } from "../escaping.js";
import { EVENT_COLUMNS } from "../event_columns.js";
import { drainTexts } from "../instance_columns.js";
import { keyOf } from "../inventory.js";
import { Journal } from "../journal.js";
import { hrefOf } from "../location.js";
import { addressText, referenceText } from "../reference.js";
import { stateBadges, stateSignature } from "../state_badges.js";
import { Table } from "../table.js";
import { timeElement } from "../time.js";

const MOST_EVENTS = 100;
const COLUMNS = EVENT_COLUMNS.filter(({ id }) => id !== "instance");

/**
 * One instance: all facts, its events, and the commands of `ctl` for it.
 *
 * @param {Context} context
 * @returns {View}
 */
export function show(context) {
  return new InstanceView(context);
}

/** @implements {View} */
class InstanceView {
  #context;
  #identity;
  #key;
  #journal;
  #heading;
  #state = h("p", { class: "states" });
  #actions = h("p", { class: "actions" });
  #message = h("p", { class: "message", role: "status" });
  #facts = h("dl", { class: "facts" });
  #noEvents = h("p", { class: "muted" });
  #table = new Table("Events of this instance", COLUMNS, ({ id }) => String(id));
  #eventsTitle = h("h2", {}, "Events");
  #commandsTitle = h("h2", {}, "Commands");
  #commands = h("ul", { class: "commands" });
  #commandsAsked = false;
  /** @type {DrainDialog | null} */
  #dialog = null;

  /** @param {Context} context */
  constructor(context) {
    this.#context = context;
    this.#identity = identityOf(context.params);
    this.#key = this.#identity ? keyOf(this.#identity) : "";
    this.title = this.#identity ? referenceText(this.#identity) : "No instance";
    this.#heading = h("h1", { tabindex: -1 }, this.title);
    if (context.who.may_change) this.#dialog = new DrainDialog(context.inventory, (_, message) => this.#done(message));
    this.#journal = new Journal(context.watch, MOST_EVENTS, () => this.#drawEvents());
    this.element = h(
      "section", { class: "instance" },
      h("p", {}, h("a", { href: hrefOf("instances") }, "All instances")),
      this.#heading, this.#state, this.#actions,
      context.who.read_only_reason && h("p", { class: "muted" }, escaped(context.who.read_only_reason)),
      this.#message, this.#facts,
      this.#commandsTitle, this.#commands,
      this.#eventsTitle, this.#noEvents, this.#table.element, this.#dialog?.element,
    );
    if (this.#identity) this.#journal.show({ ...this.#identity, port: String(this.#identity.port) });
    this.#drawEvents();
  }

  /** @param {ReadonlySet<string> | null} changed */
  update(changed) {
    if (changed === null || changed.has(this.#key) || changed.size === 0) this.#draw();
    if (this.#dialog?.element.open) this.#dialog.update();
  }

  close() {
    this.#dialog?.close();
    this.#journal.close();
  }

  #draw() {
    const { instances, staleSince } = this.#context.inventory;
    const instance = instances.get(this.#key);
    const stale = staleSince !== null;
    for (const part of [this.#facts, this.#commandsTitle, this.#commands]) part.hidden = !instance;
    if (instance && !this.#commandsAsked) this.#loadCommands(instance);
    drawOnChange(this.#state, instance ? stateSignature(instance, stale) : this.#absence(), () =>
      instance ? stateBadges(instance, stale) : [this.#absence()]);
    drawOnChange(this.#actions, instance ? String(instance.drain !== null) : "", () => (instance ? this.#buttons(instance) : []));
    if (instance) drawOnChange(this.#facts, JSON.stringify(instance), () => factsOf(instance).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, ...value)]));
  }

  /** Why there is no instance to show. */
  #absence() {
    const { loaded, failure } = this.#context.inventory;
    if (!this.#identity) return "The address of this page names no instance: it has model_name, host and port.";
    if (!loaded) return failure ? `The instances cannot be loaded: ${escaped(failure.message)}. The page tries again by itself.` : "Loading…";
    const known = this.#journal.events.length ? "It was removed" : "It was never registered here, or its events are no longer kept";
    return `This instance is not registered now. ${known}.`;
  }

  /** @param {Instance} instance */
  #buttons({ drain }) {
    if (!this.#dialog) return [];
    const open = (/** @type {import("../drain_dialog.js").Verb} */ verb) => () => this.#dialog?.open(verb, [this.#key]);
    return [
      h("button", { type: "button", click: open("drain") }, drain ? "Change the drain…" : "Drain…"),
      drain && h("button", { type: "button", class: "primary", click: open("undrain") }, "Undrain…"),
    ];
  }

  /**
   * The button that opened the dialog may be gone, but only after the instance is drawn with its change.
   *
   * @param {string} message
   */
  #done(message) {
    setText(this.#message, message);
    requestAnimationFrame(() => {
      if (document.activeElement === document.body) this.#heading.focus();
    });
  }

  #drawEvents() {
    const { events, loaded, failure } = this.#journal;
    this.#table.draw(loaded ? events : []);
    this.#table.element.hidden = !loaded || !events.length;
    this.#eventsTitle.hidden = this.#noEvents.hidden = !this.#identity;
    setText(this.#noEvents, failure ? `The events cannot be loaded: ${escaped(failure.message)}.` : loaded && !events.length ? "No event of this instance is kept." : "");
    this.#draw();
  }

  /** @param {Instance} instance */
  async #loadCommands(instance) {
    this.#commandsAsked = true;
    try {
      this.#commands.append(...(await api.commands(instance)).commands.map(commandLine));
    } catch (error) {
      if (!(error instanceof api.ApiError)) throw error;
      this.#commands.append(h("li", { class: "muted" }, `The commands cannot be loaded: ${escaped(error.message)}.`));
    }
  }
}

/**
 * @param {URLSearchParams} params
 * @returns {Identity | null}
 */
function identityOf(params) {
  const [model_name, host, port] = ["model_name", "host", "port"].map((name) => params.get(name) ?? "");
  return model_name && host && /^\d{1,5}$/.test(port) ? { model_name, host, port: Number(port) } : null;
}

/**
 * @param {Instance} instance
 * @returns {[string, import("../elements.js").Child[]][]}
 */
function factsOf(instance) {
  const { drain, held, weight, check_healthy, prompt_template, last_heartbeat, registered_at, deregistered_at, refused_at, flaps } = instance;
  return [
    ["Model", [escaped(instance.model_name)]],
    ["Host and port", [addressText(instance)]],
    ["Routable", [instance.routable ? "yes: API servers get it" : "no: API servers do not get it"]],
    ["Held", [held ? "yes" : "no"]],
    ["Drained", drain ? drainTexts(drain) : ["no"]],
    ["Weight", [weight]],
    ["Last heartbeat", timeOf(last_heartbeat)],
    ["Health", [check_healthy ? "by its heartbeats" : "not checked: it is healthy until it is deregistered"]],
    ["Flaps", [flaps ? `${flaps}: so often it expired` : "none"]],
    ["Prompt template", [prompt_template === null ? "none" : escaped(prompt_template)]],
    ["Registered", timeOf(registered_at)],
    ["Deregistered", timeOf(deregistered_at)],
    ["Heartbeat refused", timeOf(refused_at)],
  ];
}

/** @param {string | null} time */
function timeOf(time) {
  return time === null ? ["never"] : [timeElement(time), " ", h("span", { class: "muted" }, timeElement(time, "local"))];
}

/** @param {Command} line */
function commandLine({ command, does }) {
  const code = h("code", {}, command);
  return h("li", {}, h("span", {}, code, h("span", { class: "muted" }, does)), copyButton(code));
}

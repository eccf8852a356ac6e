/** The controls of the filter of instances. */

import { drawByKey, field, h } from "./elements.js";
import { escaped } from "./escaping.js";
import { DRAINED, STATES, cleared, isFiltered } from "./instance_filter.js";
import { nameAndType } from "./inventory.js";

/** @import { InstanceFilter } from "./instance_filter.js" */
/** @import { Instance } from "./types.js" */

const MOST_HOSTS = 500;

/** A form. Each control acts at once. */
export class FilterForm {
  text = h("input", { type: "search", id: "filter-text", placeholder: "Name, host, port or reason", autocomplete: "off", spellcheck: "false" });
  #model = h("select", { id: "filter-model" });
  #type = h("select", { id: "filter-type" });
  #hosts = h("datalist", { id: "filter-hosts" });
  #host = h("input", { id: "filter-host", list: "filter-hosts", placeholder: "10.0.0.4 or 10.0.*", autocomplete: "off", spellcheck: "false" });
  #state = h("select", { id: "filter-state" });
  #drained = h("select", { id: "filter-drained" });
  #clear = h("button", { type: "reset" }, "Clear the filter");
  /** @type {ReadonlyMap<string, Instance>} */
  #instances = new Map();
  /** @type {ReadonlySet<string>} */
  #models = new Set();
  #change;
  /** @type {InstanceFilter} */
  #filter;

  /**
   * @param {InstanceFilter} filter
   * @param {(filter: InstanceFilter, typing: boolean) => void} change
   */
  constructor(filter, change) {
    this.#filter = filter;
    this.#change = change;
    this.#host.addEventListener("focus", () => this.#offerHosts());
    this.element = h(
      "form", {
        role: "search", class: "filter", "aria-label": "Instances",
        input: (/** @type {Event} */ event) => event.target === this.text && this.#apply(true),
        change: () => this.#apply(false),
        submit: (/** @type {Event} */ event) => event.preventDefault(),
        reset: (/** @type {Event} */ event) => this.#reset(event),
      },
      field("Filter", this.text), field("Model", this.#model), field("Type", this.#type), field("Host", this.#host, this.#hosts),
      field("State", this.#state), field("Drained", this.#drained), this.#clear,
    );
    this.#offer();
    this.show(filter);
  }

  /**
   * Shows a filter, in place of what a person types where that is another one.
   *
   * @param {InstanceFilter} filter
   */
  show(filter) {
    const { model, type } = this.#filter;
    this.#filter = filter;
    if (filter.model !== model || filter.type !== type) this.#offer();
    for (const [control, value] of this.#values()) if (control.value !== value) control.value = value;
    this.#clear.disabled = !isFiltered(filter);
  }

  /**
   * Offers the models, types and hosts of these instances, soon: a thousand models take as long as the table.
   *
   * @param {ReadonlyMap<string, Instance>} instances
   */
  offer(instances) {
    this.#instances = instances;
    const models = new Set([...instances.values()].map(({ model_name }) => model_name));
    if (String([...models]) === String([...this.#models])) return;
    this.#models = models;
    setTimeout(() => this.#offer());
  }

  #offer() {
    const { model, type } = this.#filter;
    options(this.#model, "all", [...this.#models, model].sort());
    options(this.#type, "all", [...this.#models].map((name) => nameAndType(name)[1]).concat(type).sort());
    options(this.#state, "any", STATES);
    options(this.#drained, "any", DRAINED);
  }

  /** A browser shows a host as it is, so one with characters that cannot be seen is not offered. */
  #offerHosts() {
    const hosts = new Set([...this.#instances.values()].map(({ host }) => host));
    const shown = [...hosts].filter((host) => escaped(host) === host).slice(0, MOST_HOSTS);
    drawByKey(this.#hosts, shown, (host) => host, (host, before) => before ?? h("option", { value: host }));
  }

  /** @param {Event} event */
  #reset(event) {
    event.preventDefault();
    this.#change(cleared(this.#filter), false);
    this.text.focus();
  }

  /** @param {boolean} typing */
  #apply(typing) {
    const [q, model, type, host, state, drained] = this.#values().map(([control]) => control.value);
    this.#change({ ...this.#filter, q, model, type, host: host.trim(), state, drained, page: 1 }, typing);
  }

  /** @returns {[HTMLInputElement | HTMLSelectElement, string][]} */
  #values() {
    const { q, model, type, host, state, drained } = this.#filter;
    return [[this.text, q], [this.#model, model], [this.#type, type], [this.#host, host], [this.#state, state], [this.#drained, drained]];
  }
}

/**
 * @param {HTMLSelectElement} select
 * @param {string} none  the name of no filter
 * @param {readonly string[]} values  also the chosen one, which is offered even where no instance has it
 */
function options(select, none, values) {
  const all = new Set(["", ...values]);
  drawByKey(select, [...all], (value) => value, (value, before) => before ?? h("option", { value }, value ? escaped(value) : none));
}

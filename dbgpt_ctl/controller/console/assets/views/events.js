/** The journal: what changed, when, and who changed it; newest first, and live. */

import { countText } from "../counts.js";
import { field, h, searchInput, setText } from "../elements.js";
import { EVENT_COLUMNS, GROUPS, actorText, changeText, groupOf } from "../event_columns.js";
import { Journal } from "../journal.js";
import { hrefOf, navigate } from "../location.js";
import { referenceText } from "../reference.js";
import { Table, pager } from "../table.js";
import { localText, now } from "../time.js";
import { TransitionsChart } from "../transitions_chart.js";

/** @import { Change, Context, View } from "../types.js" */

const MOST = 1000;
const PAGE = 100;
const HOUR_MILLIS = 3_600_000;
const ACTORS = ["worker", "operator", "expiry", "housekeeping"];

/**
 * Its URL has the filter, and in `before` the id of the event above the page: a page of older events stays while new ones
 * come.
 *
 * @param {Context} context
 * @returns {View}
 */
export function show(context) {
  let params = context.params;
  /** @type {Change[]} */
  let found = [];
  const journal = new Journal(context.watch, MOST, draw);
  const chart = new TransitionsChart();
  const form = filterForm(change);
  const text = h("p", { class: "counts" });
  const table = new Table("Events, the newest first", EVENT_COLUMNS, ({ id }) => String(id));
  const pages = pager((page) => {
    const above = found[(page - 1) * PAGE - 1];
    change({ ...Object.fromEntries(params), before: above ? String(above.id) : "" });
    scrollTo(0, 0);
  });
  const element = h("section", { class: "events" }, h("h1", {}, "Events"), form.element, chart.element, text, table.element, pages.element);
  navigated(params);
  return { title: "Events", element, filter: form.text, navigate: navigated, update: drawChart, close: () => journal.close() };

  /**
   * @param {Record<string, string>} values
   * @param {boolean} [replace]
   */
  function change(values, replace) {
    const href = hrefOf("events", values);
    if (href !== hrefOf("events", params)) navigate(href, { replace });
  }

  /** @param {URLSearchParams} next */
  function navigated(next) {
    params = next;
    form.show(params);
    const [model_name, host, by] = [params.get("model"), params.get("host"), params.get("actor")];
    journal.show({ ...(model_name && { model_name }), ...(host && { host }), ...(by && { by }) });
    draw();
  }

  function draw() {
    const { events, loaded, failure, completeSince } = journal;
    found = loaded ? events.filter(matcher(params)) : [];
    const before = Number(params.get("before") ?? Infinity);
    const start = Math.max(0, found.findIndex(({ id }) => id < before));
    const kept = events.length >= MOST ? ` These are among the newest ${MOST}; ctl events --since 7d has all.`
      : completeSince ? ` Some events before ${localText(completeSince)} are no longer kept.` : "";
    setText(text, failure ? `They cannot be read now: ${failure.message}.`
      : !loaded ? "Loading…"
      : `${countText(found.length, "event")}.${kept}`);
    table.draw(found.slice(start, start + PAGE));
    table.element.hidden = !found.length;
    pages.draw(Math.ceil(start / PAGE) + 1, Math.ceil(found.length / PAGE));
    drawChart();
  }

  function drawChart() {
    chart.element.hidden = !journal.loaded;
    const oldest = journal.events[MOST - 1];
    const full = oldest && Date.parse(oldest.time) > now() - HOUR_MILLIS;
    chart.draw(found, now(), full ? ` Those before ${localText(oldest.time)} are not counted: ctl events --since 1h has them.` : "");
  }
}

/**
 * @param {URLSearchParams} params
 * @returns {(event: Change) => boolean}
 */
function matcher(params) {
  const what = params.get("what");
  const words = (params.get("q") ?? "").toLowerCase().split(" ").filter(Boolean);
  return (event) => {
    if (what && groupOf(event) !== what) return false;
    if (!words.length) return true;
    const text = [referenceText(event), event.verb, changeText(event), actorText(event)].join("\n").toLowerCase();
    return words.every((word) => text.includes(word));
  };
}

/**
 * Each control acts at once.
 *
 * @param {(values: Record<string, string>, replace: boolean) => void} change
 */
function filterForm(change) {
  /** @type {Record<string, HTMLInputElement | HTMLSelectElement>} */
  const controls = {
    q: searchInput("Name, verb or reason", () => apply(true)),
    model: searchInput("qwen3@llm"),
    host: searchInput("10.0.0.4"),
    what: select("anything", Object.entries(GROUPS)),
    actor: select("anybody", ACTORS.map((name) => [name, name])),
  };
  const labels = ["Filter", "Model", "Host", "What happened", "By"];
  const element = h(
    "form", { role: "search", class: "filter", "aria-label": "Events", submit, change: () => apply(false) },
    ...Object.values(controls).map((control, index) => field(labels[index], control)),
  );
  return { element, text: /** @type {HTMLInputElement} */ (controls.q), show };

  /** @param {URLSearchParams} params */
  function show(params) {
    for (const [name, control] of Object.entries(controls)) {
      const value = params.get(name) ?? "";
      if (control.value.trim() !== value) control.value = value;
    }
  }

  /** @param {Event} event */
  function submit(event) {
    event.preventDefault();
    apply(false);
  }

  /** @param {boolean} typing */
  function apply(typing) {
    change(Object.fromEntries(Object.entries(controls).map(([name, { value }]) => [name, value.trim()])), typing);
  }
}

/**
 * @param {string} any
 * @param {string[][]} values
 */
function select(any, values) {
  return h("select", {}, ...[["", any], ...values].map(([value, name]) => h("option", { value }, name)));
}

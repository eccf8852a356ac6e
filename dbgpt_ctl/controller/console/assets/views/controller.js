/** The controller that serves this page: its checks, what it is, and with which settings it runs. */

import * as api from "../api.js";
import { registryText } from "../banner.js";
import { drawOnChange, field, h, part, searchInput, setText } from "../elements.js";
import { escaped } from "../escaping.js";
import { hrefOf, navigate } from "../location.js";
import { Table } from "../table.js";
import { localText, timeElement } from "../time.js";

/** @import { Child } from "../elements.js" */
/** @import { Column } from "../table.js" */
/** @import { Check, Context, Setting, Status, View, Who } from "../types.js" */

const LINKS = ["docs", "metrics", "readyz?verbose"];

/** @type {Column<Setting>[]} */
const COLUMNS = [
  { id: "setting", name: "Setting", names: true, fill: (cell, { name, variable }) => drawOnChange(cell, "", () => [h("code", { title: variable }, name)]) },
  { id: "value", name: "Value", fill: (cell, setting) => setText(cell, valueText(setting)) },
  { id: "origin", name: "From", fill: (cell, { origin }) => setText(cell, escaped(origin)) },
];

/**
 * @param {Context} context
 * @returns {View}
 */
export function show(context) {
  const checks = h("ul", { class: "plain" });
  const facts = h("dl", { class: "facts" });
  const filter = searchInput("Name, value or origin", () => navigate(hrefOf("controller", { q: filter.value.trim() }), { replace: true }));
  const text = h("p", { class: "counts" }, "Loading…");
  const table = new Table("Settings", COLUMNS, ({ name }) => name);
  /** @type {Setting[]} */
  let settings = [];
  const element = h(
    "div", { class: "controller" }, h("h1", {}, "This controller"),
    part("Checks of /readyz", checks),
    part("Facts", facts),
    part("Settings", h("div", { class: "filter" }, field("Filter", filter), text), table.element),
    part("More", h("p", { class: "links" }, ...LINKS.map((name) => h("a", { href: `../${name}` }, `/${name}`)))),
  );
  load();
  navigated(context.params);
  return { title: "This controller", element, filter, update, navigate: navigated };

  function update() {
    const { status, who } = context;
    if (!status) return;
    drawOnChange(checks, JSON.stringify(status.checks), () => status.checks.map(checkItem));
    const shown = factsOf(status, who);
    drawOnChange(facts, JSON.stringify([status.controller, shown]), () => shown.flatMap(([name, ...value]) => [h("dt", {}, name), h("dd", {}, ...value)]));
  }

  /** @param {URLSearchParams} params */
  function navigated(params) {
    const value = params.get("q") ?? "";
    if (filter.value.trim() !== value) filter.value = value;
    draw();
  }

  async function load() {
    try {
      ({ settings } = await api.settings());
      draw();
    } catch (error) {
      if (!(error instanceof api.ApiError)) throw error;
      setText(text, `The settings cannot be read: ${error.message}. Load the page again.`);
    }
  }

  function draw() {
    const word = filter.value.trim().toLowerCase();
    const found = settings.filter((each) => [each.name, each.variable, valueText(each), each.origin].join("\n").toLowerCase().includes(word));
    table.draw(found);
    table.element.hidden = !found.length;
    if (settings.length) setText(text, `${found.length} of ${settings.length} settings`);
  }
}

/** @param {Check} check */
function checkItem({ name, ok, detail }) {
  return h("li", {}, h("span", { class: `state ${ok ? "healthy" : "unhealthy"}` }, ok ? "ok" : "not ok"), ` ${name}`, detail && `: ${escaped(detail)}`);
}

/** @param {Setting} setting */
function valueText({ value }) {
  return value === null ? "not set" : escaped(String(value));
}

/**
 * @param {Status} status
 * @param {Who} who
 * @returns {[string, ...Child[]][]}
 */
function factsOf(status, who) {
  const { controller, connections, tls, auth, watchers } = status;
  const text = (/** @type {(string | false | null | undefined)[]} */ ...parts) => escaped(parts.filter(Boolean).join(", "));
  return [
    ["Version", escaped(controller.version)],
    ["Started", timeElement(controller.started_at, "local"), ", ", timeElement(controller.started_at), controller.leaving && "; it is about to end"],
    ["Registry", registryText(status)],
    ["Connections", connections && `${connections.open} of at most ${connections.limit}`],
    ["Watchers", watchers],
    ["TLS", tls ? text(`port ${tls.port}`, `valid until ${localText(tls.not_after)}`, tls.problem) : "off"],
    ["Authentication", auth ? text(auth.mode, auth.open && "anybody may change everything") : "off"],
    ["You", text(who.name ?? "not signed in", who.role, who.expires && `until ${localText(who.expires)}`, !who.may_change && (who.read_only_reason ?? "read only"))],
  ];
}

/** How an instance is named, as in `qwen3@llm/10.0.0.4:8001`, and where its view is. */

import { escaped } from "./escaping.js";
import { hrefOf } from "./location.js";

/** @import { Identity } from "./types.js" */

/**
 * HOST:PORT, with brackets around an IPv6 address, which may have them already.
 *
 * @param {Identity} key
 */
export function addressText({ host, port }) {
  const name = /^[^[].*:/s.test(host) ? `[${host}]` : host;
  return `${escaped(name)}:${port}`;
}

/**
 * NAME@TYPE/HOST:PORT, as `ctl` writes it.
 *
 * @param {Identity} key
 */
export function referenceText(key) {
  return `${escaped(key.model_name)}/${addressText(key)}`;
}

/** @param {Identity} key */
export function instanceHref({ model_name, host, port }) {
  return hrefOf("instance", { model_name, host, port });
}

/** A button that copies a text. */

import { h, setText } from "./elements.js";

const TOLD_MILLIS = 2000;

/**
 * Copies the text of `source`. Where the page may not use the clipboard, as over plain HTTP from another machine, the
 * text is selected instead, to be copied with the keyboard.
 *
 * @param {HTMLElement} source
 */
export function copyButton(source) {
  let timer = 0;
  const told = h("span", { class: "visually-hidden", role: "status" });
  const label = h("span", {}, "Copy");
  const what = h("span", { class: "visually-hidden" }, ` ${source.textContent}`);

  async function copy() {
    const copied = await toClipboard(source.textContent ?? "");
    if (!copied) getSelection()?.selectAllChildren(source);
    const text = copied ? "Copied" : "Selected: copy it with the keyboard";
    setText(label, text);
    setText(told, text);
    clearTimeout(timer);
    timer = setTimeout(reset, TOLD_MILLIS);
  }

  function reset() {
    setText(label, "Copy");
    setText(told, "");
  }

  return h("span", { class: "copy" }, h("button", { type: "button", click: copy }, label, what), told);
}

/** @param {string} text */
async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // there is no clipboard, or the browser refuses it
  }
}

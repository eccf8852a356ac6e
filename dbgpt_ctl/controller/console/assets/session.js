/** Who looks at this page: asks the controller, and signs in and out with a token. */

import * as api from "./api.js";
import { h, setText } from "./elements.js";
import { readSession } from "./first_answers.js";

/** @import { Who } from "./types.js" */

/** @type {Who} */
const UNKNOWN = {
  mode: "enforce", name: null, role: null, expires: null, may_read: false, may_change: false, read_only_reason: null,
};

/** Dispatches `change` when somebody else looks, or may do other things than before. */
export class Session extends EventTarget {
  who = UNKNOWN;
  #dialog = signInDialog((token) => this.#signIn(token));

  constructor() {
    super();
    document.body.append(this.#dialog.element);
  }

  /** Asks who is signed in. Where another one looks who may not read, the dialog opens. Raises ApiError. */
  async load() {
    this.#take(await readSession());
  }

  /** Opens the dialog. `reason` says why it must be opened again. */
  askForToken(reason = "") {
    this.#dialog.open(reason);
  }

  async signOut() {
    this.#take(await api.signOut());
  }

  /** @param {string} token */
  async #signIn(token) {
    this.#take(await api.signIn(token));
  }

  /** @param {Who} who */
  #take(who) {
    if (JSON.stringify(who) === JSON.stringify(this.who)) return; // a dialog stays as it is while a person types
    const lost = this.who.may_read && !who.may_read;
    this.who = who;
    if (!who.may_read) this.askForToken(lost ? "Your session has ended. Sign in again." : "");
    else this.#dialog.close();
    this.dispatchEvent(new Event("change"));
  }
}

/** @param {(token: string) => Promise<void>} signIn */
function signInDialog(signIn) {
  const token = h("input", { type: "password", name: "token", id: "token", autocomplete: "current-password", required: true, spellcheck: "false" });
  const name = h("input", { name: "username", autocomplete: "username", value: location.host, hidden: true }); // for password managers
  const problem = h("p", { class: "problem", role: "alert" });
  const element = h(
    "dialog", { "aria-labelledby": "sign-in-title" },
    h("form", { method: "dialog", submit }, 
      h("h2", { id: "sign-in-title" }, "Sign in"),
      h("p", {}, "This controller asks for a token. ", h("code", {}, "ctl token create NAME --role operator"), " makes one; the role reader may look and change nothing."),
      h("label", { for: "token" }, "Token"), name, token, problem,
      h("div", { class: "buttons" }, h("button", { class: "primary" }, "Sign in"))),
  );

  /** @param {SubmitEvent} event */
  async function submit(event) {
    event.preventDefault();
    setText(problem, "");
    try {
      await signIn(token.value.trim());
      token.value = "";
    } catch (error) {
      setText(problem, error instanceof Error ? error.message : String(error));
      token.select();
    }
  }

  return {
    element,
    close: () => element.close(),
    /** @param {string} reason */
    open: (reason) => {
      if (element.open) return; // two answers may say that the session has ended, and only the first one knows why
      setText(problem, reason);
      element.showModal();
    },
  };
}

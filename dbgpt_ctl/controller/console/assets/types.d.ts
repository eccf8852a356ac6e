import type { Inventory } from "./inventory.js";
import type { Watch } from "./watch.js";
import type * as wire from "./wire.js";

export type {
  CheckObject as Check,
  DiagnosisFinding as Finding,
  DrainFactsObject as Drain,
  EffectiveSetting as Setting,
  EventObject as Change,
  Events as EventPage,
  Identity,
  InstanceCommand as Command,
  InstanceState as State,
  KnownInstances as Listing,
  SharingController,
  Status,
} from "./wire.js";
/** `state` and `drain` say what these two say. */
export type Instance = Omit<wire.KnownInstanceObject, "healthy" | "enabled">;
export type Who = Omit<wire.PageSession, "version">;

/** What a view gets. `params` are those of the URL when the view is shown. */
export interface Context {
  inventory: Inventory;
  watch: Watch;
  who: Who;
  status: wire.Status | null;
  params: URLSearchParams;
}

/**
 * What a view returns. `update` is called when instances, the status or who is signed in changed; `changed` holds the
 * keys of changed instances, or null where all may have changed. `navigate` is called when the URL changes within the
 * view. `filter` is what the key `/` focuses.
 */
export interface View {
  title: string;
  element: HTMLElement;
  update: (changed: ReadonlySet<string> | null) => void;
  navigate?: (params: URLSearchParams) => void;
  close?: () => void;
  filter?: HTMLInputElement;
}

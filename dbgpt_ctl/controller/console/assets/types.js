/**
 * The objects of /api/v1 as this page reads them. docs/api.md describes each field.
 *
 * @typedef {"healthy" | "unhealthy" | "deregistered"} State
 * @typedef {{since: string | null, by: string | null, reason: string | null, until: string | null}} Drain
 *
 * @typedef {object} Identity
 * @property {string} model_name  NAME@TYPE
 * @property {string} host
 * @property {number} port
 *
 * @typedef {object} InstanceFacts
 * @property {State} state
 * @property {boolean} routable
 * @property {boolean} held
 * @property {Drain | null} drain
 * @property {number} weight
 * @property {boolean} check_healthy
 * @property {string | null} prompt_template
 * @property {string} last_heartbeat
 * @property {string | null} registered_at
 * @property {string | null} deregistered_at
 * @property {string | null} refused_at
 * @property {number} flaps
 * @property {boolean} removed
 *
 * @typedef {Identity & InstanceFacts} Instance
 * @typedef {{time: string, stale_since: string | null, held_until: string | null, instances: Instance[]}} Listing
 *
 * @typedef {object} ChangeFacts
 * @property {number} id
 * @property {string} time
 * @property {State | "absent"} old
 * @property {State | "absent"} new
 * @property {boolean} drained
 * @property {string} verb
 * @property {string} actor
 * @property {string | null} actor_name
 * @property {string | null} address
 * @property {string | null} reason
 *
 * @typedef {Identity & ChangeFacts} Change
 * @typedef {{stream: string, last_id: number, missed: boolean, complete_since: string | null, events: Change[]}} EventPage
 *
 * @typedef {{name: string, ok: boolean, detail: string | null}} Check
 * @typedef {{id: string, version: string, address: string, started_at: string, seen_at: string}} SharingController
 *
 * @typedef {object} Status
 * @property {string} time
 * @property {string | null} stale_since
 * @property {string | null} held_until
 * @property {{version: string, started_at: string, leaving: boolean}} controller
 * @property {{kind: string, place: string | null, durable: boolean, ready: boolean, reason: string | null}} registry
 * @property {Check[]} checks
 * @property {{heartbeat_interval_secs?: number, heartbeat_timeout_secs?: number, max_instances?: number}} settings
 * @property {{mode: string, mode_origin: string, open: boolean} | null} auth
 * @property {SharingController[]} controllers
 * @property {{open: number, limit: number} | null} connections
 * @property {{port: number, not_after: string, problem: string | null} | null} tls
 * @property {number} watchers
 *
 * @typedef {object} Who
 * @property {"off" | "log" | "enforce"} mode
 * @property {string | null} name  of the token
 * @property {string | null} role
 * @property {string | null} expires
 * @property {boolean} may_read
 * @property {boolean} may_change
 * @property {string | null} read_only_reason
 *
 * @typedef {{subject: string, detail: string}} Evidence
 * @typedef {"error" | "warning" | "info"} Severity
 * @typedef {{code: string, severity: Severity, summary: string, evidence: Evidence[], fix: string, more: number}} Finding
 * @typedef {{name: string, variable: string, value: string | number | boolean | null, origin: string}} Setting
 * @typedef {{command: string, does: string}} Command
 *
 * What a view gets, and what it returns. `update` is called when instances, the status or who is signed in changed;
 * `changed` holds the keys of changed instances, or null where all may have changed. `navigate` is called when the URL
 * changes within the view.
 *
 * @typedef {object} Context
 * @property {import("./inventory.js").Inventory} inventory
 * @property {import("./watch.js").Watch} watch
 * @property {Who} who
 * @property {Status | null} status
 * @property {URLSearchParams} params  those of the URL when the view is shown
 *
 * @typedef {object} View
 * @property {string} title
 * @property {HTMLElement} element
 * @property {(changed: ReadonlySet<string> | null) => void} update
 * @property {(params: URLSearchParams) => void} [navigate]
 * @property {() => void} [close]
 * @property {HTMLInputElement} [filter]  what the key `/` focuses
 */

export {};

// The objects of /api/v1. Written by `make generate` from dbgpt_ctl/wire; docs/api.md describes each field.

export interface AboutController {
  version: string;
  started_at: string;
  leaving: boolean;
}

export interface AboutRegistry {
  kind: string;
  place: string | null;
  durable: boolean;
  ready: boolean;
  reason: string | null;
}

export type ActorKind = "expiry" | "housekeeping" | "operator" | "worker";

export interface AuthOfStatus {
  mode: string;
  mode_origin: string;
  open: boolean;
  tokens_file: AuthTokensFile | null;
  refused_workers: RefusedWorkerObject[];
}

export interface AuthTokensFile {
  digest: string;
  tokens: number;
  problem: string | null;
  readable_by_others: string | null;
  expiring: ExpiringToken[];
}

export interface CheckObject {
  name: string;
  ok: boolean;
  detail: string | null;
}

export interface Commands {
  version: 1;
  commands: InstanceCommand[];
}

export interface Connections {
  open: number;
  limit: number;
  closed: number;
  refused: number;
}

export interface Diagnosis {
  version: 1;
  time: string;
  findings: DiagnosisFinding[];
}

export interface DiagnosisFinding {
  code: string;
  severity: "error" | "info" | "warning";
  summary: string;
  evidence: FindingEvidence[];
  fix: string;
  more: number;
}

export interface DrainFactsObject {
  since: string | null;
  by: string | null;
  reason: string | null;
  until: string | null;
}

export interface EffectiveSetting {
  name: string;
  variable: string;
  value: boolean | number | string | null;
  origin: string;
}

export interface EffectiveSettings {
  version: 1;
  settings: EffectiveSetting[];
}

export interface EventObject {
  model_name: string;
  host: string;
  port: number;
  id: number;
  time: string;
  old: "absent" | "deregistered" | "healthy" | "unhealthy";
  new: "absent" | "deregistered" | "healthy" | "unhealthy";
  drained: boolean;
  verb: string;
  actor: ActorKind;
  actor_name: string | null;
  address: string | null;
  reason: string | null;
}

export interface Events {
  version: 1;
  stream: string;
  last_id: number;
  missed: boolean;
  next_after: number;
  complete_since: string | null;
  operator_complete_since: string | null;
  events: EventObject[];
}

export interface ExpiringToken {
  name: string;
  expires: string;
}

export interface FindingEvidence {
  subject: string;
  detail: string;
}

export interface Identity {
  model_name: string;
  host: string;
  port: number;
}

export interface InstanceCommand {
  command: string;
  does: string;
}

export type InstanceState = "deregistered" | "healthy" | "unhealthy";

export interface KnownInstanceObject {
  model_name: string;
  host: string;
  port: number;
  weight: number;
  check_healthy: boolean;
  healthy: boolean;
  enabled: boolean;
  prompt_template: string | null;
  last_heartbeat: string;
  state: InstanceState;
  routable: boolean;
  held: boolean;
  drain: DrainFactsObject | null;
  registered_at: string;
  deregistered_at: string | null;
  refused_at: string | null;
  flaps: number;
  removed: boolean;
}

export interface KnownInstances {
  version: 1;
  time: string;
  held_until: string | null;
  heartbeat_timeouts_secs: number[];
  stale_since: string | null;
  instances: KnownInstanceObject[];
}

export interface ModelCounts {
  model_name: string;
  healthy: number;
  unhealthy: number;
  deregistered: number;
  routable: number;
  held: number;
  drained: number;
  unhealthy_drained: number;
  unchecked: number;
}

export interface OutageObject {
  gone_at: string;
  back_at: string;
  held_until: string;
}

export interface PageSession {
  version: 1;
  mode: string;
  name: string | null;
  role: string | null;
  expires: string | null;
  may_read: boolean;
  may_change: boolean;
  read_only_reason: string | null;
}

export interface RefusedWorkerObject {
  reason: string;
  source: string | null;
  token: string | null;
  model_name: string | null;
  host: string | null;
  port: number | null;
  count: number;
  last_secs_ago: number;
}

export interface RegistrySettings {
  heartbeat_interval_secs?: number;
  heartbeat_timeout_secs?: number;
  max_instances?: number;
}

export interface SharingController {
  id: string;
  version: string;
  address: string;
  heartbeat_timeout_secs: number;
  heartbeat_interval_secs: number;
  started_at: string;
  seen_at: string;
}

export interface Status {
  version: 1;
  time: string;
  held_until: string | null;
  heartbeat_timeouts_secs: number[];
  stale_since: string | null;
  parameters: Record<string, string[]>;
  controller: AboutController;
  registry: AboutRegistry;
  checks: CheckObject[];
  settings: RegistrySettings;
  auth: AuthOfStatus | null;
  controllers: SharingController[];
  outages: OutageObject[] | null;
  connections: Connections | null;
  readers_dropped: number;
  tls: Tls | null;
  models: ModelCounts[] | null;
  watchers: number;
  last_event_id: number | null;
}

export interface Tls {
  port: number;
  not_after: string;
  problem: string | null;
}

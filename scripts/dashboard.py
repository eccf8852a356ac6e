"""What the dashboard in deploy/grafana/dashboard.json shows; `make generate` writes it.

Gauges on which all controllers of a registry agree are aggregated with `max`, counters with `sum` of their rates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scripts.grafana import Columns, Lines, Number, Query, dashboard_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scripts.grafana import Content

NOW: Sequence[Content] = (
    Number(
        "Models without a routable instance",
        "Models in the lists of which no instance can get requests. One whose instances are all drained counts too.",
        Query(
            'sum(max by (model_name) (dbgpt_controller_instances_routable{job="$job",model_name=~"$model"}) == bool 0)',
            "models",
        ),
        bad=1,
    ),
    Number(
        "Routable instances",
        "Instances that can get requests, of the chosen models.",
        Query(
            'sum(max by (model_name) (dbgpt_controller_instances_routable{job="$job",model_name=~"$model"}))',
            "instances",
        ),
    ),
    Number(
        "Controllers down",
        "Controllers that Prometheus cannot scrape.",
        Query('count(up{job="$job"}) - sum(up{job="$job"})', "controllers"),
        bad=1,
    ),
    Number(
        "Stale controllers",
        "Controllers that answer lists from memory, because the storage of the registry cannot be read.",
        Query('sum(dbgpt_controller_registry_stale{job="$job"})', "controllers"),
        bad=1,
    ),
    Number(
        "Held instances",
        "Instances that count as alive only because the registry itself was away: they have one heartbeat timeout to"
        " send a heartbeat.",
        Query('max(dbgpt_controller_registry_held_instances{job="$job"})', "instances"),
        warn=1,
    ),
    Number(
        "Leaving controllers",
        "Controllers that are being stopped. Their health answers 503, so that clients change to another one.",
        Query('sum(dbgpt_controller_leaving{job="$job"})', "controllers"),
        warn=1,
    ),
    Columns(
        "Models",
        "The instances of each model, as all controllers of the registry count them. Routable: healthy and not"
        " drained. A stale controller exposes no counts, so the table is empty when all controllers are stale.",
        {"model_name": "Model"},
        (
            Query(
                'max by (model_name) (dbgpt_controller_instances_routable{job="$job",model_name=~"$model"})',
                "Routable",
            ),
            Query(
                'max by (model_name) (dbgpt_controller_instances{job="$job",model_name=~"$model",state="unhealthy"})',
                "Unhealthy",
            ),
            Query(
                "max by (model_name) (dbgpt_controller_instances"
                '{job="$job",model_name=~"$model",state="deregistered"})',
                "Deregistered",
            ),
            Query(
                'max by (model_name) (dbgpt_controller_instances_drained{job="$job",model_name=~"$model"})',
                "Drained",
            ),
        ),
        least={"Routable": 1},
    ),
    Columns(
        "Alerts that fire",
        "From deploy/prometheus/rules.yml, where Prometheus has these rules. docs/on-call.md says what to do.",
        {"alertname": "Alert", "severity": "Severity", "model_name": "Model", "instance": "Controller"},
        (
            Query(
                "time() - max by (alertname, severity, model_name, instance)"
                ' (ALERTS_FOR_STATE{job="$job",alertname=~"Dbgpt.+"}'
                ' and ignoring (alertstate) ALERTS{job="$job",alertname=~"Dbgpt.+",alertstate="firing"})',
                "For",
            ),
        ),
        {"For": "s"},
    ),
)
INSTANCES: Sequence[Content] = (
    Lines(
        "Instances by state",
        "All instances of the chosen models in the lists.",
        "short",
        (
            Query(
                "sum by (state) (max by (model_name, state) (dbgpt_controller_instances"
                '{job="$job",model_name=~"$model"}))',
                "{{state}}",
            ),
        ),
        stacked=True,
    ),
    Lines(
        "Routable instances by model",
        "Instances that can get requests. A gap is a time in which every controller was stale or down.",
        "short",
        (
            Query(
                'max by (model_name) (dbgpt_controller_instances_routable{job="$job",model_name=~"$model"})',
                "{{model_name}}",
            ),
        ),
    ),
    Lines(
        "Longest drain",
        "How long the drain lasts that began first, for each model with a drained instance.",
        "s",
        (
            Query(
                "time() - max by (model_name) (dbgpt_controller_oldest_drain_timestamp_seconds"
                '{job="$job",model_name=~"$model"})',
                "{{model_name}}",
            ),
        ),
    ),
)
TRANSITIONS: Sequence[Content] = (
    Lines(
        "Transitions by new state",
        "Changes of the state or the drain of instances. Each is counted by the one controller that wrote it.",
        "cpm",
        (
            Query(
                "60 * sum by (to) (rate(dbgpt_controller_transitions_total"
                '{job="$job",model_name=~"$model"}[$__rate_interval]))',
                "{{to}}",
            ),
        ),
    ),
    Lines(
        "Transitions by cause",
        "The verb that caused the change: expire is a heartbeat that did not come in time.",
        "cpm",
        (
            Query(
                "60 * sum by (cause) (rate(dbgpt_controller_transitions_total"
                '{job="$job",model_name=~"$model"}[$__rate_interval]))',
                "{{cause}}",
            ),
        ),
    ),
    Lines(
        "Expired in 15 minutes, by model",
        "The ten models whose instances expired most often. A model that stays here is flapping.",
        "short",
        (
            Query(
                "topk(10, sum by (model_name) (increase(dbgpt_controller_transitions_total"
                '{job="$job",model_name=~"$model",cause="expire",to="unhealthy"}[15m])))',
                "{{model_name}}",
            ),
        ),
    ),
)
REQUESTS: Sequence[Content] = (
    Lines(
        "Requests by operation",
        "Requests that all controllers answered.",
        "reqps",
        (
            Query(
                'sum by (operation) (rate(dbgpt_controller_requests_total{job="$job"}[$__rate_interval]))',
                "{{operation}}",
            ),
        ),
    ),
    Lines(
        "Requests by status code",
        "503 is an answer that the database was needed for and could not be asked; 401 and 403 are refusals.",
        "reqps",
        (Query('sum by (code) (rate(dbgpt_controller_requests_total{job="$job"}[$__rate_interval]))', "{{code}}"),),
    ),
    Lines(
        "Failed requests by operation",
        "Requests that were answered with 500 or above.",
        "reqps",
        (
            Query(
                "sum by (operation, code) (rate(dbgpt_controller_requests_total"
                '{job="$job",code=~"5.."}[$__rate_interval]))',
                "{{operation}} {{code}}",
            ),
        ),
    ),
    *(
        Lines(
            f"Duration of {operation}",
            "From the head of a request until its answer begins to be sent, of all controllers together.",
            "s",
            tuple(
                Query(
                    f"histogram_quantile({quantile}, sum by (le) (rate(dbgpt_controller_request_duration_seconds_bucket"
                    f'{{job="$job",operation="{operation}"}}[$__rate_interval])))',
                    name,
                )
                for quantile, name in ((0.5, "p50"), (0.99, "p99"))
            ),
        )
        for operation in ("heartbeat", "list")
    ),
    Lines(
        "Refusals",
        "Heartbeats of deregistered instances, and requests that the authentication refused or, in log mode, would"
        " refuse.",
        "reqps",
        (
            Query(
                'sum(rate(dbgpt_controller_heartbeats_refused_total{job="$job"}[$__rate_interval]))',
                "heartbeat: deregistered",
            ),
            Query(
                'sum by (reason) (rate(dbgpt_controller_auth_refusals_total{job="$job"}[$__rate_interval]))',
                "auth: {{reason}}",
            ),
        ),
    ),
)
REGISTRY: Sequence[Content] = (
    Lines(
        "Duration of a commit",
        "Time of a batch of changes in the database, with its commit. A registry in memory has none.",
        "s",
        tuple(
            Query(
                f"histogram_quantile({quantile}, sum by (le)"
                ' (rate(dbgpt_controller_registry_commit_duration_seconds_bucket{job="$job"}[$__rate_interval])))',
                name,
            )
            for quantile, name in ((0.5, "p50"), (0.99, "p99"))
        ),
    ),
    Lines(
        "Calls in a batch",
        "How many calls share a commit, on average, at each controller.",
        "short",
        (
            Query(
                'sum by (instance) (rate(dbgpt_controller_registry_batch_size_sum{job="$job"}[$__rate_interval]))'
                ' / sum by (instance) (rate(dbgpt_controller_registry_batch_size_count{job="$job"}[$__rate_interval]))',
                "{{instance}}",
            ),
        ),
    ),
    Lines(
        "Waiting calls",
        "Calls that wait for the database. A number that grows means that the database is slower than the cluster.",
        "short",
        (Query('max by (instance) (dbgpt_controller_registry_waiting_calls{job="$job"})', "{{instance}}"),),
    ),
    Lines(
        "Errors of the storage",
        "A conflict is tried again and fails no call. Everything else needs a person.",
        "cpm",
        (
            Query(
                '60 * sum by (kind) (rate(dbgpt_controller_registry_errors_total{job="$job"}[$__rate_interval]))',
                "{{kind}}",
            ),
        ),
    ),
    Lines(
        "Fill of the registry",
        "The share of max_instances that is taken. Instances in the lists that reach 100 % leave no room for new ones; "
        "removed ones make room.",
        "percentunit",
        (
            Query(
                'max(sum by (instance) (dbgpt_controller_instances{job="$job"}))'
                ' / max(dbgpt_controller_registry_instances_limit{job="$job"})',
                "in the lists",
            ),
            Query(
                'max(dbgpt_controller_registry_instances{job="$job"})'
                ' / max(dbgpt_controller_registry_instances_limit{job="$job"})',
                "with removed ones",
            ),
        ),
        most=1,
    ),
    Lines(
        "Clock offset",
        "The registry's clock minus the clock of the controller's machine.",
        "s",
        (Query('max by (instance) (dbgpt_controller_clock_offset_seconds{job="$job"})', "{{instance}}"),),
        least=None,
    ),
)
CONTROLLERS: Sequence[Content] = (
    Lines(
        "Event loop lag",
        "The longest time in the last 30 seconds that a controller did not look at requests.",
        "s",
        (Query('max by (instance) (dbgpt_controller_event_loop_lag_seconds{job="$job"})', "{{instance}}"),),
    ),
    Lines(
        "Connections",
        "Open connections, as a share of how many there may be.",
        "percentunit",
        (
            Query(
                'max by (instance) (dbgpt_controller_connections{job="$job"})'
                ' / max by (instance) (dbgpt_controller_connections_limit{job="$job"})',
                "{{instance}}",
            ),
        ),
        most=1,
    ),
    Lines(
        "Closed by the controller",
        "Connections and watches that the controller ended itself, and spans that it lost.",
        "cpm",
        (
            Query(
                '60 * sum by (reason) (rate(dbgpt_controller_connections_closed_total{job="$job"}[$__rate_interval]))',
                "connection: {{reason}}",
            ),
            Query(
                '60 * sum by (reason) (rate(dbgpt_controller_watches_closed_total{job="$job"}[$__rate_interval]))',
                "watch: {{reason}}",
            ),
            Query(
                '60 * sum(rate(dbgpt_controller_trace_spans_dropped_total{job="$job"}[$__rate_interval]))',
                "span: dropped",
            ),
        ),
    ),
    Lines(
        "Watchers",
        "Watches that are open, at each controller.",
        "short",
        (Query('max by (instance) (dbgpt_controller_watchers{job="$job"})', "{{instance}}"),),
    ),
    Lines(
        "Memory",
        "Resident memory of each controller's process.",
        "bytes",
        (Query('max by (instance) (process_resident_memory_bytes{job="$job"})', "{{instance}}"),),
    ),
    Lines(
        "Processor time",
        "Cores that each controller's process uses.",
        "short",
        (Query('sum by (instance) (rate(process_cpu_seconds_total{job="$job"}[$__rate_interval]))', "{{instance}}"),),
    ),
    Columns(
        "Controllers",
        "What runs, and since when.",
        {"instance": "Controller", "version": "Version", "registry": "Registry"},
        (
            Query(
                'max by (instance, version, registry) (dbgpt_controller_build_info{job="$job"}) * on (instance)'
                ' group_left () (time() - max by (instance) (process_start_time_seconds{job="$job"}))',
                "Up for",
            ),
            Query(
                'max by (instance, version, registry) (dbgpt_controller_build_info{job="$job"}) * on (instance)'
                ' group_left () max by (instance) (dbgpt_controller_registry_ready{job="$job"})',
                "Ready",
            ),
        ),
        {"Up for": "s", "Ready": "bool_yes_no"},
    ),
    Columns(
        "Credentials",
        "When the tokens and certificates of the controllers expire.",
        {"kind": "Kind", "name": "Name"},
        (
            Query(
                'min by (kind, name) (dbgpt_controller_credential_expiry_timestamp_seconds{job="$job"}) - time()',
                "Expires in",
            ),
        ),
        {"Expires in": "s"},
        least={"Expires in": 14 * 24 * 3600},
    ),
)
ROWS: Mapping[str, Sequence[Content]] = {
    "Now": NOW,
    "Instances": INSTANCES,
    "Transitions": TRANSITIONS,
    "Requests": REQUESTS,
    "Registry": REGISTRY,
    "Controllers": CONTROLLERS,
}


def text() -> str:
    """The text of deploy/grafana/dashboard.json."""
    return dashboard_json(
        ROWS,
        uid="dbgpt-controllers",
        title="DB-GPT controllers",
        description="Models, requests and registry of the controllers of one DB-GPT cluster.",
        job_of="dbgpt_controller_build_info",
        model_of="dbgpt_controller_instances_routable",
    )

"""The command lines of each golden file. {controller} stands for the URL of the cluster of `stage`."""

from __future__ import annotations

NOBODY = "http://127.0.0.1:1"
LISTS = ("table", "wide", "json", "yaml", "csv", "name")
RESULTS = ("text", "json", "yaml", "name")
FIRST, SILENT, LEFT, STOPPED, DRAINED = (
    f"qwen2.5@llm/{host}:8001" for host in ("10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7", "[fd00::5]")
)
CHINESE = "深度求索@llm/worker-7:8001"
NEW, ABSENT = "new/10.0.0.9:8001", "qwen2.5@llm/10.0.0.99:8001"
HOSTILE = "evil\\x1b[31m\\u202e[red]@llm/10.0.0.66:8001"


def each(line: str, *forms: str) -> list[list[str]]:
    """The command line in each of these formats."""
    return [[*line.split(), "-o", form] for form in forms]


def plain(*lines: str) -> list[list[str]]:
    return [line.split() for line in lines]


READS = {
    "models-list": [
        *each("models list", *LISTS),
        *each("models list --no-headers", "table", "csv"),
        *plain("models list -v", "models list --quiet --healthy-only", "models list 深度求索", "models list qwen"),
        *plain("models list --state unhealthy,deregistered", "models list --type reranker"),
        *plain("models list --model qwen* -o name", "models list --model *@text2vec", "models list --model qwn*"),
        *each("models list --state drained", "table", "csv", "json"),
        *plain("models list --state drained,deregistered -o json --full"),
        *each("models list --type reranker", "json", "yaml", "csv", "name"),
    ],
    "models-get": [
        *(["models", "get", reference] for reference in (FIRST, SILENT, LEFT, STOPPED, DRAINED, CHINESE, HOSTILE)),
        *plain("models get bge@text2vec/10.0.0.4:8002"),
        *each(f"models get {LEFT} {DRAINED}", "text", "name"),
        *each(f"models get {DRAINED}", "json", "yaml"),
        *each(f"models get {ABSENT} {FIRST}", "name", "json"),
        *plain("models get --model qwen2.5 --state drained,deregistered -o name", "models get --model qwn*"),
        *plain("models get --type service -o name", "models get --host 10.0.0.44", "models get --all -o name"),
    ],
    "status": [*each("status", "text", "json", "yaml"), ["status", "-a", f"{NOBODY},{{controller}}"]],
    "events": [
        *plain("events", "events --limit 3 -o json"),
        *plain("events qwen2.5 --limit 2", f"events {DRAINED} --since 3d", "events nobody", "events nobody -o json"),
    ],
    "wait": [
        *each("wait qwen2.5", "text", "json"),
        *each("wait qwen2.5 --for healthy>=9 --timeout 100ms", "text", "json"),
        *plain("wait --controller", "wait nobody --for absent", "wait qwen2.5 --for deregistered=1"),
    ],
    "assert": [
        *each("assert qwen2.5", "text", "json"),
        *each("assert qwen2.5@llm --min-healthy 2 --max-age 5s", "text", "json"),
        *plain("assert nobody"),
    ],
    "export": [
        *each("export --host 10.0.0.4", "yaml", "json"),
        *plain("export", "export --all", "export -q", "export --host 10.0.0.66 -q", "export nobody"),
    ],
    "diff": [*each("diff -f instances.yaml", "text", "json"), *each("diff -f instances.yaml --prune", "text", "json")],
    "apply-dry-run": [*each("apply -f instances.yaml --dry-run --prune", "text", "json")],
    "why": [
        *each("why qwen2.5 --no-probe", "text", "json"),
        *plain("why 深度求索 --no-probe", "why qwen --no-probe", "why bge@llm --no-probe"),
        ["why", "qwen2.5", "--no-probe", "-a", NOBODY],
        ["why", "qwen2.5", "--no-probe", "-a", f"{NOBODY},{{controller}}"],
    ],
    "doctor": [*each("doctor --no-probe", "text", "json"), ["doctor", "--no-probe", "-a", NOBODY]],
    "health": [
        *each("health", "table", "json", "yaml", "csv"),
        ["health", "--all", "-a", f"{NOBODY},{{controller}}"],
        ["health", "-a", NOBODY],
    ],
    "console": plain("console --print", "console events --print"),
}
"""Nothing is changed: all look at one cluster."""

CHANGES = {
    "models-register": [
        *each(f"models register {NEW} {LEFT}", *RESULTS),
        *each(f"models register {NEW} {LEFT} {DRAINED} --dry-run", *RESULTS),
        *plain("models register x@rerank/h:1"),
    ],
    "models-deregister": [
        *each(f"models deregister {FIRST} {ABSENT}", *RESULTS),
        *plain(f"models deregister {FIRST} --remove"),
        *each("models deregister --model qwen* --state unhealthy --dry-run", *RESULTS),
        *plain("models deregister --all --yes", "models deregister --state unhealthy"),
    ],
    "models-heartbeat": [
        *each(f"models heartbeat {FIRST} {LEFT} {NEW}", *RESULTS),
        *plain(f"models heartbeat {FIRST} {LEFT} {NEW} --dry-run", "models heartbeat --type llm --host 10.0.0.4"),
    ],
    "models-drain": [
        *each(f"models drain {FIRST} {ABSENT} --force", *RESULTS),
        *each(f"models drain {FIRST} {STOPPED} --force --for 2h", "text", "json"),
        *plain(f"models drain {FIRST} {STOPPED} {DRAINED} --force", f"models drain {FIRST} --for 500ms"),
        ["models", "drain", CHINESE, "--reason", "GPU 3: [red]", "--wait", "--force"],
        *plain("models drain --host 10.0.0.4 --yes", "models drain WorkerManager@service/10.0.0.4:8005"),
        *plain("models drain --host 10.0.0.4", "models drain --host 10.0.0.4 --yes --force"),
        *each("models drain --all --dry-run --force", *RESULTS),
        *plain(f"models drain {FIRST}", "models drain --model qwen* --host nowhere --yes"),
    ],
    "models-undrain": [
        *each(f"models undrain {DRAINED} {ABSENT}", *RESULTS),
        *plain(f"models undrain {SILENT} --wait", "models undrain --state drained --yes"),
        *each(f"models undrain {DRAINED} {ABSENT} --dry-run", "text", "json"),
    ],
    "models-prune": [
        *each("models prune --older-than 90s --yes", *RESULTS),
        *each("models prune --older-than 90s --dry-run", *RESULTS),
        *plain("models prune --older-than 7d --yes", "models prune --older-than 7d", "models prune"),
    ],
    "apply": [
        *each("apply -f instances.yaml", "text", "json"),
        *plain("apply -f instances.yaml --prune"),
        *each("apply -f instances.yaml --prune --yes", "text", "json"),
    ],
}
"""Each run has a cluster of its own."""

CONTEXTS = [
    *plain("context list"),
    *plain(
        "context set prod -a http://ctl-1.prod.example:8000,http://ctl-2.prod.example:8000",
        "context set dev -a http://dev:8000",
    ),
    *plain("context use prod"),
    *each("context list", "table", "json", "name"),
    *each("context show", "table", "json"),
    *plain("context show --context dev --request-timeout 500ms", "context use nope", "context delete prod"),
]
"""One after the other; the file of contexts starts empty."""

TOKENS = [
    *plain("token list", "token create gpu-east --role worker", "token create gpu-east --role worker"),
    *plain("token create qwen --role worker --models qwen*@llm --hosts 10.1.0.0/16,*.gpu.internal --max-instances 40"),
    *plain("token create api-servers --role reader --expires 90d -a http://ctl-1:8000,https://ctl-2:8443"),
    *each("token create alice --role operator --expires 5d -a http://ctl-1:8000", "json"),
    *plain("token create prometheus --role metrics -q", "auth mode log", "auth mode log"),
    *each("token list", "table", "json", "yaml", "csv", "name"),
    *plain("token rotate qwen -a http://ctl-1:8000", "token rotate qwen", "token rotate alice", "token list"),
    *plain("token revoke qwen --old", "token revoke qwen --old", "token revoke qwen", "token revoke qwen"),
    *plain("token rotate qwen", "token revoke qwn", "token revoke gpu-east", "token revoke alice"),
    *plain("auth mode enforce", "token list", "token create qwen --role reader -q", "token list --no-headers"),
    *plain(
        "token create bad/name --role reader", "token create x --role admin", "token create x --role reader --hosts h"
    ),
    *plain("token create x --role worker --hosts 10.1.2.3/16", "token create x --role worker --models qwen"),
    *plain("auth mode on"),
]
"""One after the other; there is no tokens file at first."""

FAILURES = {
    "unreachable": [
        [*line, "-a", NOBODY]
        for line in plain(
            "models list", f"models drain {FIRST}", "status", "events", "wait x --timeout 100ms", "assert x"
        )
    ],
    "usage": plain(
        "modles list",
        "models lst",
        "models list -o jsn",
        "models list --bogus",
        "models get qwen",
        "models get",
        "models register qwen/10.0.0.4:99999",
        "models drain",
        "events --since yesterday",
        "wait",
        "wait x --for ready",
        "apply",
        "apply -f absent.yaml",
        "apply -f broken.yaml",
        "status -a ftp://x",
        "status --context nope",
        "models list --request-timeout 0",
        "models prune --older-than 7",
    ),
    "stock": plain(
        "models list",
        "models list --state deregistered",
        f"models get {FIRST}",
        f"models drain {FIRST}",
        f"models undrain {FIRST}",
        "models prune --older-than 7d --yes",
        "events",
        "status",
        "health",
        "apply -f instances.yaml --dry-run",
        "why qwen2.5 --no-probe",
        "doctor --no-probe",
        "console --print",
    ),
    "not-allowed": plain(
        "models list", f"models drain {FIRST}", "status", "console --print", "events", "why x --no-probe"
    ),
    "failed": plain("models list", f"models register {NEW} {FIRST}", "status", "why x --no-probe"),
    "leaving": plain("models list", f"models register {NEW} {FIRST}", "status", "why x --no-probe", "health"),
}
"""What goes wrong: nobody there, wrong arguments, DB-GPT's own controller, 401, 500, 503."""

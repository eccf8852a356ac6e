"""A second night on call: tokens, a rack, a clock, a proxy, and the history of a cluster in which workers restart in a
loop.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.diagnosis.silence import BEAT, SLACK
from dbgpt_ctl.domain.instance import InstanceState
from tests.chaos.controllers import DATABASE
from tests.chaos.wire import Instance, Wire
from tests.story.nights import night_on_call, options
from tests.support.faketime import missing_faketime, other_clock
from tests.support.nginx import running_nginx
from tests.support.process import ctl

if TYPE_CHECKING:
    from dbgpt_ctl.client.results import Inventory
    from dbgpt_ctl.wire.status import Status
    from tests.story.nights import Night

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent / "second_night"
RACK, OTHER_RACK = ("127.1.0.4", "127.1.0.5"), ("127.2.0.4", "127.2.0.5")
INSTANCES = (
    *(Instance("qwen3@llm", 8001, host) for host in (*RACK, *OTHER_RACK)),
    *(Instance("glm4@llm", 8002, host) for host in OTHER_RACK),
    *(Instance("bge@text2vec", 8003, rack[0]) for rack in (RACK, OTHER_RACK)),
)
TIMEOUT_SECS = 21
"""The shortest without a warning."""
DRAINED = f"bge@text2vec/{OTHER_RACK[0]}:8003"
AHEAD_SECS = 300
SHORT = "290s"
"""How long a token is valid: by the clock that is ahead it has expired before it is made."""
RESTARTING = tuple(Instance("tiny@llm", port, RACK[1]) for port in range(9001, 9025))
RESTARTS = 250
"""Of each: a register and a deregister are two events, so these are 12,000."""


def tokens_are_enforced_on_workers_that_have_none(night: Night) -> None:
    """Those of one rack. A worker of the other rack dies in the same minute."""
    all_is_well(night)
    night.ctl("auth", "mode", "enforce")
    night.workers.stop(RACK[1])
    for host in (RACK[1], *OTHER_RACK):
        night.wait_until_unhealthy(host)


def runs_for_long(status: Status) -> bool:
    """Whether what falls silent now did not fall silent when the controller was started (`rules.silence`)."""
    return status.time - status.controller.started_at > BEAT + 2 * SLACK


def a_rack_falls_silent(night: Night) -> None:
    night.workers.credentials |= dict.fromkeys(OTHER_RACK, night.workers.credentials[RACK[0]])
    night.wait_until(  # by a heartbeat, and not by the register that follows
        lambda inventory: all(
            known.state is InstanceState.HEALTHY for known in inventory.instances if known.host in OTHER_RACK
        )
    )
    all_is_well(night)
    night.wait_until_client(lambda client: runs_for_long(client.status()))
    for host in OTHER_RACK:
        night.workers.stop(host)
    night.wait_until(  # this expiry is announced, and not only the one of the step before
        lambda inventory: all(
            known.state is InstanceState.UNHEALTHY and known.flaps > 1
            for known in inventory.instances
            if known.host in OTHER_RACK
        )
    )


def the_clock_of_a_controller_is_ahead(night: Night) -> None:
    all_is_well(night)
    night.restart(1, *night.controllers[1].options, environ=other_clock(AHEAD_SECS, "UTC"))
    night.environ["CTL_TOKEN"] = token(night.environ, "on-call", "operator", "--expires", SHORT)
    night.wait_until(are_routable)


def the_database_stops_too(night: Night) -> None:
    night.server.stop()
    night.wait_until(lambda inventory: inventory.stale_since is not None)
    night.wait_until_reason(lambda reason: "Connection refused" in reason)


def the_controller_behind_a_proxy_is_dead(night: Night) -> None:
    night.server.start()
    night.restart(1, *night.controllers[1].options)
    night.environ["CTL_TOKEN"] = token(night.environ, "on-duty", "operator")
    night.ctl("token", "revoke", "on-call")
    all_is_well(night)
    night.controllers[0].kill()
    night.address = "http://proxy"


def workers_restart_in_a_loop_and_one_is_drained(night: Night) -> None:
    night.controllers[0].start()
    night.address = "http://controller-1,http://controller-2"
    with ThreadPoolExecutor(len(RESTARTING)) as threads:
        list(threads.map(lambda instance: restart_again_and_again(night, instance), RESTARTING))
    night.server.execute("UPDATE ctl_pulse SET swept_at = NULL", DATABASE)  # the next look at old events is now
    night.wait_until_client(lambda client: client.events(after=0, limit=1).missed)
    night.ctl("models", "drain", DRAINED, "--reason", "loud fan")


def all_is_well(night: Night) -> None:
    night.workers.start()
    night.wait_until(are_routable)


def are_routable(inventory: Inventory) -> bool:
    if inventory.stale_since or inventory.held_until:
        return False
    return [known.state for known in inventory.instances] == [InstanceState.HEALTHY] * len(INSTANCES)


def restart_again_and_again(night: Night, instance: Instance) -> None:
    credentials = night.workers.credentials[instance.host]
    with Wire(night.controllers[0].url, credentials=credentials, source=instance.host) as wire:
        for _ in range(RESTARTS):
            assert wire.register(instance).is_acknowledged
            assert wire.deregister(instance).is_acknowledged


def token(environ: dict[str, str], name: str, role: str, *options: str) -> str:
    """NAME:TOKEN of a new token in the tokens file."""
    return f"{name}:{ctl('token', 'create', name, '--role', role, *options, env=environ).out.strip()}"


WRONG_CLOCK = {the_clock_of_a_controller_is_ahead, the_database_stops_too}
STALL_SECS = 60.0
"""The library that gives a controller another clock stalls it for seconds on a loaded machine."""

STEPS = (
    (
        tokens_are_enforced_on_workers_that_have_none,
        "status",
        "why qwen3 --no-probe",
        "doctor --no-probe",
        f"models get qwen3/{OTHER_RACK[0]}:8001",
        "assert qwen3 --min-healthy 2",
    ),
    (
        a_rack_falls_silent,
        "status",
        "why glm4 --no-probe",
        "why qwen3 --no-probe",
        "doctor --no-probe",
        "assert qwen3 --min-healthy 2",
    ),
    (
        the_clock_of_a_controller_is_ahead,
        "status",
        "doctor --no-probe",
        "health",
        "models list -a http://controller-2",
        "assert qwen3 --min-healthy 2 -a http://controller-2",
    ),
    (
        the_database_stops_too,
        "status",
        "why qwen3 --no-probe",
        "health",
        "models list -a http://controller-2",
        "assert qwen3 --min-healthy 2 --allow-stale",
        "wait qwen3 --for healthy>=2 --timeout 1s",
    ),
    (
        the_controller_behind_a_proxy_is_dead,
        "status",
        "why qwen3 --no-probe",
        "doctor --no-probe",
        "health",
        "models list",
        "assert qwen3 --min-healthy 2",
        "wait qwen3 --for healthy>=2 --timeout 1s",
    ),
    (
        workers_restart_in_a_loop_and_one_is_drained,
        "status",
        "doctor --no-probe",
        "events bge@text2vec --since 2h",
        f"events tiny@llm/{RACK[1]}:9001 --limit 2",
        "events --by operator --since 14d",
        f"models get {DRAINED}",
    ),
)


@pytest.mark.timeout(1200)
def test_a_second_night_on_call(tmp_path: Path) -> None:
    if missing := missing_faketime():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    environ = {"CONTROLLER_TOKENS_FILE": str(tmp_path / "tokens.toml")}
    environ["CTL_TOKEN"] = token(environ, "sre", "operator")
    worker = token(environ, "workers", "worker", "--models", "*@*")
    flags = (*options(TIMEOUT_SECS), "--tokens-file", environ["CONTROLLER_TOKENS_FILE"], "--auth", "log")
    with (
        night_on_call(tmp_path, FOLDER, INSTANCES, *flags) as night,
        running_nginx(tmp_path / "nginx", night.controllers[0].url, address="127.0.0.8") as proxy,
    ):
        night.environ |= environ
        night.workers.credentials |= dict.fromkeys(RACK, worker)
        night.names |= {proxy.removeprefix("http://"): "proxy", str(tmp_path): "/etc/ctl"}
        for action, *commands in STEPS:
            night.take(action, commands, patience_secs=STALL_SECS if action in WRONG_CLOCK else 0.0)
    night.check()

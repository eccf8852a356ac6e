"""A night on call: workers, hosts, the database and controllers fail, one after another."""

from __future__ import annotations

from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.domain.references import reference_of
from tests.chaos.controllers import DATABASE
from tests.chaos.wire import Instance
from tests.story.nights import night_on_call, options

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.story.nights import Night

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent / "night"
TIMEOUT_SECS, OTHER_TIMEOUT_SECS = 12, 600
GAP_SECS = 6.0
"""Longer than two ticks of the registry may be apart: afterwards states are held."""
INSTANCES = (
    Instance("qwen3@llm", 8001, "10.0.0.4"),
    Instance("qwen3@llm", 8001, "10.0.0.5"),
    Instance("qwen3@llm", 8001, "10.0.0.6"),
    Instance("glm4@llm", 8002, "10.0.0.4"),
    Instance("glm4@llm", 8002, "10.0.0.5"),
    Instance("bge@text2vec", 8003, "10.0.0.6"),
)
DRAINED_HOST = "10.0.0.4"
GLM = "glm4@llm/10.0.0.5:8002"
COMMANDS = (
    "models list -o wide",
    "status",
    "why qwen3 --no-probe",
    "why glm4 --no-probe",
    "doctor --no-probe",
    "health",
    "assert qwen3 --min-healthy 2",
    "wait qwen3 --for healthy>=2 --timeout 1s",
    "wait glm4 --for unhealthy=0 --timeout 1s",
)


def all_is_well(night: Night) -> None:
    night.workers.start()
    night.wait_until(lambda inventory: len(inventory.instances) == len(INSTANCES))


def a_host_is_drained(night: Night) -> None:
    night.ctl("models", "drain", "--host", DRAINED_HOST, "--yes", "--reason", "new driver", "--for", "2h")


def the_drained_host_stops(night: Night) -> None:
    night.workers.stop(DRAINED_HOST)
    night.wait_until_unhealthy(DRAINED_HOST)


def another_worker_dies(night: Night) -> None:
    night.workers.stop("10.0.0.5", "qwen3@llm")
    night.wait_until_unhealthy("10.0.0.5", "qwen3@llm")


def one_is_deregistered_and_beats_on(night: Night) -> None:
    night.ctl("models", "deregister", GLM)
    night.wait_until(
        lambda inventory: any(known.refused_at for known in inventory.instances if reference_of(known.key) == GLM)
    )


def one_controller_gets_another_timeout(night: Night) -> None:
    night.restart(1, *options(OTHER_TIMEOUT_SECS))
    night.wait_until_reason(lambda reason: "differ" in reason)


def the_timeouts_are_the_same_again(night: Night) -> None:
    night.restart(1, *options(TIMEOUT_SECS))
    night.wait_until_reason(lambda reason: "differ" not in reason)


def the_database_stops(night: Night) -> None:
    night.server.stop()
    night.wait_until(lambda inventory: inventory.stale_since is not None)


def the_database_is_back(night: Night) -> None:
    night.server.start()
    night.wait_until(lambda inventory: inventory.stale_since is None and inventory.held_until is None)


def a_controller_dies(night: Night) -> None:
    night.controllers[0].kill()


def all_controllers_were_away(night: Night) -> None:
    """With a timeout, and so a hold, that lasts longer than the commands on a loaded machine. Heartbeats are made old
    in the database: who was dead is so by that timeout too, and another worker would have expired during the absence.
    """
    night.controllers[1].kill()
    night.workers.stop("10.0.0.6", "qwen3@llm")
    older, almost = f"INTERVAL {2 * OTHER_TIMEOUT_SECS} SECOND", f"INTERVAL {OTHER_TIMEOUT_SECS - 1} SECOND"
    night.began -= 2 * OTHER_TIMEOUT_SECS
    night.server.execute(
        f"UPDATE ctl_instance SET last_heartbeat = last_heartbeat - {older}, drain_since = drain_since - {older} "
        f"WHERE announced_state = '{InstanceState.UNHEALTHY}'",
        DATABASE,
    )
    night.server.execute(
        f"UPDATE ctl_instance SET last_heartbeat = (SELECT ticked_at FROM ctl_pulse) - {almost} "
        "WHERE host = '10.0.0.6' AND port = 8001",
        DATABASE,
    )
    sleep(GAP_SECS)  # the absence is the step
    for index in range(len(night.controllers)):
        night.restart(index, *options(OTHER_TIMEOUT_SECS))
    night.wait_until(lambda inventory: inventory.held_until is not None and not inventory.heartbeat_timeouts_secs)


def in_the_morning_all_is_well(night: Night) -> None:
    night.workers.start()
    night.ctl("models", "undrain", "--host", DRAINED_HOST, "--yes")
    for index in range(len(night.controllers)):
        night.restart(index, *options(TIMEOUT_SECS))
    night.wait_until(lambda inventory: inventory.held_until is None and not inventory.heartbeat_timeouts_secs)


STEPS: tuple[Callable[[Night], None], ...] = (
    all_is_well,
    a_host_is_drained,
    the_drained_host_stops,
    another_worker_dies,
    one_is_deregistered_and_beats_on,
    one_controller_gets_another_timeout,
    the_timeouts_are_the_same_again,
    the_database_stops,
    the_database_is_back,
    a_controller_dies,
    all_controllers_were_away,
    in_the_morning_all_is_well,
)


@pytest.mark.timeout(1200)
def test_a_night_on_call(tmp_path: Path) -> None:
    with night_on_call(tmp_path, FOLDER, INSTANCES, *options(TIMEOUT_SECS)) as night:
        for action in STEPS:
            night.take(action, COMMANDS)
    night.check()

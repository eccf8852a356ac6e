"""The settings of a controller over HTTP: those of `ctl serve --show-config`, without secrets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx

from dbgpt_ctl.controller.app import create_app
from dbgpt_ctl.controller.bootstrap import create_registry
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.settings.load import declared_settings
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.controller.conftest import TIMEOUT
from tests.support.process import ctl
from tests.support.server import running_app

if TYPE_CHECKING:
    from tests.support.clock import ManualClock

SECRET = "s3cr3t"
POISON = "</script><img src=x onerror=alert(1)>\u202e'\"$(id)"


def settings_of(settings: ControllerSettings, registry: Any) -> list[dict[str, Any]]:
    with running_app(create_app(settings, registry)) as url:
        reply = httpx.get(f"{url}/api/v1/settings", trust_env=False)
        assert SECRET not in reply.text
        assert reply.headers["content-type"] == "application/json"
        answer = reply.json()
    assert answer["version"] == 1
    found: list[dict[str, Any]] = answer["settings"]
    return found


def test_all_settings_are_as_show_config_prints_them(clock: ManualClock) -> None:
    env = {
        "CONTROLLER_REGISTRY_DB_PASSWORD": SECRET,
        "CONTROLLER_REMOTE_ADDR": f"http://a:{SECRET}@127.0.0.1:1",
        "CONTROLLER_LOG_LEVEL": "WARNING",
    }
    flags = {"max_instances": "7"}
    shown = json.loads(ctl("serve", "--show-config", "-o", "json", "--max-instances", "7", env=env).out)
    settings = ControllerSettings.load(flags, env, "")
    found = settings_of(settings, EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT))
    assert {each["name"]: {"value": each["value"], "from": each["origin"]} for each in found} == shown
    assert [each["name"] for each in found] == [setting.name for setting in declared_settings(ControllerSettings)]
    by_name = {each["name"]: each for each in found}
    assert by_name["max_instances"] == {
        "name": "max_instances",
        "variable": "CONTROLLER_MAX_INSTANCES",
        "value": 7,
        "origin": "flag --max-instances",
    }


def test_a_controller_that_forwards_has_settings_too() -> None:
    """Also while the controller behind it is away."""
    settings = ControllerSettings.load({}, {"CONTROLLER_REMOTE_ADDR": f"http://a:{SECRET}@127.0.0.1:1"}, "")
    found = {each["name"]: each["value"] for each in settings_of(settings, create_registry(settings))}
    assert found["remote_addr"] == "http://********@127.0.0.1:1"


def test_a_poisonous_value_is_plain_json(clock: ManualClock) -> None:
    settings = ControllerSettings(log_file=f"/tmp/{POISON}")
    registry = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT)
    found = {each["name"]: each["value"] for each in settings_of(settings, registry)}
    assert found["log_file"] == f"/tmp/{POISON}"

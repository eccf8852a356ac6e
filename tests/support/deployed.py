"""What the tests of several kinds of deployment share: settings from an environment, and documents with one mistake."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.settings.load import declared_settings
from dbgpt_ctl.settings.schema import ControllerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

PASSWORD_FILE = "CONTROLLER_REGISTRY_DB_PASSWORD_FILE"


def settings_of(environment: Mapping[str, str]) -> ControllerSettings:
    """The settings of a controller with this environment, in which each variable is a setting.

    A password stands in place of the file that only the container has.
    """
    assert environment.keys() <= {setting.variable for setting in declared_settings(ControllerSettings)}
    password = {PASSWORD_FILE.removesuffix("_FILE"): "x"}
    others = {name: value for name, value in environment.items() if name != PASSWORD_FILE}
    return ControllerSettings.load({}, others | password, "")


def changed(document: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with another value at `path`, whose parts are keys and numbers."""
    result: dict[str, Any] = copy.deepcopy(dict(document))
    *parents, last = path.split("/")
    place: Any = result
    for part in parents:
        place = place[int(part)] if part.isdigit() else place[part]
    place[last] = value
    return result

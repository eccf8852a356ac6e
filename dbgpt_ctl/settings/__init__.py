"""Every knob, once: a field here is a `CONTROLLER_*` variable, a flag, a line of .env.example and a row of the README.

    flag  >  environment  >  .env file  >  default

`load` is the one border where texts become values: what it returns is checked. A settings object made in code is taken
as it is. After a change here: `make generate`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.settings.kinds import Host, Kind, Password, Seconds, Urls, Whole, Word
from dbgpt_ctl.settings.knob import Knob, knob, knobs_of
from dbgpt_ctl.settings.sources import Found, find_variables, remarks_on

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ClientSettings", "ControllerSettings", "Effective", "Knob", "Settings", "knobs_of"]

SERVICE_BEAT_SECS = 20
"""DB-GPT hard-codes this interval for WorkerManager@service: a timeout that is no longer loses it."""
_PORT = Whole(1, 65535)


class Effective(NamedTuple):
    """A knob with the value in force, without secrets, and where that came from: `flag --port`, `default` ..."""

    knob: Knob
    shown: Any
    origin: str


@dataclass(frozen=True, repr=False)
class Settings:
    """What the settings classes share: loading, and showing without secrets."""

    origins: Mapping[str, str] = field(default_factory=dict, kw_only=True, compare=False)
    """Where each knob came from that is not at its default."""
    remarks: tuple[str, ...] = field(default=(), kw_only=True, compare=False)
    """One line for each variable that is likely a mistake; never a secret."""

    @classmethod
    def load(cls, flags: Mapping[str, object], environ: Mapping[str, str], env_file: str | None = None) -> Self:
        """The checked settings. `flags` maps names of knobs to what was given, None for what was not.

        `env_file`: None reads ./.env if it is there, an empty one reads none, a named one must exist. Raises UsageError
        that names every wrong knob, its value and where that came from.
        """
        variables = find_variables(environ, env_file)
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        wrong: list[str] = []
        for each in knobs_of(cls):
            given = flags.get(each.name)
            found = variables.get(each.variable) if given is None else Found(str(given), f"flag {each.flag}")
            if found is None:
                continue
            origins[each.name] = found.origin
            try:
                values[each.name] = each.parse(found.text)
            except UsageError as error:
                wrong.append(f"{each.name}: {error} ({found.origin})")
            except ValueError as error:
                what = f"{each.name} {each.quoted(found.text)}" if found.text.strip() else each.name
                wrong.append(f"{what} {error} ({found.origin})")
        if wrong:
            raise UsageError("; ".join(wrong))
        return cls(**values, origins=origins, remarks=cls._remarks(variables)).checked()

    def checked(self) -> Self:
        """The same settings, if the rules over several knobs hold. Raises UsageError."""
        return self

    def effective(self) -> list[Effective]:
        """Every knob with its value in force, secrets hidden, and where it came from."""
        pairs = ((each, getattr(self, each.name)) for each in knobs_of(self))
        return [
            Effective(each, each.kind.shown(value), self.origins.get(each.name, "default")) for each, value in pairs
        ]

    def __repr__(self) -> str:
        shown = ", ".join(f"{each.knob.name}={each.shown!r}" for each in self.effective())
        return f"{type(self).__name__}({shown})"

    @classmethod
    def _remarks(cls, variables: Mapping[str, Found]) -> tuple[str, ...]:  # noqa: ARG003 - the client is quiet
        return ()


@dataclass(frozen=True, repr=False)
class ClientSettings(Settings):
    """The knobs of every command that talks to a controller."""

    address: str = knob(
        "http://127.0.0.1:8000",
        Urls(),
        "URL of the controller; several, separated by commas, are tried in turn",
        aliases=("-a",),
    )
    request_timeout: float = knob(5.0, Seconds(3600), "seconds that one request may take")


@dataclass(frozen=True, repr=False)
class ControllerSettings(Settings):
    """The knobs of `ctl serve`."""

    host: str = knob("127.0.0.1", Host(), "address to listen on; 0.0.0.0 or :: for all")
    port: int = knob(8000, _PORT, "port to listen on")
    registry_type: str = knob(
        "embedded",
        Word("embedded", "database"),
        "where instances are kept: in memory or in a database",
        aliases=("--registry",),
    )
    registry_db_type: str = knob("mysql", Word("mysql", "sqlite"), "kind of the database; MariaDB is mysql")
    registry_db_name: str = knob(
        "dbgpt", Kind("NAME"), "name of the MySQL database; for sqlite the path of the file, which has no default"
    )
    registry_db_host: str | None = knob(None, Host(), "host of the MySQL server")
    registry_db_port: int = knob(3306, _PORT, "port of the MySQL server")
    registry_db_user: str | None = knob(None, Kind("USER"), "user at the MySQL server")
    registry_db_password: str | None = knob(
        None, Password(), "password at the MySQL server; safer in the variable or a .env file than in the flag"
    )
    registry_db_pool_size: int = knob(5, Whole(1, 1000), "connections to the database that stay open")
    registry_db_max_overflow: int = knob(10, Whole(0, 1000), "connections to the database beyond those, under load")
    heartbeat_interval_secs: float = knob(20.0, Seconds(), "seconds between two heartbeats of a worker")
    heartbeat_timeout_secs: float = knob(
        60.0, Seconds(), "seconds after its last heartbeat from which an instance is unhealthy"
    )
    max_instances: int = knob(200_000, Whole(1, 1_000_000_000), "most instances to keep; new ones beyond are refused")
    remote_addr: str | None = knob(None, Urls(), "URL of another controller to serve, instead of a registry of our own")
    log_level: str = knob("info", Word("debug", "info", "warning", "error", "critical"), "least severe lines to log")
    log_file: str | None = knob(None, Kind("PATH"), "file to log to, rotated; without one: standard error")

    @property
    def is_loopback(self) -> bool:
        """Whether only processes on this machine can reach the controller."""
        from ipaddress import ip_address  # noqa: PLC0415 - only `ctl serve` pays for it

        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    def warnings(self) -> list[str]:
        """One line for each thing that is allowed and likely a mistake; never a secret."""
        lines = list(self.remarks)
        shown = {each.knob.name: each.shown for each in self.effective()}
        timeout = f"heartbeat_timeout_secs {shown['heartbeat_timeout_secs']}"
        if self.heartbeat_timeout_secs <= SERVICE_BEAT_SECS:
            lines.append(f"{timeout} is too short for DB-GPT: WorkerManager@service beats every {SERVICE_BEAT_SECS} s")
        if self.heartbeat_timeout_secs < self.heartbeat_interval_secs:
            lines.append(
                f"{timeout} is below heartbeat_interval_secs {shown['heartbeat_interval_secs']}: live workers expire"
            )
        idle = [name for name in self.origins if name.startswith("registry_db_")]
        if idle and self.registry_type == "embedded":
            why = "remote_addr is set" if self.remote_addr else "registry_type is embedded; add --registry database"
            lines.append(f"{', '.join(idle)} without effect: {why}")
        return lines

    def checked(self) -> Self:
        """With `~` in paths expanded. Raises UsageError that names all that a database registry lacks."""
        if self.registry_type == "database":
            if self.remote_addr is not None:
                raise UsageError(
                    "remote_addr and registry_type database exclude each other: a controller has one registry"
                )
            self._require_database()
        settings = replace(self, log_file=_expanded(self.log_file))
        if self.registry_db_type == "sqlite":
            return replace(settings, registry_db_name=_expanded(self.registry_db_name))
        return settings

    def _require_database(self) -> None:
        needed = {"registry_db_name"}
        if self.registry_db_type == "mysql":
            needed = {"registry_db_host", "registry_db_user", "registry_db_password"}
        missing = [each for each in knobs_of(self) if each.name in needed and not self._is_given(each)]
        if missing:
            names = ", ".join(f"{each.name} ({each.variable})" for each in missing)
            raise UsageError(f"a {self.registry_db_type} registry needs {names}: set the variables or give the flags")

    def _is_given(self, knob: Knob) -> bool:
        """An empty password is one, if it was asked for; empty hosts and users are none."""
        return knob.name in self.origins and (isinstance(knob.kind, Password) or getattr(self, knob.name) is not None)

    @classmethod
    def _remarks(cls, variables: Mapping[str, Found]) -> tuple[str, ...]:
        return tuple(remarks_on(variables, [each.variable for each in (*knobs_of(cls), *knobs_of(ClientSettings))]))


def _expanded(path: str | None) -> Any:
    if path is None or not path.startswith("~"):
        return path
    from pathlib import Path  # noqa: PLC0415

    try:
        return str(Path(path).expanduser())
    except RuntimeError:
        raise UsageError(f"{path}: the home directory that ~ stands for is not known") from None

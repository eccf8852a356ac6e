"""Every knob, exactly once. One field here is a `CONTROLLER_*` variable, a flag, a line of .env.example and a row of the README's table.

    flag  >  environment  >  .env file  >  default

`load` is the one border where strangers' texts become values: what it returns is checked. A settings object made in code is taken as
it is. After a new field: `make generate`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.settings.knob import MAX_PORT, Host, Knob, Seconds, Text, Urls, Whole, Word, knob, knobs_of
from dbgpt_ctl.settings.sources import Found, find_variables, remarks_on

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ClientSettings", "ControllerSettings", "Effective", "Knob", "Settings", "knobs_of"]

WORKER_BEAT_SECS = 20
"""DB-GPT hard-codes this interval for WorkerManager@service: a timeout that is no longer loses it (PROTOCOL.md)."""


class Effective(NamedTuple):
    """A knob with the value in force, without secrets, and where that came from."""

    knob: Knob
    shown: Any
    origin: str


@dataclass(frozen=True, repr=False)
class Settings:
    """What both settings classes share. `origins` has an entry for each knob that is not at its default."""

    origins: Mapping[str, str] = field(default_factory=dict, kw_only=True, compare=False)
    remarks: tuple[str, ...] = field(default=(), kw_only=True, compare=False)
    """One line for each thing in the sources that is likely a mistake; never a secret."""

    @classmethod
    def load(cls, flags: Mapping[str, object], environ: Mapping[str, str], env_file: str | None = None) -> Self:
        """The checked settings. `flags` maps names of knobs to what was given, None for what was not.

        `env_file`: None reads ./.env if it is there, an empty one reads none, a named one must exist. Raises UsageError that names all
        wrong knobs, with their values and where they came from.
        """
        variables = find_variables(environ, env_file)
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        wrong: list[str] = []
        for each in knobs_of(cls):
            found = _find(each, flags, variables)
            if found is None:
                continue
            origins[each.name] = found.origin
            try:
                values[each.name] = each.parse(found.text)
            except ValueError as error:
                what = f"{each.name} {each.quoted(found.text)}" if found.text.strip() else each.name
                wrong.append(f"{what} {error} ({found.origin})")
        if wrong:
            raise UsageError("; ".join(wrong))
        return cls(**values, origins=origins, remarks=cls._remarks(variables))._checked()

    @classmethod
    def _remarks(cls, variables: Mapping[str, Found]) -> tuple[str, ...]:  # noqa: ARG003 - for the heirs
        return ()

    def _checked(self) -> Self:
        """Rules over several knobs. Raises UsageError."""
        return self

    def effective(self) -> list[Effective]:
        """Every knob with its value in force, secrets hidden, and where it came from."""
        return [
            Effective(each, each.shown(getattr(self, each.name)), self.origins.get(each.name, "default"))
            for each in knobs_of(self)
        ]

    def __repr__(self) -> str:
        shown = ", ".join(f"{each.knob.name}={each.shown!r}" for each in self.effective())
        return f"{type(self).__name__}({shown})"


def _find(knob: Knob, flags: Mapping[str, object], variables: Mapping[str, Found]) -> Found | None:
    given = flags.get(knob.name)
    if given is not None:
        return Found(str(given), f"flag {knob.flag}")
    return variables.get(knob.variable)


@dataclass(frozen=True, repr=False)
class ClientSettings(Settings):
    """The knobs of every command that talks to a controller."""

    address: str = knob(
        "http://127.0.0.1:8000",
        Urls(),
        "URL of the controller; several, separated by commas, are tried in turn",
        aliases=("-a",),
        secret=True,
    )
    request_timeout: float = knob(5.0, Seconds(3600), "seconds that one request to one controller may take")


@dataclass(frozen=True, repr=False)
class ControllerSettings(Settings):
    """The knobs of `ctl serve`."""

    host: str = knob("127.0.0.1", Host(), "address to listen on; 0.0.0.0 or :: for all")
    port: int = knob(8000, Whole(1, MAX_PORT), "port to listen on")
    registry_type: str = knob(
        "embedded",
        Word(("embedded", "database")),
        "where instances are kept: in memory, or in a database",
        aliases=("--registry",),
    )
    registry_db_type: str = knob("mysql", Word(("mysql", "sqlite")), "kind of database; mysql is MariaDB too")
    registry_db_name: str = knob(
        "dbgpt", Text("name or path"), "name of the MySQL database; for sqlite the path of the file, to be given"
    )
    registry_db_host: str | None = knob(None, Host(), "host of the MySQL server")
    registry_db_port: int = knob(3306, Whole(1, MAX_PORT), "port of the MySQL server")
    registry_db_user: str | None = knob(None, Text(), "user at the MySQL server")
    registry_db_password: str | None = knob(
        None,
        Text(verbatim=True),
        "password at the MySQL server; better in the variable than in the flag, which others may see until ctl hides it",
        secret=True,
    )
    registry_db_pool_size: int = knob(5, Whole(1, 1000), "connections to the database that are kept open")
    registry_db_max_overflow: int = knob(10, Whole(0, 1000), "further connections under load")
    heartbeat_interval_secs: float = knob(20.0, Seconds(), "seconds between two heartbeats of a worker")
    heartbeat_timeout_secs: float = knob(
        60.0, Seconds(), "seconds without a heartbeat after which an instance is unhealthy"
    )
    max_instances: int = knob(
        200_000, Whole(1, 1_000_000_000), "instances that the registry holds at most; new ones beyond are refused"
    )
    remote_addr: str | None = knob(
        None, Urls(), "URL of another controller: serve what it holds instead of a registry of our own", secret=True
    )
    log_level: str = knob(
        "info", Word(("debug", "info", "warning", "error", "critical")), "least severe lines that are logged"
    )
    log_file: str | None = knob(None, Text("path"), "file to log to, rotated; none: standard error")

    @property
    def is_loopback(self) -> bool:
        """Whether only this host can reach the controller."""
        from ipaddress import ip_address  # noqa: PLC0415 - only `ctl serve` pays for it

        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    def warnings(self) -> list[str]:
        """One line for each thing that is allowed and likely a mistake; never a secret."""
        lines = list(self.remarks)
        timeout, interval = (_number(each) for each in (self.heartbeat_timeout_secs, self.heartbeat_interval_secs))
        if self.heartbeat_timeout_secs <= WORKER_BEAT_SECS:
            lines.append(
                f"heartbeat_timeout_secs {timeout} loses the service of every DB-GPT worker, which beats each {WORKER_BEAT_SECS} s: "
                "make it longer"
            )
        elif self.heartbeat_timeout_secs < self.heartbeat_interval_secs:
            lines.append(
                f"heartbeat_timeout_secs {timeout} is below heartbeat_interval_secs {interval}: healthy workers will expire"
            )
        idle = [name for name in self.origins if name.startswith("registry_db_")]
        if idle and self.remote_addr is None and self.registry_type == "embedded":
            lines.append(f"{', '.join(idle)} without effect: registry_type is embedded; add --registry database")
        return lines

    @classmethod
    def _remarks(cls, variables: Mapping[str, Found]) -> tuple[str, ...]:
        return tuple(remarks_on(variables, [each.variable for each in (*knobs_of(cls), *knobs_of(ClientSettings))]))

    def _checked(self) -> Self:
        if self.remote_addr is not None and self.registry_type == "database":
            raise UsageError(
                f"remote_addr ({self.origins['remote_addr']}) and registry_type database exclude each other: drop one"
            )
        if self.remote_addr is None and self.registry_type == "database":
            self._require_database()
        return self._with_home()

    def _require_database(self) -> None:
        needed = (
            ("registry_db_host", "registry_db_user", "registry_db_password")
            if self.registry_db_type == "mysql"
            else ("registry_db_name",)
        )
        missing = [each for each in knobs_of(self) if each.name in needed and each.name not in self.origins]
        if missing:
            names = ", ".join(f"{each.name} ({each.variable})" for each in missing)
            raise UsageError(
                f"a registry in {self.registry_db_type} needs {names}: set the variables or give the flags"
            )

    def _with_home(self) -> Self:
        """`~` in paths becomes the home directory."""
        paths = {"log_file": self.log_file}
        if self.registry_db_type == "sqlite":
            paths["registry_db_name"] = self.registry_db_name
        try:
            return replace(
                self, **{name: str(Path(path).expanduser()) for name, path in paths.items() if path is not None}
            )
        except RuntimeError:
            raise UsageError(f"{' or '.join(paths)}: the home directory that ~ stands for is not known") from None


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else str(value)

"""Every setting, declared once: a field here is a `CONTROLLER_*` variable, a flag, a line of .env.example and a row of
the table of settings.

`load` finds the values (see `settings.load`; for a client also `settings.contexts`) and checks them. A settings object
made in code is taken as it is. After a change here: `make generate`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from dbgpt_ctl.databases import DATABASE_TYPES
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.settings.load import Setting, Settings, declared_settings, remarks_on, setting
from dbgpt_ctl.settings.masking import read_secret_file
from dbgpt_ctl.settings.snapshot_file import SNAPSHOT_VARIABLE, snapshot_remarks
from dbgpt_ctl.settings.value_types import (
    ALLOWED_HOSTS,
    FLAG,
    HEADERS,
    HOST,
    HOSTS,
    NETWORKS,
    PASSWORD,
    RATIO,
    SWITCH,
    URLS,
    ValueType,
    seconds,
    whole,
    word,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbgpt_ctl.settings.addresses import Address
    from dbgpt_ctl.settings.load import Found

MIN_CONNECTIONS = 16
OTLP_VARIABLE = "OTEL_EXPORTER_OTLP_"
"""The prefix of OpenTelemetry's variables for all signals; the variables for traces alone go before them."""
LOOPBACK_HOSTS = ("localhost", "*.localhost", "127.0.0.0/8", "::1")
_PORT = whole(1, 65535)
_DEFAULT_PORTS = ", ".join(
    f"{each.default_port} for {name}" for name, each in DATABASE_TYPES.items() if not each.is_file
)
_DB_PASSWORD = ("registry_db_password", "registry_db_password_file")
_REMOTE_TOKEN = ("remote_token_file",)
_OTLP_HEADERS = ("otel_exporter_otlp_traces_headers",)
_OTLP_CREDENTIALS = tuple(
    f"OTEL_PYTHON_EXPORTER_OTLP_{protocol}CREDENTIAL_PROVIDER"
    for protocol in ("HTTP_", "HTTP_TRACES_", "GRPC_", "GRPC_TRACES_")
)
"""The variables with which OpenTelemetry's SDK loads a provider of tokens."""


def _otlp(name: str, default: Any, kind: ValueType, text: str, **further: Any) -> Any:
    """A setting of the export to OpenTelemetry; while the export is on, the standard variables set it too."""
    shared = (f"{OTLP_VARIABLE}TRACES_{name.upper()}", f"{OTLP_VARIABLE}{name.upper()}")
    return setting(default, kind, text, shared=shared, shared_with="tracer_to_open_telemetry", **further)


@dataclass(frozen=True, repr=False)
class ClientSettings(Settings):
    """The settings of every command that talks to a controller."""

    address: str = setting(
        "http://127.0.0.1:8000",
        URLS,
        "URL of the controller; several, separated by commas, are tried in turn",
        aliases=("-a",),
    )
    request_timeout: float = setting(
        5.0, seconds(3600), "timeout of one request, in seconds; the flag takes a unit, as in 5s"
    )
    ca_file: str | None = setting(
        None,
        ValueType("PATH"),
        "PEM file with the certificates to trust at https addresses of controllers; without one: the system's",
    )
    context: str | None = field(default=None, kw_only=True)
    """The name of the context in use, if any (see `settings.contexts`)."""
    context_origin: str | None = field(default=None, kw_only=True, compare=False)
    token_origin: str | None = field(default=None, kw_only=True, compare=False)
    """The origin of the token that was put into `address`, if any was."""

    def checked(self) -> Self:
        """The settings with `~` in `ca_file` expanded. Raises UsageError."""
        return replace(self, ca_file=_expanded(self.ca_file))

    @property
    def addresses(self) -> tuple[Address, ...]:
        """`address`, parsed, with the credentials."""
        from dbgpt_ctl.settings.addresses import parse_addresses

        return parse_addresses(self.address)


@dataclass(frozen=True, repr=False)
class ControllerSettings(Settings):
    """The settings of `ctl serve`."""

    reads_folder: ClassVar[bool] = True

    host: str = setting("127.0.0.1", HOST, "address to listen on; 0.0.0.0 or :: for all")
    port: int = setting(8000, _PORT, "port to listen on")
    tls_cert: str | None = setting(
        None,
        ValueType("PATH"),
        "PEM file with the certificate for a second listener, over TLS: the controller's own first, then those of the "
        "CAs between; it is read again when it changes",
        trusted_only=True,
    )
    tls_key: str | None = setting(
        None, ValueType("PATH"), "PEM file with the key of tls_cert, without a passphrase", trusted_only=True
    )
    tls_port: int = setting(8443, _PORT, "port to listen on with TLS; used when tls_cert and tls_key are set")
    no_http: bool = setting(
        default=False, kind=FLAG, text="whether to listen with TLS only; needs tls_cert and tls_key"
    )
    allowed_hosts: str | None = setting(
        None,
        ALLOWED_HOSTS,
        "further hosts by which clients may call it, beside its --host and the loopback names, without ports: names, "
        "addresses, ranges such as 10.0.0.0/8, *.example.com, or * for any; if not set: none on a loopback address, "
        "else any",
    )
    trusted_proxies: str | None = setting(
        None,
        NETWORKS,
        "addresses of the proxies in front of it, such as 10.0.0.5,10.1.0.0/16, whose X-Forwarded-For says where a "
        "request came from; if not set, no such header is read",
        trusted_only=True,
    )
    deny_loopback_hosts: bool = setting(
        False,
        FLAG,
        "refuse to register instances whose host is localhost, a loopback address, 0.0.0.0 or ::, by which an API "
        "server would call itself",
    )
    auth: str = setting(
        "off",
        word("off", "log", "enforce"),
        "what to do with a request that its token does not allow: nothing is checked, it is served and counted, or it "
        "is refused; the mode in the tokens file goes before this one",
    )
    tokens_file: str | None = setting(
        None,
        ValueType("PATH"),
        "file with the tokens, made by `ctl token create`; read again when it changes",
        trusted_only=True,
    )
    require_auth: bool = setting(
        default=False,
        kind=FLAG,
        text="whether to refuse a start, and a change of the tokens file, with authentication off where other machines "
        "can reach the controller",
    )
    registry_type: str = setting(
        "embedded",
        word("embedded", "database"),
        "where instances are kept: in memory or in a database",
        aliases=("--registry",),
    )
    registry_db_type: str = setting("mysql", word(*DATABASE_TYPES), "kind of the database; MariaDB is mysql")
    registry_db_name: str = setting(
        "dbgpt",
        ValueType("NAME"),
        "name of the database; for sqlite the path of the file, which must be given",
        is_written=True,
    )
    registry_db_host: str | None = setting(
        None,
        HOSTS,
        "host of the database server; for a cluster several, separated by commas, tried in turn",
        receives=_DB_PASSWORD,
    )
    registry_db_port: int | None = setting(
        None, _PORT, f"port of the database server; if not set: {_DEFAULT_PORTS}", receives=_DB_PASSWORD
    )
    registry_db_user: str | None = setting(None, ValueType("USER"), "user at the database server")
    registry_db_password: str | None = setting(
        None, PASSWORD, "password at the database server; other users of the machine can read the flag"
    )
    registry_db_password_file: str | None = setting(
        None, ValueType("PATH"), "file that holds the password at the database server", trusted_only=True
    )
    registry_db_ssl_ca: str | None = setting(
        None,
        ValueType("PATH"),
        "PEM file with the certificates to trust; with one, connections to the database are encrypted",
        receives=_DB_PASSWORD,
    )
    registry_db_pool_size: int = setting(5, whole(1, 1000), "connections to the database that stay open")
    registry_db_max_overflow: int = setting(10, whole(0, 1000), "additional connections to the database under load")
    heartbeat_interval_secs: float = setting(20.0, seconds(), "seconds between two heartbeats of a worker")
    heartbeat_timeout_secs: float = setting(
        60.0, seconds(), "seconds after its last heartbeat from which an instance is unhealthy"
    )
    remove_after_secs: float = setting(
        7 * 24 * 3600.0,
        seconds(zero=True),
        "seconds after which an unhealthy or deregistered instance is removed, unless it is drained; 0: never",
    )
    shutdown_grace_secs: float | None = setting(
        None,
        seconds(3600, zero=True),
        "seconds to serve on after SIGTERM, with health 503, so that clients use another controller; if not set: 12 "
        "with a database server, else 0",
    )
    max_instances: int = setting(
        200_000, whole(1, 1_000_000_000), "most instances to keep; further new ones are refused"
    )
    max_connections: int | None = setting(
        None,
        whole(MIN_CONNECTIONS, 1_000_000),
        "most connections at one time; when there are more, idle ones close first; if not set: as many as the limit of "
        "open files allows",
    )
    remote_addr: str | None = setting(
        None,
        URLS,
        "URL of another controller to forward to, in place of a registry; several, separated by commas, are tried in "
        "turn",
        receives=_REMOTE_TOKEN,
    )
    remote_token_file: str | None = setting(
        None,
        ValueType("PATH"),
        "file that holds the token for the controllers to forward to, as TOKEN or NAME:TOKEN; only its owner may read "
        "it; it is read again when it changes",
        trusted_only=True,
    )
    remote_ca_file: str | None = setting(
        None,
        ValueType("PATH"),
        "PEM file with the certificates to trust at https addresses of the controllers to forward to; without one: the "
        "system's",
        receives=("remote_addr", *_REMOTE_TOKEN),
    )
    no_console: bool = setting(default=False, kind=FLAG, text="whether to leave out the console, the page at /console")
    log_level: str = setting("info", word("debug", "info", "warning", "error", "critical"), "lowest severity to log")
    log_file: str | None = setting(
        None, ValueType("PATH"), "file to log to, rotated; without one: standard error", is_written=True
    )
    log_format: str = setting(
        "text", word("text", "json"), "format of the log: lines of text, or JSON lines for programs"
    )
    access_log: bool = setting(
        default=False, kind=FLAG, text="whether the log has a line for each request, also for each heartbeat"
    )
    audit_log_file: str | None = setting(
        None,
        ValueType("PATH"),
        "file to which each change by an operator and each change of security is appended, as JSON lines; without one: "
        "none",
        is_written=True,
    )
    tracer_file: str | None = setting(
        None,
        ValueType("PATH"),
        "file for traces as JSON lines, one per day, for `dbgpt trace list`; without one: none",
        is_written=True,
    )
    tracer_file_max_mb: int = setting(
        100, whole(1, 1_000_000), "most MB in the trace file of one day; further traces of the day are dropped"
    )
    tracer_storage_cls: str | None = setting(
        None,
        ValueType("MODULE:CLASS"),
        "class of your own that receives the traces, as package.module:Class",
        trusted_only=True,
    )
    tracer_sample_ratio: float = setting(0.0, RATIO, "share of heartbeats and lists to trace")
    tracer_to_open_telemetry: bool = setting(
        default=False,
        kind=SWITCH,
        text="whether traces go to an OpenTelemetry collector too, over OTLP; needs the extra otel",
        shared=("TRACER_TO_OPEN_TELEMETRY",),
    )
    otel_exporter_otlp_traces_protocol: str = _otlp(
        "protocol", "grpc", word("grpc", "http/protobuf"), "protocol of the export to the collector"
    )
    otel_exporter_otlp_traces_endpoint: str | None = _otlp(
        "endpoint",
        None,
        ValueType("URL"),
        "URL of the collector, with the path if it is HTTP; without one: http://localhost:4317 or "
        "http://localhost:4318/v1/traces",
        receives=_OTLP_HEADERS,
    )
    otel_exporter_otlp_traces_insecure: bool | None = _otlp(
        "insecure",
        None,
        SWITCH,
        "how gRPC connects if the endpoint has no scheme: true is plain text, false is TLS",
        receives=_OTLP_HEADERS,
    )
    otel_exporter_otlp_traces_certificate: str | None = _otlp(
        "certificate",
        None,
        ValueType("PATH"),
        "PEM file with the certificates to trust; without one: the system's",
        receives=_OTLP_HEADERS,
    )
    otel_exporter_otlp_traces_headers: str | None = _otlp(
        "headers",
        None,
        HEADERS,
        "headers for the collector, as name=value,name=value, values percent-encoded",
        secret_variables=_OTLP_CREDENTIALS,
    )
    otel_exporter_otlp_traces_timeout: float = _otlp(
        "timeout", 10.0, seconds(3600), "timeout of the export of a batch with its retries, in seconds"
    )
    otel_exporter_otlp_traces_compression: str = _otlp(
        "compression", "none", word("none", "gzip"), "how batches are compressed"
    )

    @property
    def stderr_is_json(self) -> bool:
        """Whether standard error gets the log as JSON lines, and so nothing else."""
        return self.log_format == "json" and self.log_file is None

    @property
    def is_loopback(self) -> bool:
        """Whether only processes on this machine can reach the controller."""
        from dbgpt_ctl.settings.addresses import is_loopback_host

        return is_loopback_host(self.host)

    def urls(self, host: str) -> list[str]:
        """The URL of each listener, that without TLS first. `host` is in brackets if it is an IPv6 address."""
        plain = [] if self.no_http else [f"http://{host}:{self.port}"]
        return plain if self.tls_cert is None else [*plain, f"https://{host}:{self.tls_port}"]

    @property
    def remote_addresses(self) -> tuple[Address, ...]:
        """`remote_addr`, parsed, with the credentials; empty without one."""
        from dbgpt_ctl.settings.addresses import parse_addresses

        return parse_addresses(self.remote_addr) if self.remote_addr else ()

    @property
    def host_patterns(self) -> tuple[str, ...]:
        """The hosts by which clients may call the controller, as `AllowedHosts` takes them.

        Loopback names are always among them: no DNS of an attacker can answer for them.
        """
        if self.allowed_hosts is None and not self.is_loopback:
            return ("*",)
        further = self.allowed_hosts.split(",") if self.allowed_hosts else ()
        return (*LOOPBACK_HOSTS, self.host, *further)

    def checked(self) -> Self:
        """The settings with `~` in paths expanded and the password read from its file.

        Raises UsageError, which names all that a database registry lacks.
        """
        if self.auth == "enforce" and self.tokens_file is None:
            raise UsageError(
                "auth enforce needs tokens_file (CONTROLLER_TOKENS_FILE), or every request would be refused; `ctl "
                "token create` makes one"
            )
        if self.registry_type == "database":
            if self.remote_addr is not None:
                raise UsageError(
                    "remote_addr and registry_type database are both set: a controller has one registry; leave one of "
                    "them out"
                )
            self._require_database()
        if self.remote_token_file and any(address.credentials for address in self.remote_addresses):
            raise UsageError("remote_addr holds a token, and remote_token_file is set: leave one of the tokens out")
        paths = {item.name for item in declared_settings(self) if item.kind.metavar == "PATH"}
        if DATABASE_TYPES[self.registry_db_type].is_file:
            paths.add("registry_db_name")
        expanded = {name: _expanded(getattr(self, name)) for name in paths}
        password = self._password_from_file(expanded["registry_db_password_file"])
        return replace(self, **expanded, **password, otel_exporter_otlp_traces_endpoint=self._traces_endpoint())

    def check_listeners(self) -> None:
        """Raises UsageError unless a controller can listen with these settings; `ctl db`, which listens on nothing,
        takes them.
        """
        if (self.tls_cert is None) != (self.tls_key is None):
            given, missing = ("tls_key", "tls_cert") if self.tls_cert is None else ("tls_cert", "tls_key")
            raise UsageError(f"{given} is set, and {missing} is not: TLS needs both")
        if self.no_http and self.tls_cert is None:
            raise UsageError("no_http is set, and TLS is not: set tls_cert and tls_key, or leave no_http out")
        if self.tls_cert is not None and not self.no_http and self.tls_port == self.port:
            raise UsageError(f"port and tls_port are both {self.port}: choose another one for tls_port")

    def _password_from_file(self, path: str | None) -> dict[str, Any]:
        """The fields that the password file changes, if there is one and the registry is a database with passwords."""
        if path is None or self.registry_type != "database" or DATABASE_TYPES[self.registry_db_type].is_file:
            return {}
        if "registry_db_password" in self.origins:
            raise UsageError("registry_db_password and registry_db_password_file are both set: leave one of them out")
        password = read_secret_file(path, f"registry_db_password_file {path}")
        if not password:
            raise UsageError(f"registry_db_password_file {path}: is empty")
        origins = {**self.origins, "registry_db_password": f"file {path}"}
        return {"registry_db_password": password, "origins": origins}

    def _traces_endpoint(self) -> str | None:
        """The endpoint. The standard variable for all signals holds a base: over HTTP, traces have a path below it."""
        endpoint = self.otel_exporter_otlp_traces_endpoint
        origin = self.origins.get("otel_exporter_otlp_traces_endpoint", "")
        is_base = f"{OTLP_VARIABLE}ENDPOINT" in origin.split()
        if endpoint and is_base and self.otel_exporter_otlp_traces_protocol != "grpc":
            return f"{endpoint.rstrip('/')}/v1/traces"
        return endpoint

    def _require_database(self) -> None:
        needed = DATABASE_TYPES[self.registry_db_type].required_settings
        missing = [item for item in declared_settings(self) if item.name in needed and not self._is_given(item)]
        if missing:
            names = ", ".join(" or ".join(f"{one.name} ({one.variable})" for one in _ways(item)) for item in missing)
            raise UsageError(f"a {self.registry_db_type} registry needs {names}: set the variables or give the flags")

    def _is_given(self, item: Setting) -> bool:
        """Whether it has a value. An empty password that is set on purpose is one; empty hosts and users are none."""
        if item.kind is PASSWORD:
            return item.name in self.origins or self.registry_db_password_file is not None
        return item.name in self.origins and getattr(self, item.name) is not None

    @classmethod
    def _remarks(cls, variables: Mapping[str, Found]) -> tuple[str, ...]:
        known = [
            *(item.variable for item in (*declared_settings(cls), *declared_settings(ClientSettings))),
            SNAPSHOT_VARIABLE,
        ]
        return (*remarks_on(variables, known), *snapshot_remarks(variables))


def _ways(item: Setting) -> tuple[Setting, ...]:
    """The setting, and others that give it its value."""
    others = (other for other in declared_settings(ControllerSettings) if other.name == f"{item.name}_file")
    return (item, *others)


def _expanded(path: str | None) -> Any:
    if path is None or not path.startswith("~"):
        return path
    from pathlib import Path

    try:
        return str(Path(path).expanduser())
    except RuntimeError:
        raise UsageError(f"{path}: the home directory that ~ stands for is not known") from None

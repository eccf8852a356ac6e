"""Puts the parts together: settings, registry, application, server.

The libraries of each part are imported in the function that needs them: `ctl db` uses the addresses of a database
without FastAPI, and an embedded registry needs no SQLAlchemy.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import secrets
import socket
import sys
from dataclasses import fields, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from dbgpt_ctl import __version__
from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.controller.auth.start import access_warnings
from dbgpt_ctl.controller.logs import access_log
from dbgpt_ctl.controller.logs.formats import create_formatter
from dbgpt_ctl.controller.logs.log_file import LogFile
from dbgpt_ctl.controller.logs.log_limit import LimitedWarnings
from dbgpt_ctl.controller.systemd import ServiceManager
from dbgpt_ctl.databases import DATABASE_TYPES, DatabaseHost, parse_hosts
from dbgpt_ctl.domain.controllers import ControllerIdentity
from dbgpt_ctl.domain.fields import canonical_host
from dbgpt_ctl.errors import CtlError, UsageError
from dbgpt_ctl.registry.contract import NO_OBSERVER
from dbgpt_ctl.settings.masking import read_token
from dbgpt_ctl.settings.schema import ControllerSettings
from dbgpt_ctl.settings.warnings import warnings_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI
    from sqlalchemy import URL

    from dbgpt_ctl.controller.http.tls import WatchedCertificate
    from dbgpt_ctl.controller.service.controller import Controller
    from dbgpt_ctl.registry.contract import ModelRegistry, RegistryObserver
    from dbgpt_ctl.registry.database.session import Database
    from dbgpt_ctl.tracing import Tracer
    from dbgpt_ctl.tracing.writer import BatchSink

log = logging.getLogger(__name__)

_CONNECT_SECS = 5
_ANSWER_SECS = 20
"""For a command: longer than a controller waits, because a change of a large table takes its time."""
DATABASE_GRACE_SECS = 12.0
"""DB-GPT's clients poll health every 5 s: after two polls they use another controller."""
_GC_THRESHOLDS = (50_000, 20, 50)
"""Python's own thresholds start 12 full collections, 1.8 s in all, while 100,000 instances are read."""
_SWITCH_SECS = 0.0005
"""How long the event loop waits for a thread that computes, each time it has waited for the network."""


def create_registry(settings: ControllerSettings, observer: RegistryObserver = NO_OBSERVER) -> ModelRegistry:
    """The registry that the settings name, not opened yet. Raises UsageError for a wrong file of a forwarder."""
    timeout = timedelta(seconds=settings.heartbeat_timeout_secs)
    remove_after = timedelta(seconds=settings.remove_after_secs) if settings.remove_after_secs else None
    if settings.remote_addr:
        from dbgpt_ctl.registry.remote import RemoteModelRegistry

        file = settings.remote_token_file
        return RemoteModelRegistry(
            settings.remote_addr,
            ca_file=settings.remote_ca_file,
            read_token=partial(read_token, file, f"remote_token_file {file}", pipes=False) if file else None,
            forwarder_id=secrets.token_hex(8),
            observer=observer,
        )
    if settings.registry_type == "embedded":
        from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry

        return EmbeddedModelRegistry(
            clock=SystemClock(),
            heartbeat_timeout=timeout,
            max_instances=settings.max_instances,
            watch_absence=True,
            remove_after=remove_after,
            observer=observer,
        )
    from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry

    return DatabaseModelRegistry(
        database_url(settings),
        heartbeat_timeout=timeout,
        max_instances=settings.max_instances,
        pool_size=settings.registry_db_pool_size,
        max_overflow=settings.registry_db_max_overflow,
        hosts=database_hosts(settings),
        ssl_ca=settings.registry_db_ssl_ca,
        watch_absence=True,
        remove_after=remove_after,
        refresh_interval=timedelta(seconds=settings.heartbeat_interval_secs),
        identity=ControllerIdentity(secrets.token_hex(8), __version__, own_address(settings)),
        observer=observer,
    )


def own_address(settings: ControllerSettings) -> str:
    """The URL at which this controller listens, as other machines may call it: with a name in place of 0.0.0.0."""
    host = socket.gethostname() if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104 - binds nothing
    return settings.urls(canonical_host(host))[0]


def database_url(settings: ControllerSettings) -> URL:
    """The address of the database registry for SQLAlchemy; its hosts are apart, see `database_hosts`."""
    from sqlalchemy import URL

    database_type = DATABASE_TYPES[settings.registry_db_type]
    if database_type.is_file:
        return URL.create(database_type.driver, database=settings.registry_db_name)
    return URL.create(
        database_type.driver,
        username=settings.registry_db_user,
        password=settings.registry_db_password,
        database=settings.registry_db_name,
    )


def database_hosts(settings: ControllerSettings) -> tuple[DatabaseHost, ...]:
    """The hosts of the database; none for a file."""
    default_port = DATABASE_TYPES[settings.registry_db_type].default_port
    if default_port is None or settings.registry_db_host is None:
        return ()
    return parse_hosts(settings.registry_db_host, settings.registry_db_port or default_port)


@contextlib.contextmanager
def open_databases(settings: ControllerSettings, *, one_by_one: bool = False) -> Iterator[list[Database]]:
    """The database over all its hosts or, `one_by_one`, at each of them; connections are closed at the end.

    For a command, on which no request waits: it has more patience than a controller, and logs nothing.
    """
    from dbgpt_ctl.registry.database.dialects.base import DatabaseTimeouts
    from dbgpt_ctl.registry.database.session import Database

    logging.getLogger("dbgpt_ctl").addHandler(logging.NullHandler())  # a fault is reported once, as an error
    hosts = database_hosts(settings)
    databases = [
        Database(
            database_url(settings),
            hosts=group,
            ssl_ca=settings.registry_db_ssl_ca,
            pool_size=1,
            max_overflow=0,
            timeouts=DatabaseTimeouts(
                connect=_CONNECT_SECS, io=_ANSWER_SECS, lock=_CONNECT_SECS, pool=_CONNECT_SECS, retries=_ANSWER_SECS
            ),
        )
        for group in ([(host,) for host in hosts] if one_by_one and hosts else [hosts])
    ]
    try:
        yield databases
    finally:
        for database in databases:
            database.dispose()


def grace_secs(settings: ControllerSettings) -> float:
    """How long to serve after SIGTERM. Clients of a registry in memory or in SQLite have no other controller to use."""
    if settings.shutdown_grace_secs is not None:
        return settings.shutdown_grace_secs
    is_shared = settings.registry_type == "database" and not DATABASE_TYPES[settings.registry_db_type].is_file
    return DATABASE_GRACE_SECS if is_shared else 0.0


def create_tracer(settings: ControllerSettings) -> Tracer | None:
    """The tracer that the settings name, not opened yet; None without one. Raises UsageError for a wrong setting."""
    if not (settings.tracer_file or settings.tracer_storage_cls or settings.tracer_to_open_telemetry):
        return None
    from random import Random

    from dbgpt_ctl.tracing import Tracer
    from dbgpt_ctl.tracing.sinks.custom import ClassSink, load_sink
    from dbgpt_ctl.tracing.sinks.file import FileSink
    from dbgpt_ctl.tracing.sinks.otlp import OtlpOptions, OtlpSink
    from dbgpt_ctl.tracing.writer import SpanWriter

    clock = SystemClock()
    sinks: list[BatchSink] = []
    if settings.tracer_file:
        sinks.append(FileSink(settings.tracer_file, max_mb=settings.tracer_file_max_mb, clock=clock))
    if settings.tracer_storage_cls:
        sinks.append(ClassSink(load_sink(settings.tracer_storage_cls), settings.tracer_storage_cls))
    if settings.tracer_to_open_telemetry:
        names = [field.name for field in fields(OtlpOptions)]
        sinks.append(
            OtlpSink(OtlpOptions(**{name: getattr(settings, f"otel_exporter_otlp_traces_{name}") for name in names}))
        )
    writers = [SpanWriter(sink, monotonic=monotonic) for sink in sinks]
    return Tracer(
        writers,
        clock=clock,
        monotonic=monotonic,
        random=Random(),  # noqa: S311 - ids
        sample_ratio=settings.tracer_sample_ratio,
    )


def configure_log(level: str, log_file: str | None, log_format: str = "text") -> logging.Handler:
    """Sends every logger to `log_file` (rotated, folders made), or to standard error without one. Raises OSError."""
    handler: logging.Handler
    if log_file:
        path = Path(log_file).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = LogFile(path)
    else:
        handler = logging.StreamHandler()
    handler.setFormatter(create_formatter(log_format))
    handler.addFilter(LimitedWarnings())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger(access_log.LOGGER).setLevel(logging.INFO)  # a setting of its own turns its lines on
    # These log each start and each connection; only their warnings matter here.
    for chatty in ("uvicorn", "sqlalchemy", "httpx", "httpcore", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.getLevelName(level.upper()), logging.WARNING))
    return handler


def run(settings: ControllerSettings) -> None:
    """Serves until SIGTERM (returns) or SIGINT (raises KeyboardInterrupt). Raises CtlError when it cannot serve."""
    _tune_interpreter()
    try:
        handler = configure_log(settings.log_level, settings.log_file, settings.log_format)
    except OSError as error:
        raise UsageError(f"log file {settings.log_file} cannot be written: {error.strerror}") from None
    with contextlib.closing(handler):
        if settings.log_file or settings.stderr_is_json:  # otherwise `ctl serve` has printed them
            for warning in (*warnings_of(settings), *access_warnings(settings)):
                log.warning("%s", warning, extra={"event": "settings.warning"})
        _serve(settings, log_file=handler if isinstance(handler, LogFile) else None)


def _tune_interpreter() -> None:
    """Keep heartbeats fast while other threads read long lists. Both settings together reduced the p99 of heartbeats of
    100,000 instances from 562 to 375 ms (`make soak`).
    """
    gc.set_threshold(*_GC_THRESHOLDS)
    sys.setswitchinterval(_SWITCH_SECS)


def _serve(
    settings: ControllerSettings, registry: ModelRegistry | None = None, log_file: LogFile | None = None
) -> None:
    """Serves the registry, by default that of the settings, in an application of its own. Returns and raises as
    `run`.
    """
    from dbgpt_ctl.controller.app import create_app
    from dbgpt_ctl.controller.metrics.counters import Counters
    from dbgpt_ctl.controller.server import listening_socket, serve

    certificate = watched_certificate(settings)
    with contextlib.ExitStack() as stack:

        def listen(port: int, flag: str) -> socket.socket:
            return stack.enter_context(contextlib.closing(listening_socket(settings.host, port, flag)))

        sockets = [] if settings.no_http else [listen(settings.port, "--port")]
        tls = None
        if certificate is not None:
            from dbgpt_ctl.controller.http.tls import TlsListener

            tls = TlsListener(listen(settings.tls_port, "--tls-port"), certificate)
        counters = Counters()
        observed = registry or create_registry(settings, counters.storage)
        app = create_app(settings, observed, create_tracer(settings), counters)
        app.state.controller.log_file = log_file
        if certificate is not None and (audit := app.state.controller.audit_log) is not None:
            certificate.replaced = audit.certificate_replaced
        service_manager = ServiceManager(os.environ.get("NOTIFY_SOCKET"))
        serve(app, sockets, settings, grace_secs(settings), tls, service_manager=service_manager)


def watched_certificate(settings: ControllerSettings) -> WatchedCertificate | None:
    """The certificate that the settings name, loaded; None without TLS. Raises UsageError, also if the settings of the
    listeners do not fit together.
    """
    settings.check_listeners()
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    from dbgpt_ctl.controller.http.tls import WatchedCertificate

    return WatchedCertificate(settings.tls_cert, settings.tls_key, SystemClock())


def initialize_controller(
    app: FastAPI | None = None,
    *,
    registry: ModelRegistry | None = None,
    remote_controller_addr: str | None = None,
    settings: ControllerSettings | None = None,
) -> Controller | None:
    """Mounts the API in `app`, which must not have started yet, and returns its Controller; without `app`, runs a
    server of its own.

    The registry is `registry`, else that of the controller at `remote_controller_addr`, else what `settings` name (by
    default the embedded one). Arguments are named as in DB-GPT. The API's parameters and answers are documented by
    `app.openapi`: a foreign application that replaces it afterwards must call the previous one.
    """
    from dbgpt_ctl.controller.app import mount
    from dbgpt_ctl.controller.http import problems

    settings = settings or ControllerSettings()
    if remote_controller_addr:
        settings = replace(settings, remote_addr=remote_controller_addr)
    if app is None:
        _serve(settings, registry)
        return None
    app.add_exception_handler(CtlError, problems.answer)  # all other errors are the application's
    mount(app, settings, registry or create_registry(settings), create_tracer(settings))
    controller: Controller = app.state.controller
    return controller

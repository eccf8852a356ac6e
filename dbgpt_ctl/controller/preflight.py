"""`ctl serve --check`: whether a controller with these settings could start. It listens on nothing and changes nothing.

A class of the user's own for traces is not loaded: its code may do anything.
"""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.controller.auth.start import create_access
from dbgpt_ctl.controller.bootstrap import create_registry, create_tracer, open_databases
from dbgpt_ctl.databases import DATABASE_TYPES
from dbgpt_ctl.domain.fields import canonical_host
from dbgpt_ctl.errors import CtlError, RegistryUnusable, UsageError

if TYPE_CHECKING:
    from dbgpt_ctl.settings.schema import ControllerSettings


def check_start(settings: ControllerSettings) -> str:
    """What the controller would serve, in one line. Raises the error with which its start would end.

    With a database it also raises RegistryUnavailable where a controller would start and wait for the database.
    """
    if settings.log_file:
        _require_writable(Path(settings.log_file), f"log file {settings.log_file} cannot be written")
    if settings.audit_log_file:
        path = settings.audit_log_file
        _require_writable(Path(path), f"audit_log_file {path} cannot be written")
    if settings.tracer_file:
        from dbgpt_ctl.tracing.sinks.file import require_regular_file

        require_regular_file(settings.tracer_file)
        _require_writable(Path(settings.tracer_file), f"tracer_file {settings.tracer_file} cannot be written")
    create_tracer(replace(settings, tracer_file=None, tracer_storage_cls=None))
    _check_certificate(settings)
    urls, check = " and ".join(settings.urls(canonical_host(settings.host))), create_access(settings).in_force
    return f"all checks passed: {urls}, {check}, {_registry(settings)}"


def _check_certificate(settings: ControllerSettings) -> None:
    """Raises UsageError also for a certificate that no client accepts now; a start would only log that."""
    settings.check_listeners()
    if settings.tls_cert is None or settings.tls_key is None:
        return
    from dbgpt_ctl.controller.http.tls import load_certificate

    invalid = load_certificate(settings.tls_cert, settings.tls_key).invalid(SystemClock().now())
    if invalid is not None:
        raise UsageError(
            f"tls_cert {settings.tls_cert}: the certificate {invalid}, and no client accepts it: put a valid one there"
        )


def _registry(settings: ControllerSettings) -> str:
    if settings.remote_addr:
        create_registry(settings)  # it reads the token and the certificates, and calls nothing
        shown = next(effective.shown for effective in settings.effective() if effective.setting.name == "remote_addr")
        return f"registry of {shown}, which was not asked"
    if settings.registry_type == "database":
        return _database(settings)
    return "registry in memory only"


def _database(settings: ControllerSettings) -> str:
    from dbgpt_ctl.registry.database.check import require_usable_tables

    with open_databases(settings) as (database,):
        place, is_file = database.place, DATABASE_TYPES[settings.registry_db_type].is_file
        if is_file:
            _require_writable(Path(place), f"database {place} cannot be written", RegistryUnusable)
        version = database.read(partial(require_usable_tables, place)) if database.exists() else 0
        if version:
            return f"registry in database {place}, tables of schema version {version}"
        # To find out whether the user may create tables, one has to create a table.
        right = "" if is_file else ", if its user may"
        return f"registry in database {place}, no tables yet: the start creates them{right}"


def _require_writable(path: Path, problem: str, error: type[CtlError] = UsageError) -> None:
    """Raises the error unless the file, or a new one there, can be written; a start makes the folders that it lacks."""
    try:
        if path.exists():
            reason = errno.EISDIR if path.is_dir() else 0 if os.access(path, os.R_OK | os.W_OK) else errno.EACCES
        else:
            folder = next(parent for parent in path.absolute().parents if parent.exists())
            reason = 0 if os.access(folder, os.W_OK | os.X_OK) else errno.EACCES
            reason = reason if folder.is_dir() else errno.ENOTDIR
    except OSError as failure:
        reason = failure.errno or errno.EIO
    if reason:
        raise error(f"{problem}: {os.strerror(reason)}")

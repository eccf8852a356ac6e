"""What is allowed in the settings of a controller, and likely a mistake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.databases import DATABASE_TYPES
from dbgpt_ctl.settings.addresses import clear_text_remarks
from dbgpt_ctl.settings.load import declared_settings
from dbgpt_ctl.settings.masking import mode_if_readable_by_others

if TYPE_CHECKING:
    from dbgpt_ctl.settings.schema import ControllerSettings

SERVICE_INTERVAL_SECS = 20
"""DB-GPT's fixed heartbeat interval of WorkerManager@service: a timeout must be longer than this."""
_OF_A_SERVER = frozenset(
    f"registry_db_{name}" for name in ("host", "port", "user", "password", "password_file", "ssl_ca")
)
"""The settings of a database that a file has no use for."""
_SECRET_FILES = {"registry_db_password": "--registry-db-password-file", "remote_addr": "--remote-token-file"}
"""The flags that take a secret from a file, by the setting that holds it otherwise."""


def warnings_of(settings: ControllerSettings) -> list[str]:
    """One line for each thing that is allowed and likely a mistake; never a secret."""
    lines = [*settings.remarks, *secret_warnings(settings)]
    shown = {effective.setting.name: effective.shown for effective in settings.effective()}
    timeout = f"heartbeat_timeout_secs {shown['heartbeat_timeout_secs']}"
    if settings.heartbeat_timeout_secs <= SERVICE_INTERVAL_SECS:
        lines.append(
            f"{timeout} is too short for DB-GPT: WorkerManager@service sends a heartbeat every "
            f"{SERVICE_INTERVAL_SECS} s"
        )
    if settings.heartbeat_timeout_secs < settings.heartbeat_interval_secs:
        lines.append(
            f"{timeout} is below heartbeat_interval_secs {shown['heartbeat_interval_secs']}: live workers expire"
        )
    idle, why = _idle_database_settings(settings)
    if idle:
        lines.append(f"{', '.join(idle)} without effect: {why}")
    if settings.tls_cert is None and "tls_port" in settings.origins:
        lines.append("tls_port without effect: tls_cert and tls_key are not set")
    if settings.no_http and "port" in settings.origins:
        lines.append("port without effect: no_http is set, and TLS has tls_port")
    idle = [name for name in settings.origins if name in {"remote_token_file", "remote_ca_file"}]
    if idle and not settings.remote_addr:
        lines.append(f"{', '.join(idle)} without effect: remote_addr is not set")
    idle = [name for name in settings.origins if name.startswith("otel_")]
    if idle and not settings.tracer_to_open_telemetry:
        lines.append(f"{', '.join(idle)} without effect: tracer_to_open_telemetry is off")
    return lines


def _idle_database_settings(settings: ControllerSettings) -> tuple[list[str], str]:
    """The names of the settings of a database that are set in vain, and the reason."""
    given = [name for name in settings.origins if name.startswith("registry_db_")]
    if settings.registry_type == "embedded":
        why = "remote_addr is set" if settings.remote_addr else "registry_type is embedded; add --registry database"
        return given, why
    if DATABASE_TYPES[settings.registry_db_type].is_file:
        return [name for name in given if name in _OF_A_SERVER], f"{settings.registry_db_type} is a file, not a server"
    return [], ""


def secret_warnings(settings: ControllerSettings) -> list[str]:
    """One line for each secret that others can read: in a flag, in a file, or on the network."""

    files = {"tls_key": settings.tls_key}
    password_file = settings.registry_db_password_file
    if settings.origins.get("registry_db_password") == f"file {password_file}":
        files["registry_db_password_file"] = password_file
    lines = [
        f"{name} {file}: others can read it (mode {mode:04o}): chmod 600 {file}"
        for name, file in files.items()
        if file is not None and (mode := mode_if_readable_by_others(file)) is not None
    ]
    token_for_all = settings.remote_token_file is not None
    lines += clear_text_remarks(each for each in settings.remote_addresses if each.credentials or token_for_all)
    for item in declared_settings(settings):
        text = getattr(settings, item.name)
        if text and item.kind.holds_secret(text) and settings.origins.get(item.name) == f"flag {item.flag}":
            file = _SECRET_FILES.get(item.name, "")
            lines.append(
                f"other users of this machine can read {item.flag} in the process list: use "
                f"{file and f'{file} or '}the variable {item.variable}"
            )
    return lines

"""How the tests load settings, and a value for each setting."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.settings.load import declared_settings
from dbgpt_ctl.settings.schema import ClientSettings, ControllerSettings

if TYPE_CHECKING:
    from dbgpt_ctl.settings.load import Settings

SECRET = "s3cr3t-of-the-test"

# A value for each setting that is not its default: the text and what it becomes. A new setting needs a line here.
GIVEN: dict[str, tuple[str, Any]] = {
    "host": (" [::1] ", "::1"),
    "port": (" 8123 ", 8123),
    "tls_cert": ("~/tls.crt", str(Path("~/tls.crt").expanduser())),
    "tls_key": ("~/tls.key", str(Path("~/tls.key").expanduser())),
    "tls_port": ("9443", 9443),
    "no_http": ("yes", True),
    "allowed_hosts": (" Ctl.example, *.PROD.example,[::1], 10.1.2.3/8 ", "ctl.example,*.prod.example,::1,10.0.0.0/8"),
    "trusted_proxies": (" 10.0.0.5,10.1.2.3/16, [::1],FE80::/10 ", "10.0.0.5,10.1.0.0/16,::1,fe80::/10"),
    "deny_loopback_hosts": ("on", True),
    "auth": ("LOG", "log"),
    "tokens_file": ("~/tokens.toml", str(Path("~/tokens.toml").expanduser())),
    "require_auth": ("yes", True),
    "registry_type": ("Embedded", "embedded"),
    "registry_db_type": ("SQLite", "sqlite"),
    "registry_db_name": (" /var/lib/ctl.db ", "/var/lib/ctl.db"),
    "registry_db_host": (" db1,db2:3307,[::1]:3308 ", "db1,db2:3307,[::1]:3308"),
    "registry_db_port": ("3307", 3307),
    "registry_db_user": ("ctl", "ctl"),
    "registry_db_password": (f" {SECRET} @:/%", f" {SECRET} @:/%"),
    "registry_db_password_file": ("~/password", str(Path("~/password").expanduser())),
    "registry_db_ssl_ca": ("~/ca.pem", str(Path("~/ca.pem").expanduser())),
    "registry_db_pool_size": ("1", 1),
    "registry_db_max_overflow": ("0", 0),
    "heartbeat_interval_secs": ("2.5", 2.5),
    "heartbeat_timeout_secs": ("61", 61.0),
    "remove_after_secs": ("0", 0.0),
    "shutdown_grace_secs": ("1.5", 1.5),
    "max_instances": ("5", 5),
    "max_connections": ("64", 64),
    "remote_token_file": ("~/remote.token", str(Path("~/remote.token").expanduser())),
    "remote_ca_file": ("~/remote-ca.pem", str(Path("~/remote-ca.pem").expanduser())),
    "remote_addr": ("http://a:1,https://b/prefix", "http://a:1,https://b/prefix"),
    "log_level": ("DEBUG", "debug"),
    "log_format": ("JSON", "json"),
    "access_log": ("on", True),
    "no_console": ("1", True),
    "audit_log_file": ("~/audit.jsonl", str(Path("~/audit.jsonl").expanduser())),
    "tracer_file": ("~/traces.jsonl", str(Path("~/traces.jsonl").expanduser())),
    "tracer_file_max_mb": ("7", 7),
    "tracer_storage_cls": ("package.module:Class", "package.module:Class"),
    "tracer_sample_ratio": ("0.25", 0.25),
    "tracer_to_open_telemetry": (" True ", True),
    "otel_exporter_otlp_traces_protocol": ("HTTP/protobuf", "http/protobuf"),
    "otel_exporter_otlp_traces_endpoint": ("http://collector:4317", "http://collector:4317"),
    "otel_exporter_otlp_traces_insecure": ("no", False),
    "otel_exporter_otlp_traces_certificate": ("~/ca.pem", str(Path("~/ca.pem").expanduser())),
    "otel_exporter_otlp_traces_headers": (f"authorization={SECRET}", f"authorization={SECRET}"),
    "otel_exporter_otlp_traces_timeout": ("2.5", 2.5),
    "otel_exporter_otlp_traces_compression": ("GZIP", "gzip"),
    "log_file": ("~/ctl.log", str(Path("~/ctl.log").expanduser())),
    "address": (f"http://user:{SECRET}@c:9", f"http://user:{SECRET}@c:9"),
    "request_timeout": ("0.5", 0.5),
    "ca_file": ("~/ca.pem", str(Path("~/ca.pem").expanduser())),
}
SETTINGS = [
    (settings, setting) for settings in (ControllerSettings, ClientSettings) for setting in declared_settings(settings)
]
each_setting = pytest.mark.parametrize(("settings", "setting"), SETTINGS, ids=[setting.name for _, setting in SETTINGS])


def load(
    settings: type[Settings] = ControllerSettings,
    flags: dict[str, object] | None = None,
    environ: dict[str, str] | None = None,
    env_file: str | None = "",
) -> Any:
    return settings.load(flags or {}, environ or {}, env_file)


def refused(settings: type[Settings] = ControllerSettings, **sources: Any) -> str:
    with pytest.raises(UsageError) as caught:
        load(settings, **sources)
    message = str(caught.value)
    assert "\n" not in message
    assert SECRET not in message
    return message


def controller(**flags: object) -> ControllerSettings:
    loaded = load(flags=flags)
    assert isinstance(loaded, ControllerSettings)
    return loaded


def came_from(loaded: Settings, name: str) -> str:
    return next(each.origin for each in loaded.effective() if each.setting.name == name)

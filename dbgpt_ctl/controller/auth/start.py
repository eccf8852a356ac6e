"""The check of requests as the settings want it, and what is worth a warning before a start.

No library of the server is imported here: `ctl serve --show-config` needs the warnings too.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

from dbgpt_ctl.auth.tokens import Mode
from dbgpt_ctl.controller.auth.access import Access

if TYPE_CHECKING:
    from dbgpt_ctl.settings.schema import ControllerSettings


def create_access(settings: ControllerSettings) -> Access:
    """The check of requests that the settings name. Raises UsageError for a tokens file that cannot be used."""
    return Access(
        Path(settings.tokens_file) if settings.tokens_file else None,
        Mode(settings.auth),
        timeout_secs=settings.heartbeat_timeout_secs,
        reachable=not settings.is_loopback,
        must_authenticate=settings.require_auth,
    )


def access_warnings(settings: ControllerSettings) -> list[str]:
    """One line for each thing that is allowed and likely a mistake. Raises UsageError as a start does."""
    access = create_access(settings)
    lines = []
    if access.is_open:
        lines.append(
            f"auth is off, and other machines can reach this controller (host {settings.host}): whoever does can "
            "register a worker and read prompts; --tokens-file FILE --auth log begins the check (docs/security.md)"
        )
    if access.mode is Mode.OFF and settings.tokens_file is not None:
        lines.append(
            f"tokens_file {settings.tokens_file} without effect: auth is off; ctl auth mode log begins the check"
        )
    file = access.in_force.file
    if access.mode is Mode.ENFORCE and not access.identities:
        lines.append(
            f"tokens_file {settings.tokens_file} holds no token, or only revoked ones: every request is refused"
        )
    mode = file.readable_by_others if file else None
    if mode is not None and mode & stat.S_IROTH:  # the group must be able to in Kubernetes, and it has no tokens
        path = settings.tokens_file
        lines.append(f"tokens_file {path}: everybody can read it (mode {mode:04o}): chmod 600 {path}")
    return lines

"""Outages of the registry as rows among changes of instances."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.cli.output.changes import UNAVAILABLE
from dbgpt_ctl.text.times import utc_text

if TYPE_CHECKING:
    from datetime import datetime

    from dbgpt_ctl.domain.registry_outage import Hold


def outage_row(hold: Hold, now: datetime) -> list[str]:
    """The cells of `changes.COLUMNS`."""
    are = "were" if hold.until <= now else "are"
    until = f"until {utc_text(hold.back_at)}; states {are} held until {utc_text(hold.until)}"
    return [utc_text(hold.gone_at), "registry", UNAVAILABLE, until]

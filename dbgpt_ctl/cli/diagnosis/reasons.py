"""Why one controller gave no answer: the error of a client, without what stands beside it anyway."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.client.calls import ADVICE

if TYPE_CHECKING:
    from dbgpt_ctl.errors import CtlError

_SILENT = "no controller answers: "
_KINDS = (_SILENT, "no controller can serve now: ", "the controller failed: ")
_ADVICES = (f"; {ADVICE}", "; try again in a few seconds", "; put user:token@ into its address")


def is_silence(error: CtlError) -> bool:
    """Whether nothing answered at all; else it is there, and refused or failed."""
    return str(error).startswith(_SILENT)


def reason_of(error: CtlError, url: str) -> str:
    """What the error says of the controller at `url`, without that URL, the kind of error, and what to do."""
    text = str(error)
    for said in (*_KINDS, f"{url}: ", f"{url} does not allow it: ", f"{url} refused: "):
        text = text.removeprefix(said)
    for said in _ADVICES:
        text = text.removesuffix(said)
    return text

"""`ctl console`: the console page of a controller, in the browser."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import choice
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.stdout import is_terminal, print_lines
from dbgpt_ctl.errors import CtlError, NotSupported
from dbgpt_ctl.text.escaping import escaped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbgpt_ctl.client.sync import ControllerClient

VIEWS = {"overview": "", "instances": "instances", "events": "events", "controller": "controller"}
"""The path of each view below the console."""
_WITH_DISPLAY = frozenset({"darwin", "win32", "cygwin"})
"""Systems on which a browser needs no variable to find the screen."""
View = Annotated[str, typer.Argument(help="What to show first.", **choice(VIEWS))]
PrintOnly = Annotated[bool, typer.Option("--print", help="Print the address, and open no browser.")]


@explained(
    "ctl console",
    "ctl console instances",
    "ctl console --print",
    exit_codes={
        0: "A controller serves a console. Its address is printed, also where no browser could be opened.",
        6: "The controller that answers serves no console.",
    },
)
@takes_session
def console(view: View = "overview", *, print_only: PrintOnly = False, session: Session) -> None:
    """Open the console page of a controller in the browser.

    Of several controllers it is the first that answers. The address is printed too. No token is in it: sign in on the
    page. Where the output goes to a file or a pipe, or where there is no screen, no browser is opened.
    """
    with session.client() as client:
        try:
            url = client.console()
        except NotSupported as refusal:
            raise _explained(session, refusal) from None
    url += VIEWS[view]
    print_lines([url])
    if not print_only and is_terminal() and not (has_screen(os.environ, sys.platform) and _opened(url)):
        session.say("no browser can be opened from here: open this address in yours")


def has_screen(environ: Mapping[str, str], platform: str) -> bool:
    """Whether a browser could show something, or the user names one that can. A browser for terminals is not meant."""
    return platform in _WITH_DISPLAY or any(environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"))


def _opened(url: str) -> bool:
    import webbrowser  # it looks for programs when it is imported

    return webbrowser.open(url)


def _explained(session: Session, refusal: NotSupported) -> CtlError:
    """The same refusal with the reason and what to do, as far as the controller says."""
    url = refusal.controller
    if url is None:
        return refusal
    with session.client(url) as client:
        try:
            detail, advice = _reason(client)
        except CtlError:  # it may want a token for that, or be gone
            return refusal
    return NotSupported(detail, controller=url, problem_code=refusal.problem_code).advised(advice)


def _reason(client: ControllerClient) -> tuple[str, str]:
    """Why a controller serves no console, and what to do. Raises CtlError."""
    try:
        setting = client.settings().get("no_console")
    except NotSupported:
        return _reason_of_older(client)
    if setting is not None and setting.value is True:
        return f"it serves no console: no_console is set ({escaped(setting.origin)})", "restart it without that setting"
    return "it serves no console, because it runs inside another application", "`ctl status` shows the same facts"


def _reason_of_older(client: ControllerClient) -> tuple[str, str]:
    try:
        version = client.status().controller.version
    except NotSupported:
        what = "it has no console, because it is DB-GPT's own controller or an older ctl"
        return what, "`ctl serve` in its place has one (docs/moving-from-dbgpt.md)"
    return f"its version {escaped(version)} has no console", "upgrade it (docs/upgrading.md)"

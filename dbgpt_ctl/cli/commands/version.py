"""`ctl version`."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Annotated

from dbgpt_ctl import __version__
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import output_option
from dbgpt_ctl.cli.output.stdout import OutputFormat, print_json, print_lines

if TYPE_CHECKING:
    from dbgpt_ctl.cli.documents.reports import VersionDocument

IS_ABOUT_CTL = True
"""For `framework.lazy`."""
Output = Annotated[OutputFormat, output_option("text", "json", help="Format of the versions.")]


@explained("ctl version", "ctl version -o json")
def version(*, output: Output = OutputFormat.TEXT) -> None:
    """Show the version of ctl.

    JSON has the version of Python too. `ctl status` shows the versions of the controllers.
    """
    if output is OutputFormat.JSON:
        document: VersionDocument = {"version": 1, "ctl": __version__, "python": platform.python_version()}
        print_json(document)
    else:
        print_lines([f"ctl {__version__}"])

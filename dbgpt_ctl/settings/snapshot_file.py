"""The variable of release 0.1, in which a registry in memory kept its content in a file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.settings.masking import quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dbgpt_ctl.settings.load import Found

SNAPSHOT_VARIABLE = "CONTROLLER_SNAPSHOT_FILE"


def snapshot_remarks(variables: Mapping[str, Found]) -> Iterator[str]:
    """A line if the variable of a snapshot file is set. Raises UsageError if the file exists: a start without it would
    lose what it holds.
    """
    found = variables.get(SNAPSHOT_VARIABLE)
    if found is None:
        return
    if os.path.isfile(os.path.expanduser(found.text)):  # noqa: PTH111, PTH113 - those of Path raise errors
        raise UsageError(
            f"{found.origin} names {quote(found.text)}, and this release has no snapshot file: start ctl 0.1 with it "
            "and run `ctl export > instances.yaml`; then unset the variable, start this release with --registry "
            "database --registry-db-type sqlite --registry-db-name FILE, and run `ctl apply -f instances.yaml`"
        )
    yield f"{found.origin} is ignored: this release has no snapshot file; unset the variable"

"""What on this machine may be in the way: proxy variables, files that others can read."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

from dbgpt_ctl.cli.diagnosis.facts import OpenFile, Proxied
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.settings.load import DEFAULT_ENV_FILE, find_variables, knobs_of
from dbgpt_ctl.settings.masking import OTHERS_READ, mask_url
from dbgpt_ctl.settings.schema import ClientSettings, ControllerSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from dbgpt_ctl.addresses import Address


def proxied(addresses: Iterable[Address], environ: Mapping[str, str]) -> Iterator[Proxied]:
    """The controllers that a client which obeys http_proxy and its like would ask through a proxy."""
    variables = {
        name.lower(): (name, text) for name, text in environ.items() if name.lower().endswith("_proxy") and text
    }
    variables |= {name: (name, environ[name]) for name in variables if environ.get(name)}  # lower case wins
    if not variables.keys() - {"no_proxy"}:
        return
    from urllib.parse import urlsplit
    from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

    excepted = {"no": variables.get("no_proxy", ("", ""))[1]}
    for each in addresses:
        parts = urlsplit(each.url)
        found = variables.get(f"{parts.scheme}_proxy") or variables.get("all_proxy")
        host = parts.hostname or ""
        if found and not proxy_bypass_environment(host, excepted):
            yield Proxied(each.url, host, found[0], ascii(mask_url(found[1]))[1:-1])


def open_files(env_file: str | None) -> Iterator[OpenFile]:
    """The .env file that is read, if it holds a secret and others than its owner may read it."""
    if env_file == "":
        return
    path = Path(env_file or DEFAULT_ENV_FILE).expanduser()
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) and mode & OTHERS_READ and _holds_secret(env_file):
            yield OpenFile(str(path), stat.S_IMODE(mode))
    except (OSError, UsageError):
        return


def _holds_secret(env_file: str | None) -> bool:
    variables = find_variables({}, env_file)
    knobs = {each.variable: each for each in (*knobs_of(ControllerSettings), *knobs_of(ClientSettings))}
    return any(name in knobs and knobs[name].kind.holds_secret(found.text) for name, found in variables.items())

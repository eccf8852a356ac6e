"""The tokens of the file and the mode that are in force now: read at the start, and again when the file changes.

And when each token was last used.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from dbgpt_ctl.auth.tokens import Mode
from dbgpt_ctl.auth.tokens_file import parse_tokens_file, read_checked
from dbgpt_ctl.background import background_task
from dbgpt_ctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from datetime import datetime
    from pathlib import Path

    from dbgpt_ctl.auth.tokens_file import TokensFile
    from dbgpt_ctl.controller.http.callers import ValidToken


log = logging.getLogger(__name__)

LOOK_SECS = 1.0
"""How often the file is looked at."""
SETTLE_SECS, SETTLE_LOOKS = 0.1, 10
"""A file that has changed is read when it stays the same for so long, or after so many looks: an editor, or `cp`, may
write it in parts.
"""
_STRICTNESS = tuple(Mode)
"""From off to enforce."""
REMIND_SECS = 60.0
"""How often a problem is logged while it lasts."""


class InForce(NamedTuple):
    """`file` is None without a tokens file. `in_file`: whether the file says the mode, which then goes before the
    setting.
    """

    mode: Mode
    file: TokensFile | None
    in_file: bool

    def __str__(self) -> str:
        """For people: `auth enforce with 3 tokens (digest 2374125932ce)`."""
        if self.file is None:
            return f"auth {self.mode}"
        count = len(self.file.tokens)
        return f"auth {self.mode} with {count} {'token' if count == 1 else 'tokens'} (digest {self.file.digest})"


class TokensInForce:
    """Reads the tokens file, and calls `changed` with what is in force, also at first.

    A file that cannot be used later changes nothing: what was read last stays in force, and `problem` says what is
    wrong, until the file can be used again. A file that is empty, or has lost its mode and would be less strict without
    it, cannot be used later either: a full disk, or a copy that broke off, must not open a controller.

    Symbolic links are followed at each look, because Kubernetes exchanges the link when a Secret changes.

    `must_authenticate`: a file that turns the check off cannot be used (`--require-auth`).

    A file that says no mode any more, such as one that was emptied by mistake, does not turn the check off either. Only
    `mode = "off"` does.
    """

    def __init__(
        self, path: Path | None, setting: Mode, changed: Callable[[InForce], None], *, must_authenticate: bool = False
    ) -> None:
        self._path = path
        self._setting = setting
        self._changed = changed
        self._must_authenticate = must_authenticate
        self._signature: tuple[int, ...] | None = None
        self._wrong: tuple[bytes, UsageError] | None = None
        """The content that was read last and its mistake, if it has one. The file is read each second then, and a large
        one takes most of that second to be parsed.
        """
        self._in_force: InForce | None = None
        self.problem: str | None = None

    def read_first(self) -> None:
        """Raises UsageError: the file cannot be used. That is also an error while the setting is off, because the file
        might say enforce.
        """
        self._signature = self._look()
        self._use(self._read())

    def _use(self, found: InForce) -> None:
        self._in_force = found
        self._changed(found)

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Looks at the file each LOOK_SECS."""
        if self._path is None:
            yield
            return
        async with background_task(self._follow(), "tokens file"):
            yield

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        logged_at = loop.time()
        while True:
            await asyncio.sleep(LOOK_SECS)
            before = self.problem
            try:
                await self.look()
            except Exception:
                log.exception("the tokens file could not be looked at; what was read last stays in force")
                continue
            if self.problem != before or (self.problem and loop.time() - logged_at >= REMIND_SECS):
                logged_at = loop.time()
                self._log()

    async def look(self) -> None:
        """Reads the file if it is another one than before, or has changed. The event loop does not wait for a disk."""
        signature = await self._settled()
        if signature == self._signature and signature is not None and self.problem is None:
            return  # a problem may go without a change of the file: its folder, or too many open files
        try:
            found = await asyncio.to_thread(self._read)
        except UsageError as error:
            self.problem = str(error)
        else:
            if self.problem is None or signature != self._signature:
                log.info("%s", found, extra={"event": "tokens.in_force"})
            self.problem = None
            self._use(found)
        self._signature = signature

    async def _settled(self) -> tuple[int, ...] | None:
        signature = await asyncio.to_thread(self._look)
        for _ in range(SETTLE_LOOKS):
            if signature == self._signature:
                break
            await asyncio.sleep(SETTLE_SECS)
            before, signature = signature, await asyncio.to_thread(self._look)
            if signature == before:
                break
        return signature

    def _look(self) -> tuple[int, ...] | None:
        """What changes when the file does; None if it is not there."""
        if self._path is None:
            return None
        try:
            status = self._path.stat()
        except OSError:
            return None
        return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def _read(self) -> InForce:
        file = None if self._path is None else self._read_file(self._path)
        of_file = None if file is None else file.mode
        mode = self._setting if of_file is None else of_file
        if mode is Mode.OFF and self._must_authenticate:
            raise UsageError(
                "authentication is off, and --require-auth does not allow that: set --auth enforce (CONTROLLER_AUTH), "
                "or type `ctl auth mode enforce` if the tokens file says off"
            )
        before = self._in_force.mode if self._in_force is not None and self._in_force.in_file else None
        if of_file is None and before is not None and _STRICTNESS.index(mode) < _STRICTNESS.index(before):
            raise UsageError(
                f'tokens file {self._path}: it says no mode any more: write mode = "{before}" as before, '
                f"and see whether its tokens are still there; only `ctl auth mode` makes the check less strict"
            )
        return InForce(mode, file, of_file is not None)

    def _read_file(self, path: Path) -> TokensFile:
        data, mode = read_checked(path)
        if self._in_force is not None and not data.strip():
            raise UsageError(f"tokens file {path}: is empty")
        if self._wrong is not None and self._wrong[0] == data:
            raise self._wrong[1]
        try:
            file = parse_tokens_file(data, path, mode)
        except UsageError as error:
            self._wrong = data, error
            raise
        self._wrong = None
        return file

    def _log(self) -> None:
        if self.problem is None:
            log.warning("tokens file %s can be used again", self._path, extra={"event": "tokens.usable"})
        else:
            log.error(
                "the tokens that were read last stay in force: %s", self.problem, extra={"event": "tokens.unusable"}
            )


class LastUse:
    """A request only adds one to a number, `Identity.uses`, which costs next to nothing. A tick makes a time of it."""

    def __init__(self) -> None:
        self._times: dict[str, datetime] = {}

    def tick(self, identities: Mapping[str, ValidToken], now: datetime) -> None:
        """Those that were used since the last tick were used now. It is called about once a second, and before other
        identities replace these.
        """
        for sha256, identity in identities.items():
            if identity.uses:
                identity.uses = 0
                self._times[sha256] = now

    def of(self, sha256: str) -> datetime | None:
        """To within a tick; None if the token was not used since the controller's start."""
        return self._times.get(sha256)

"""`ctl token`: the tokens in a local file. No controller is asked. This module holds what its verbs share.

Its verbs import `dbgpt_ctl.auth` inside functions: what edits TOML is slow to import.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from dbgpt_ctl.cli.completion import candidates
from dbgpt_ctl.cli.framework.options import argument, option_of, output_option
from dbgpt_ctl.cli.output.stdout import OutputFormat, print_document, print_lines
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.settings.load import Settings, declared_settings
from dbgpt_ctl.settings.schema import ControllerSettings
from dbgpt_ctl.text.times import parse_duration

if TYPE_CHECKING:
    from datetime import datetime

    from dbgpt_ctl.auth.editing import Edit
    from dbgpt_ctl.auth.tokens import Token
    from dbgpt_ctl.cli.documents.reports import NewToken
    from dbgpt_ctl.cli.framework.session import Session
    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.settings.addresses import Address

LONGEST_DAYS = 3660
EXPIRES_SOON_DAYS = 30
_LOOPBACK = ("http://127.", "http://localhost", "http://[::1]")


@dataclass(frozen=True, repr=False)
class TokensFileSettings(Settings):
    """The one setting of a controller that these commands share with it."""

    reads_folder: ClassVar[bool] = True

    tokens_file: str | None = field(
        default=None,
        metadata=next(declared.metadata for declared in fields(ControllerSettings) if declared.name == "tokens_file"),
    )


_SETTING = declared_settings(TokensFileSettings)[0]
TokensPath = Annotated[str | None, option_of(_SETTING, help="File with the tokens, as hashes; it is edited here")]
TokenName = Annotated[str, argument("NAME", candidates.tokens, "The token.")]
SecretOutput = Annotated[
    OutputFormat, output_option("text", "json", "yaml", help="Format of the token; text is the token alone.")
]


def path_of(tokens_file: str | None, env_file: str | None) -> Path:
    """The path of the tokens file, by the flag or the variable. Raises UsageError if neither names one."""
    settings = TokensFileSettings.load({"tokens_file": tokens_file}, os.environ, env_file)
    if settings.tokens_file is None:
        raise UsageError(f"no tokens file is named: give {_SETTING.flag} FILE or set {_SETTING.variable}")
    try:
        return Path(settings.tokens_file).expanduser()
    except RuntimeError:
        raise UsageError(f"{settings.tokens_file}: the home directory that ~ stands for is not known") from None


def expiry(duration: str | None, clock: Clock) -> datetime | None:
    """The time at which a token expires that is valid that long, in whole seconds. Raises UsageError."""
    if duration is None:
        return None
    from datetime import timedelta

    seconds = parse_duration("--expires", duration, shortest_secs=1, longest_days=LONGEST_DAYS)
    return (clock.now() + timedelta(seconds=seconds, microseconds=999_999)).replace(microsecond=0)


def patterns(texts: list[str] | None) -> tuple[str, ...]:
    """The values of a flag that may be repeated or have commas."""
    return tuple(pattern.strip() for text in texts or () for pattern in text.split(","))


def print_secret(session: Session, name: str, edit: Edit, secret: str, *, path: Path, output: OutputFormat) -> None:
    """Prints the new secret of a token on stdout, once, and on stderr where to write it.

    Where stdout takes no output, the secret would be lost and stay valid: then the edit is taken back.
    """
    from dbgpt_ctl.auth.editing import withdraw_token

    addresses, token = session.settings.addresses, edit.after.tokens[name]
    try:
        if output is not OutputFormat.TEXT:
            print_document(_secret_object(token, secret, path, addresses), output)
            return
        print_lines([secret])
    except BaseException:
        withdraw_token(path, name, edit)
        session.print_message(f"the new token could not be printed, so it is revoked again in {path}; run this again")
        raise
    session.say("the token is shown this one time, because the file holds only its hash; TOKEN below stands for it")
    for line in _places(token, addresses):
        session.say(line)


def _secret_object(token: Token, secret: str, path: Path, addresses: tuple[Address, ...]) -> NewToken:
    takes_address = token.role in ("worker", "reader")
    return {
        "version": 1,
        "name": token.name,
        "role": token.role,
        "token": secret,
        "expires": expires_text(token),
        "controller_addr": _controller_addr(token.name, secret, addresses) if takes_address else None,
        "tokens_file": str(path),
    }


def _places(token: Token, addresses: tuple[Address, ...]) -> list[str]:
    """Where the token is written for its role: one line each."""
    if token.role == "metrics":
        return [f"for Prometheus: basic_auth with username {token.name} and password TOKEN, or a bearer token"]
    for_ctl = f"for ctl: CTL_TOKEN={token.name}:TOKEN"
    if token.role == "operator":
        return [for_ctl]
    program = "worker" if token.role == "worker" else "API server"
    address = _controller_addr(token.name, "TOKEN", addresses)
    lines = [f'in the TOML file of the {program}: controller_addr = "{address}"']
    if any(known.url.startswith(_LOOPBACK) for known in addresses):
        lines.append(f"if the {program} is on another machine, write the address by which it reaches the controller")
    lines.append('to keep it out of that file: controller_addr = "${env:VARIABLE}", and the address in that variable')
    return [*lines, for_ctl]


def _controller_addr(name: str, secret: str, addresses: tuple[Address, ...]) -> str:
    """The value of DB-GPT's setting: the addresses in use, with this token and no other."""
    from dataclasses import replace

    return ",".join(replace(address, credentials=(name, secret)).url_with_credentials for address in addresses)


def expires_text(token: Token) -> str | None:
    """The time at which it expires, as in 2027-01-31T00:00:00Z."""
    return None if token.expires is None else utc_text(token.expires)


def utc_text(time: datetime) -> str:
    """An aware time, to the second."""
    from datetime import UTC

    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"

"""How a command gets the address and the token of its controller. `ctl context` itself is tested with the CLI."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.settings.contexts import (
    Context,
    Contexts,
    check_name,
    config_path,
    load_connection,
    read_contexts,
    write_contexts,
)

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT = "http://127.0.0.1:8000"
FLAG, CONTEXT, CURRENT, VARIABLE = (f"http://{name}:1" for name in ("flag", "context", "current", "variable"))


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The environment of a user with two contexts, the second of which is the current one."""
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    contexts = Contexts(config_path(environ), current="current")
    for name, address in (("named", CONTEXT), ("current", CURRENT)):
        contexts = contexts.with_context(Context(name, address))
    write_contexts(contexts)
    return environ


@pytest.mark.parametrize(
    ("flag", "named", "variable", "address", "origin"),
    [
        (FLAG, "named", VARIABLE, FLAG, "flag --address"),
        (None, "named", VARIABLE, CONTEXT, "context named"),
        (None, None, VARIABLE, VARIABLE, "environment CONTROLLER_ADDRESS"),
        (None, None, None, CURRENT, "context current"),
        (None, "", None, DEFAULT, None),
        (None, "", VARIABLE, VARIABLE, "environment CONTROLLER_ADDRESS"),
    ],
)
def test_the_order_of_the_sources_of_an_address(
    environ: dict[str, str],
    flag: str | None,
    named: str | None,
    *,
    variable: str | None,
    address: str,
    origin: str | None,
) -> None:
    if variable is not None:
        environ["CONTROLLER_ADDRESS"] = variable
    settings = load_connection({"address": flag}, environ, "", named)
    assert (settings.address, settings.origins.get("address")) == (address, origin)


def test_a_context_may_be_named_by_a_variable_with_a_remark_on_an_unused_address(environ: dict[str, str]) -> None:
    environ |= {"CTL_CONTEXT": "named", "CONTROLLER_ADDRESS": VARIABLE}
    settings = load_connection({}, environ, "")
    assert (settings.address, settings.context, settings.context_origin) == (
        CONTEXT,
        "named",
        "environment CTL_CONTEXT",
    )
    assert settings.remarks == ("CONTROLLER_ADDRESS is set and not used: CTL_CONTEXT=named goes before it",)


def test_a_token_file_counts_for_the_addresses_of_its_context_only(environ: dict[str, str], tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("me:secret\n")
    token_file.chmod(0o600)
    path = config_path(environ)
    write_contexts(read_contexts(path).with_context(Context("named", CONTEXT, token_file=str(token_file))))
    settings = load_connection({}, environ, "", "named")
    assert [address.credentials for address in settings.addresses] == [("me", "secret")]
    assert settings.token_origin == f"{token_file} (context named)"
    assert "secret" not in repr(settings)
    other = load_connection({"address": FLAG}, environ, "", "named")
    assert [address.credentials for address in other.addresses] == [None]


def test_the_token_of_the_environment_goes_into_every_address_without_one(environ: dict[str, str]) -> None:
    environ["CTL_TOKEN"] = "secret"
    settings = load_connection({"address": "http://a:1,http://you:own@b:2"}, environ, "")
    assert [address.credentials for address in settings.addresses] == [("ctl", "secret"), ("you", "own")]
    assert settings.token_origin == "environment CTL_TOKEN"


@pytest.mark.parametrize("mode", [0o644, 0o620])
def test_a_file_with_a_token_that_others_can_read_is_remarked_on(environ: dict[str, str], mode: int) -> None:
    path = config_path(environ)
    write_contexts(read_contexts(path).with_context(Context("x", "http://u:secret@h:1")))
    path.chmod(mode)
    (remark,) = load_connection({}, environ, "").remarks
    assert remark == f"{path} holds a token, and others can read it: chmod 600 {path}"


def test_contexts_survive_a_write_and_a_read(environ: dict[str, str]) -> None:
    path = config_path(environ)
    written = read_contexts(path).with_context(Context("a.b", 'http://"h\\\x7f', "2.5", "~/t")).without("current")
    write_contexts(written)
    found = read_contexts(path)
    assert found.current is None
    assert set(found.by_name) == {"named", "a.b"}
    context = found.by_name["a.b"]
    assert (context.address, context.request_timeout, context.token_file) == ('http://"h\\\x7f', "2.5", "~/t")
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["", "-x", "a b", "ä", "x" * 65])
def test_a_name_that_no_context_may_have(name: str) -> None:
    with pytest.raises(UsageError, match="is not a name for a context"):
        check_name(name)


def test_a_named_pipe_or_an_endless_file_is_refused(tmp_path: Path) -> None:
    """Nobody writes to the pipe: opening it would wait for ever."""
    path = tmp_path / "config.toml"
    os.mkfifo(path)
    with pytest.raises(UsageError, match="cannot be read: it is a named pipe, not a regular file"):
        read_contexts(path)
    path.unlink()
    path.write_bytes(b"#" * 2**21)
    with pytest.raises(UsageError, match="cannot be read: it is larger than 1 MiB"):
        read_contexts(path)

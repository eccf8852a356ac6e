"""How a command gets the address and the token of its controller. `ctl context` itself is tested with the CLI."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.settings.contexts import (
    Context,
    Contexts,
    check_name,
    config_path,
    load_connection,
    read_contexts,
    unread_address,
    write_contexts,
)

DEFAULT = "http://127.0.0.1:8000"
FLAG, CONTEXT, CURRENT, VARIABLE = (f"http://{name}:1" for name in ("flag", "context", "current", "variable"))

OWN, FIRST = ("me", "s3cr3t-of-the-context"), ("ctl", "secret")
"""User and token in the file of a context, and in CTL_TOKEN."""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The environment of a user with two contexts, the second of which is the current one."""
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    contexts = Contexts(config_path(environ), current="current")
    for name, address in (("named", CONTEXT), ("current", CURRENT)):
        contexts = contexts.with_context(Context(name, address))
    write_contexts(contexts)
    return environ


def with_token_of_context(environ: dict[str, str], tmp_path: Path) -> str:
    """The path of the token file that the context `named` has now."""
    token_file = tmp_path / "token"
    token_file.write_text(":".join(OWN))
    token_file.chmod(0o600)
    path = config_path(environ)
    write_contexts(read_contexts(path).with_context(Context("named", CONTEXT, token_file=str(token_file))))
    return str(token_file)


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
    token_file = with_token_of_context(environ, tmp_path)
    settings = load_connection({}, environ, "", "named")
    assert [address.credentials for address in settings.addresses] == [OWN]
    assert settings.token_origin == f"{token_file} (context named)"
    assert OWN[1] not in repr(settings)
    other = load_connection({"address": FLAG}, environ, "", "named")
    assert [address.credentials for address in other.addresses] == [None]


def test_the_token_of_the_environment_goes_into_every_address_without_one(environ: dict[str, str]) -> None:
    environ["CTL_TOKEN"] = "secret"
    settings = load_connection({"address": "http://a:1,http://you:own@b:2"}, environ, "")
    assert [address.credentials for address in settings.addresses] == [("ctl", "secret"), ("you", "own")]
    assert settings.token_origin == "environment CTL_TOKEN"


NOT_SENT = "CTL_TOKEN is not sent to {}: it belongs to {ours}, which is set too; to send it, unset {ours}"


@pytest.mark.parametrize(
    ("flag", "named", "variable", "credentials", "unsent"),
    [
        (None, None, VARIABLE, [FIRST], None),
        (VARIABLE, None, VARIABLE, [FIRST], None),
        (f"{VARIABLE}/", None, f"{FLAG},{VARIABLE}", [FIRST], None),
        (FLAG, None, VARIABLE, [None], FLAG),
        (f"{VARIABLE},{FLAG}", None, VARIABLE, [FIRST, None], FLAG),
        (f"{FLAG},{CURRENT}", None, VARIABLE, [None, None], f"{FLAG}, {CURRENT}"),
        ("http://variable:2", None, VARIABLE, [None], "http://variable:2"),
        ("https://variable:1", None, VARIABLE, [None], "https://variable:1"),
        ("http://you:yours@flag:1", None, VARIABLE, [("you", "yours")], None),
        (FLAG, None, "not a URL", [None], FLAG),
        (FLAG, None, None, [FIRST], None),
        (None, None, None, [FIRST], None),
        (None, "named", None, [FIRST], None),
        (None, "named", VARIABLE, [OWN], None),
        (None, "named", CONTEXT, [FIRST], None),
        (FLAG, "named", VARIABLE, [None], FLAG),
        (None, "current", VARIABLE, [None], CURRENT),
    ],
)
def test_to_which_addresses_the_token_of_the_environment_goes(  # noqa: PLR0917 - a column of the table each
    environ: dict[str, str],
    tmp_path: Path,
    flag: str | None,
    named: str | None,
    variable: str | None,
    credentials: list[tuple[str, str] | None],
    unsent: str | None,
) -> None:
    with_token_of_context(environ, tmp_path)
    environ["CTL_TOKEN"] = "secret"
    if variable is not None:
        environ["controller_address"] = variable
    settings = load_connection({"address": flag}, environ, "", named)
    assert [address.credentials for address in settings.addresses] == credentials
    lines = [NOT_SENT.format(unsent, ours="CONTROLLER_ADDRESS")] if unsent else []
    assert [line for line in settings.remarks if "CTL_TOKEN is not" in line] == lines


OURS, THEIRS, FLAGGED = "/ours.pem", "/variable.pem", "/flag.pem"


@pytest.mark.parametrize(
    ("address", "named", "variable", "flag", "ca_file"),
    [
        (None, "named", None, None, OURS),
        (None, "named", THEIRS, None, OURS),
        (None, "named", THEIRS, FLAGGED, FLAGGED),
        (None, None, None, None, OURS),
        (None, None, THEIRS, None, THEIRS),
        (None, None, THEIRS, FLAGGED, FLAGGED),
        (FLAG, "named", None, None, None),
        (FLAG, "named", THEIRS, None, THEIRS),
        (FLAG, None, None, None, None),
        (None, "", None, None, None),
    ],
)
def test_the_ca_file_of_a_context_counts_for_its_addresses_only(  # noqa: PLR0917 - a column of the table each
    environ: dict[str, str],
    address: str | None,
    named: str | None,
    variable: str | None,
    flag: str | None,
    ca_file: str | None,
) -> None:
    path = config_path(environ)
    for name, its_address in (("named", CONTEXT), ("current", CURRENT)):
        write_contexts(read_contexts(path).with_context(Context(name, its_address, ca_file=OURS)))
    if variable is not None:
        environ["CONTROLLER_CA_FILE"] = variable
    settings = load_connection({"address": address, "ca_file": flag}, environ, "", named)
    assert settings.ca_file == ca_file
    origins = {
        OURS: f"context {named or 'current'}",
        THEIRS: "environment CONTROLLER_CA_FILE",
        FLAGGED: "flag --ca-file",
        None: None,
    }
    assert settings.origins.get("ca_file") == origins[ca_file]


def test_the_home_in_the_ca_file_of_a_context(environ: dict[str, str]) -> None:
    path = config_path(environ)
    write_contexts(read_contexts(path).with_context(Context("named", CONTEXT, ca_file="~/ca.pem")))
    assert load_connection({}, environ, "", "named").ca_file == str(Path("~/ca.pem").expanduser())


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("http://h:1", "http://h:1"),
        ("http://10.0.0.4", "http://10.0.0.4"),
        ("http://[2001:db8::1]:8000", "http://[2001:db8::1]:8000"),
        ("http://h:1,https://h:2,http://127.0.0.1:3,http://you:own@i:4", "http://h:1, http://i:4"),
        ("https://h", None),
        ("http://127.0.0.1:8000", None),
        ("http://127.1:8000", None),
        ("http://LOCALHOST.:8000", None),
        ("http://[::1]:8000", None),
        ("http://[::ffff:127.0.0.1]:8000", None),
    ],
)
def test_a_token_in_plain_text_to_another_machine_is_remarked_on(
    environ: dict[str, str], address: str, named: str | None
) -> None:
    assert load_connection({"address": address.replace("you:own@", "")}, environ, "").remarks == ()
    environ["CTL_TOKEN"] = "secret"
    remarks = load_connection({"address": address}, environ, "").remarks
    goes = "tokens go" if named and "," in named else "a token goes"
    line = f"{goes} to {named} in plain text, and who reads the traffic can use it: write https://"
    assert [remark for remark in remarks if "plain text" in remark] == ([] if named is None else [line])


def test_two_tokens_in_one_call_have_both_origins(environ: dict[str, str], tmp_path: Path) -> None:
    token_file = with_token_of_context(environ, tmp_path)
    path = config_path(environ)
    both = Context("named", f"{CONTEXT},{VARIABLE}", token_file=token_file)
    write_contexts(read_contexts(path).with_context(both))
    settings = load_connection({}, {**environ, "CTL_TOKEN": "secret", "CONTROLLER_ADDRESS": VARIABLE}, "", "named")
    assert [address.credentials for address in settings.addresses] == [OWN, FIRST]
    assert settings.token_origin == f"environment CTL_TOKEN, {token_file} (context named)"


UNREAD = "./.env holds CONTROLLER_ADDRESS, which is not read: --env-file .env reads it, --env-file '' hides this line"


@pytest.mark.parametrize(
    ("flag", "context", "variables", "env_file", "line"),
    [
        (None, None, {}, None, UNREAD),
        (None, "", {}, None, UNREAD),
        (None, None, {}, "", None),
        (FLAG, None, {}, None, None),
        (None, "named", {}, None, None),
        (None, None, {"CTL_CONTEXT": "current"}, None, None),
        (None, None, {"CONTROLLER_ADDRESS": VARIABLE}, None, None),
        (None, None, {}, "other.env", None),
    ],
)
def test_an_address_in_the_folder_is_not_read_and_named_where_it_would_have_counted(  # noqa: PLR0917 - as above
    environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flag: str | None,
    context: str | None,
    variables: dict[str, str],
    env_file: str | None,
    line: str | None,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("CONTROLLER_ADDRESS=http://stranger\nCONTROLLER_REQUEST_TIMEOUT=x\n")
    Path("other.env").write_text("CONTROLLER_REQUEST_TIMEOUT=3\n")
    settings = load_connection({"address": flag}, environ | variables, env_file, context)
    assert "stranger" not in settings.address
    assert unread_address(settings, env_file) == line


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

"""Contexts: the file of the user's own, who wins, and tokens that nobody sees."""

from __future__ import annotations

import json
import os
import stat
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.cli.completion import candidates
from dbgpt_ctl.cli.framework.session import Session
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.settings.contexts import config_path, load_connection, read_contexts
from dbgpt_ctl.settings.schema import ClientSettings
from tests.cli.schemas import validated
from tests.support.fake_controller import fake_controller

if TYPE_CHECKING:
    from tests.cli.conftest import Run

SECRET = "s3cr3t-of-the-test"
PROD, DEV = "http://prod-1:8000,http://prod-2:8000", "http://dev:8000"


@pytest.fixture
def file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where contexts are kept; the file does not exist yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg" / "dbgpt-ctl" / "config.toml"


def written(file: Path, text: str, mode: int = 0o600) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)


def shown(run: Run, *args: str) -> dict[str, Any]:
    told = json.loads(run("context", "show", *args, "-o", "json").out)
    validated("context-show", told)
    assert isinstance(told, dict)
    return told


def test_there_is_none_at_first(run: Run, file: Path) -> None:
    done = run("context", "list")
    assert done.out == ""
    assert done.err == f"ctl: no contexts in {file}; ctl context set NAME --address URL creates one\n"
    assert not file.exists()
    assert shown(run)["address"] == {"value": "http://127.0.0.1:8000", "from": "default"}


def test_set_use_list_show_delete(run: Run, file: Path) -> None:
    assert run("context", "set", "prod", "-a", PROD, "--request-timeout", "1500ms").out == "context prod created\n"
    assert run("context", "set", "dev.1", "-a", DEV).out == "context dev.1 created\n"
    assert run("context", "use", "prod").out == "prod is the current context\n"
    assert run("context", "list").lines == [
        "CURRENT  NAME   ADDRESS                                TOKEN FILE",
        "         dev.1  http://dev:8000                        -",
        "*        prod   http://prod-1:8000,http://prod-2:8000  -",
    ]
    assert run("context", "list", "-o", "name").lines == ["dev.1", "prod"]
    listed = json.loads(run("context", "list", "-o", "json").out)
    validated("context-list", listed)
    assert (listed["file"], listed["current"], len(listed["contexts"])) == (str(file), "prod", 2)
    told = shown(run)
    assert told["address"] == {"value": PROD, "from": "context prod"}
    assert told["request_timeout"] == {"value": 1.5, "from": "context prod"}
    assert run("context", "set", "prod", "--request-timeout", "").out == "context prod changed\n"
    assert shown(run)["request_timeout"] == {"value": 5, "from": "default"}
    done = run("context", "delete", "prod")
    assert (done.out, done.err) == ("context prod deleted\n", "ctl: it was the current context: there is none now\n")
    assert shown(run)["context"] == {"value": None, "from": None}
    assert run("context", "use", "dev.1").code == 0
    assert run("context", "use", "--none").out == "there is no current context\n"


def test_the_file_is_the_user_s_alone_and_replaced_as_a_whole(run: Run, file: Path) -> None:
    old_mask = os.umask(0)
    try:
        run("context", "set", "prod", "-a", PROD)
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in file.parent.iterdir()] == ["config.toml"]
    before = file.stat().st_ino
    run("context", "set", "dev", "-a", DEV)
    assert file.stat().st_ino != before
    assert set(read_contexts(file).by_name) == {"prod", "dev"}


def test_a_symbolic_link_to_the_file_stays_one(run: Run, file: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.toml"
    written(real, "")
    file.parent.mkdir(parents=True)
    file.symlink_to(real)
    run("context", "set", "prod", "-a", PROD)
    assert file.is_symlink()
    assert "prod-1" in real.read_text()


def test_what_was_written_is_what_is_read(run: Run, file: Path, tmp_path: Path) -> None:
    odd = tmp_path / 'a "token" \\ file ü'
    odd.write_text(SECRET)
    odd.chmod(0o600)
    run("context", "set", "x", "-a", DEV, "--token-file", str(odd))
    assert read_contexts(file).by_name["x"].token_file == str(odd)


def test_comments_and_the_form_of_the_rest_are_kept(run: Run, file: Path) -> None:
    dev = f"[context.dev] # in the office\naddress = '{DEV}'\n"
    written(file, f"# mine\n{dev}\n# at work\n[context.prod]\naddress = '{PROD}'\n")
    assert run("context", "use", "dev").err == ""
    assert file.read_text() == f"# mine\ncurrent = \"dev\"\n\n{dev}\n# at work\n[context.prod]\naddress = '{PROD}'\n"
    run("context", "set", "new", "-a", DEV)
    run("context", "delete", "prod")
    assert file.read_text().startswith(f'# mine\ncurrent = "dev"\n\n{dev}')


def test_a_form_that_a_change_would_damage_is_left_alone(run: Run, file: Path) -> None:
    form = f"context = {{dev = {{address = '{DEV}'}}}}\n"
    written(file, form)
    assert "its form is unusual" in run("context", "set", "new", "-a", PROD, expect=2).err
    assert file.read_text() == form
    run("context", "set", "dev", "-a", PROD)
    assert PROD in file.read_text()


@pytest.mark.parametrize("text", ["current = " + "1" * 5000, "current = " + "[" * 5000])
def test_what_the_parser_of_toml_cannot_take_is_one_line(run: Run, file: Path, text: str) -> None:
    written(file, text)
    assert "not TOML: " in run("context", "list", expect=2).err


PRECEDENCE = [
    # flag, --context, environment, CTL_CONTEXT, --env-file, current -> value, from
    ("flag", "dev", "env", "dev", "file", "prod", "http://flag", "flag --address"),
    (None, "dev", "env", "prod", "file", "prod", DEV, "context dev"),
    (None, None, "env", "dev", "file", "prod", DEV, "context dev"),
    (None, None, "env", None, "file", "prod", "http://env", "environment CONTROLLER_ADDRESS"),
    (None, None, None, None, "file", "prod", "http://file", "CONTROLLER_ADDRESS in named.env"),
    (None, None, None, None, None, "prod", PROD, "context prod"),
    (None, "", "env", "dev", None, "prod", "http://env", "environment CONTROLLER_ADDRESS"),
    (None, "", None, "dev", None, "prod", "http://127.0.0.1:8000", "default"),
    (None, None, None, None, None, None, "http://127.0.0.1:8000", "default"),
]


@pytest.mark.parametrize(
    ("flag", "context", "env", "env_context", "named_file", "current", "value", "origin"), PRECEDENCE
)
def test_precedence(  # noqa: PLR0917 - a column of the table each
    run: Run,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    flag: str | None,
    context: str | None,
    env: str | None,
    env_context: str | None,
    named_file: str | None,
    current: str | None,
    value: str,
    origin: str,
) -> None:
    written(file, f'[context.prod]\naddress = "{PROD}"\n[context.dev]\naddress = "{DEV}"\n')
    if current:
        run("context", "use", current)
    if env:
        monkeypatch.setenv("CONTROLLER_ADDRESS", f"http://{env}")
    if env_context:
        monkeypatch.setenv("CTL_CONTEXT", env_context)
    Path(".env").write_text("CONTROLLER_ADDRESS=http://stranger\n")
    Path("named.env").write_text(f"CONTROLLER_ADDRESS=http://{named_file}\n")
    args = [*(["-a", f"http://{flag}"] if flag else []), *([] if context is None else ["--context", context])]
    args += ["--env-file", "named.env"] if named_file else []
    assert shown(run, *args)["address"] == {"value": value, "from": origin}


def test_a_variable_that_a_named_context_overrides_is_reported(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(file, f'[context.dev]\naddress = "{DEV}"\n')
    monkeypatch.setenv("CONTROLLER_ADDRESS", "http://env")
    monkeypatch.setenv("CTL_CONTEXT", "dev")
    warning = "ctl: warning: CONTROLLER_ADDRESS is set and not used: CTL_CONTEXT=dev goes before it\n"
    assert run("context", "show").err == warning
    assert run("context", "show", "-q").err == ""
    assert run("context", "show", "--context", "dev").err == ""


def test_a_command_calls_the_controller_of_its_context(run: Run, file: Path) -> None:
    with fake_controller() as one, fake_controller() as two:
        run("context", "set", "one", "-a", one.url)
        run("context", "set", "two", "-a", two.url)
        run("context", "use", "one")
        run("models", "list", "-o", "json")
        run("models", "list", "-o", "json", "--context", "two")
        assert (len(one.requests), len(two.requests)) == (1, 1)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("models", "list", "--context", "prdo"), "--context 'prdo': no such context in {file}; did you mean prod?"),
        (("context", "use", "zzz"), "context 'zzz': no such context in {file}; there are dev, prod"),
        (("context", "delete", "zzz"), "context 'zzz': no such context in {file}; there are dev, prod"),
        (("context", "use"), "give either the NAME of a context or --none"),
        (("context", "use", "dev", "--none"), "give either the NAME of a context or --none"),
        (("context", "set", "dev"), "nothing to set: give --address, --request-timeout, --token-file or --ca-file"),
        (("context", "set", "a b", "-a", DEV), "'a b' is not a name for a context: letters, digits and . _ - make one"),
        (
            ("context", "set", "dev", "--request-timeout", "soon"),
            "--request-timeout 'soon' is not a duration greater than 0 and at most 24h, such as 10s, 500ms or 2m",
        ),
        (("context", "set", "dev", "--token-file", "/no/such"), "token file /no/such: no such file"),
    ],
)
def test_a_mistake_is_one_line(run: Run, file: Path, args: tuple[str, ...], message: str) -> None:
    written(file, f'[context.prod]\naddress = "{PROD}"\n[context.dev]\naddress = "{DEV}"\n')
    before = file.read_text()
    assert run(*args, expect=2).err == f"ctl: {message.format(file=file)}\n"
    assert file.read_text() == before


def test_an_address_that_is_none_is_refused_without_its_token(run: Run, file: Path) -> None:
    done = run("context", "set", "x", "-a", f"ftp://u:{SECRET}@c", expect=2)
    assert SECRET not in done.err
    assert not file.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("current = = 1", "{file}: not TOML: at line 1, column 11"),
        ("curent = 'a'", "{file}: 'curent' is not known; did you mean current?"),
        ("current = 1", "{file}: current is a name, and each context a table such as [context.prod]"),
        ("context = 1", "{file}: current is a name, and each context a table such as [context.prod]"),
        ("[context.a]\nadress = 'x'", "{file}: context 'a': 'adress' is not known; did you mean address?"),
        ("[context.a]\naddress = 1", "{file}: context 'a': address is not a text"),
        ("[context.a]\nrequest_timeout = true", "{file}: context 'a': request_timeout is not a number of seconds"),
        ("[context]\na = 1", "{file}: context 'a' is not a table such as [context.prod]"),
        ("current = 'gone'", "{file}: current 'gone': no such context in {file}; ctl context set makes one"),
    ],
)
def test_an_unusable_file_is_reported(run: Run, file: Path, text: str, message: str) -> None:
    written(file, text)
    assert run("models", "list", expect=2).err == f"ctl: {message.format(file=file)}\n"


def test_a_context_s_wrong_value_is_named_with_its_context(run: Run, file: Path) -> None:
    written(file, "[context.a]\nrequest_timeout = -1\n")
    done = run("models", "list", "--context", "a", expect=2)
    assert "request_timeout -1 is not a number of seconds" in done.err
    assert "(context a)" in done.err


def secret_file(path: Path, mode: int = 0o600, text: str = f"{SECRET}\n") -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def header(user: str) -> str:
    return "Basic " + b64encode(f"{user}:{SECRET}".encode()).decode()


@pytest.mark.parametrize(("text", "user"), [(f"{SECRET}\n", "ctl"), (f"me:{SECRET}", "me")])
def test_a_token_from_a_file_is_sent_and_not_shown(run: Run, file: Path, tmp_path: Path, text: str, user: str) -> None:
    token = secret_file(tmp_path / "token", text=text)
    with fake_controller() as fake:
        run("context", "set", "x", "-a", fake.url, "--token-file", token)
        settings = load_connection({}, os.environ, "", "x")
        assert settings.addresses[0].credentials == (user, SECRET)
        done = run("models", "list", "--context", "x", "-v")
        told = shown(run, "--context", "x")
    assert SECRET not in done.out + done.err + json.dumps(told) + repr(settings) + file.read_text()
    assert told["token"] == {"value": "********", "from": f"{token} (context x)"}


def test_a_token_of_a_context_goes_nowhere_else(run: Run, file: Path, tmp_path: Path) -> None:
    run("context", "set", "x", "-a", DEV, "--token-file", secret_file(tmp_path / "token"))
    elsewhere = load_connection({"address": "http://elsewhere"}, os.environ, "", "x")
    assert elsewhere.addresses[0].credentials is None


def test_ctl_token_goes_before_the_file_and_not_before_an_address_s_own(run: Run, file: Path, tmp_path: Path) -> None:
    run("context", "set", "x", "-a", f"{DEV},http://own:mine@b", "--token-file", secret_file(tmp_path / "token"))
    loaded = load_connection({}, {**os.environ, "CTL_TOKEN": "you:other"}, "", "x")
    assert [each.credentials for each in loaded.addresses] == [("you", "other"), ("own", "mine")]
    assert loaded.token_origin == "environment CTL_TOKEN"


def test_a_client_of_one_of_the_controllers_has_its_token() -> None:
    both = "http://u:tok%2Fen@a:1,http://b:2"
    session = Session(ClientSettings(address=both))
    for url, expected in (("http://a:1", "http://u:tok%2Fen@a:1"), ("http://b:2", "http://b:2"), (None, both)):
        with session.client(url) as client:
            addresses = client._calls.failover.addresses
        assert ",".join(address.url_with_credentials for address in addresses) == expected
    with session.client("http://c") as client:
        assert client._calls.failover.addresses[0].credentials is None


def test_special_characters_of_a_token_arrive(run: Run, file: Path) -> None:
    loaded = load_connection({}, {"CTL_TOKEN": "u:a/b,c@d#e%:f"}, "")
    assert loaded.addresses[0].credentials == ("u", "a/b,c@d#e%:f")


@pytest.mark.parametrize("text", ["", "\n", "u:", "two words", "a\nb"])
def test_a_token_that_is_none(run: Run, file: Path, tmp_path: Path, text: str) -> None:
    done = run("context", "set", "x", "--token-file", secret_file(tmp_path / "token", text=text), expect=2)
    assert "holds no token" in done.err


def test_a_token_file_that_others_can_read_is_refused(run: Run, file: Path, tmp_path: Path) -> None:
    token = secret_file(tmp_path / "token")
    run("context", "set", "x", "-a", DEV, "--token-file", token)
    Path(token).chmod(0o640)
    done = run("models", "list", "--context", "x", expect=2)
    assert done.err == f"ctl: token file {token}: others can read or write it (mode 0640): chmod 600 {token}\n"


def test_a_token_in_the_address_is_reported_and_the_mode_of_the_file_checked(run: Run, file: Path) -> None:
    done = run("context", "set", "x", "-a", f"http://u:{SECRET}@127.0.0.1:1")
    assert "is kept in" in done.err
    assert SECRET not in done.out + done.err + run("context", "list").out
    assert run("context", "show", "--context", "x").err == ""
    file.chmod(0o644)
    done = run("context", "show", "--context", "x")
    assert done.err == f"ctl: warning: {file} holds a token, and others can read it: chmod 600 {file}\n"


def test_a_file_that_others_can_write_decides_no_address(run: Run, file: Path, tmp_path: Path) -> None:
    run("context", "set", "x", "-a", DEV.replace("http:", "https:"), "--token-file", secret_file(tmp_path / "token"))
    file.chmod(0o644)
    assert run("context", "show", "--context", "x").err == ""
    file.chmod(0o666)
    told = f"ctl: warning: {file} says where tokens are sent, and others can write it: chmod 600 {file}\n"
    assert run("context", "show", "--context", "x").err == told


def test_a_file_without_tokens_may_be_read_by_all(run: Run, file: Path) -> None:
    written(file, f'[context.dev]\naddress = "{DEV}"\n', mode=0o644)
    assert run("context", "show", "--context", "dev").err == ""


def test_where_the_file_is() -> None:
    assert config_path({"XDG_CONFIG_HOME": "/x", "HOME": "/h"}) == Path("/x/dbgpt-ctl/config.toml")
    assert config_path({"XDG_CONFIG_HOME": "relative", "HOME": "/h"}) == Path("/h/.config/dbgpt-ctl/config.toml")


def test_without_a_home_there_are_no_contexts_and_no_complaint() -> None:
    assert load_connection({}, {}, "") == ClientSettings()


def test_an_unreadable_home_stops_only_commands_that_name_a_context(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(file, "broken")
    monkeypatch.setattr(os, "access", lambda path, _mode: path != file)
    assert shown(run)["context"] == {"value": None, "from": None}
    assert "not TOML" in run("context", "show", "--context", "x", expect=2).err


def test_names_are_completed(run: Run, file: Path) -> None:
    assert candidates.contexts("") == []
    written(file, "[context.prod]\n[context.dev]\n")
    assert candidates.contexts("") == ["dev", "prod"]
    assert candidates.contexts("p") == ["prod"]
    written(file, "broken")
    assert candidates.contexts("") == []


def test_a_token_file_that_is_a_pipe_is_read() -> None:
    from dbgpt_ctl.settings.contexts import read_token_file

    reading, writing = os.pipe()
    os.write(writing, b"u:t\n")
    os.close(writing)
    try:
        assert read_token_file(f"/dev/fd/{reading}") == ("u", "t")
    finally:
        os.close(reading)
    with pytest.raises(UsageError, match="no such file"):
        read_token_file("/dev/fd/no/such")

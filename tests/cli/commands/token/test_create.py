"""A new token: printed once, stored as its hash, and never cut."""

from __future__ import annotations

import json
import re
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from dbgpt_ctl.auth.tokens import Role, sha256_of
from dbgpt_ctl.auth.tokens_file import read_tokens_file
from tests.cli.schemas import validated
from tests.cli.test_process import on_terminal
from tests.support.process import ctl

if TYPE_CHECKING:
    from tests.cli.conftest import Run

FORM = r"dctl_[A-Za-z0-9_-]{43}"


def test_a_pipe_gets_the_token_alone(run: Run, tokens_file: Path) -> None:
    done = run("token", "create", "gpu", "--role", "worker")
    assert re.fullmatch(f"{FORM}\n", done.out)
    secret = done.out.strip()
    token = read_tokens_file(tokens_file).tokens["gpu"]
    assert (token.role, token.sha256) == (Role.WORKER, (sha256_of(secret),))
    assert secret not in done.err + tokens_file.read_text()
    assert stat.S_IMODE(tokens_file.stat().st_mode) == 0o600


def test_all_limits(run: Run, tokens_file: Path) -> None:
    limits = ["--models", "qwen*@llm,bge@text2vec", "--models", "*@reranker", "--hosts", "10.1.0.0/16, *.gpu.internal"]
    before = datetime.now(UTC)
    run("token", "create", "gpu", "--role", "worker", *limits, "--max-instances", "3", "--expires", "90d")
    token = read_tokens_file(tokens_file).tokens["gpu"]
    assert token.models == ("qwen*@llm", "bge@text2vec", "*@reranker")
    assert token.hosts == ("10.1.0.0/16", "*.gpu.internal")
    assert token.max_instances == 3
    assert token.expires
    assert timedelta(days=90) <= token.expires - before < timedelta(days=91)
    assert token.expires.microsecond == 0


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_a_document_for_scripts(run: Run, tokens_file: Path, form: str) -> None:
    done = run("token", "create", "api", "--role", "reader", "-a", "http://ctl-1:8000,https://ctl-2:8443/x", "-o", form)
    told = validated("token-create", (json.loads if form == "json" else yaml.safe_load)(done.out))
    secret = told["token"]
    assert told["controller_addr"] == f"http://api:{secret}@ctl-1:8000,https://api:{secret}@ctl-2:8443/x"
    assert (told["name"], told["role"], told["expires"], told["tokens_file"]) == (
        "api",
        "reader",
        None,
        str(tokens_file),
    )
    assert read_tokens_file(tokens_file).tokens["api"].sha256 == (sha256_of(secret),)
    assert "TOKEN" not in done.err


@pytest.mark.parametrize(
    ("role", "lines"),
    [
        (
            "worker",
            ['in the TOML file of the worker: controller_addr = "http://x:TOKEN@ctl-1:8000"', "CTL_TOKEN=x:TOKEN"],
        ),
        ("reader", ['TOML file of the API server: controller_addr = "http://x:TOKEN@ctl-1:8000"', "CTL_TOKEN=x:TOKEN"]),
        ("operator", ["for ctl: CTL_TOKEN=x:TOKEN"]),
        ("metrics", ["for Prometheus: basic_auth with username x and password TOKEN"]),
    ],
)
def test_where_it_is_written(run: Run, tokens_file: Path, role: str, lines: list[str]) -> None:
    done = run("token", "create", "x", "--role", role, "-a", "http://ctl-1:8000")
    assert [line for line in lines if line not in done.err] == []
    assert ("controller_addr" in done.err) == (role in ("worker", "reader"))


def test_credentials_of_the_address_in_use_are_not_shown(run: Run, tokens_file: Path) -> None:
    done = run("token", "create", "x", "--role", "reader", "-a", "http://me:s3cr3t@ctl-1:8000")
    assert "s3cr3t" not in done.out + done.err
    assert "http://x:TOKEN@ctl-1:8000" in done.err


def test_a_worker_without_limits_is_warned_of(run: Run, tokens_file: Path) -> None:
    warning = "warning: a may register any model on any host"
    assert warning in run("token", "create", "a", "--role", "worker").err
    assert "warning" not in run("token", "create", "b", "--role", "worker", "--hosts", "10.0.0.0/8").err
    assert run("token", "create", "c", "--role", "worker", "-q").err == ""


def test_a_name_is_used_once(run: Run, tokens_file: Path) -> None:
    run("token", "create", "a", "--role", "worker")
    before = tokens_file.read_text()
    done = run("token", "create", "a", "--role", "reader", expect=2)
    assert "ctl token rotate a" in done.err
    assert "ctl token revoke a" in done.err
    assert (done.out, tokens_file.read_text()) == ("", before)
    run("token", "revoke", "a")
    run("token", "create", "a", "--role", "reader")
    assert read_tokens_file(tokens_file).tokens["a"].role is Role.READER


def test_a_wrong_argument_makes_no_file(run: Run, tokens_file: Path) -> None:
    for args in (["a b", "--role", "reader"], ["a", "--role", "worker", "--hosts", "10.1/16"], ["a"]):
        assert run("token", "create", *args, expect=2).out == ""
    run("token", "create", "a", "--role", "reader", "--expires", "0d", expect=2)
    run("token", "create", "a", "--role", "worker", "--max-instances", "0", expect=2)
    assert not tokens_file.exists()


def test_a_token_that_is_pasted_as_a_name_is_not_shown(run: Run, tokens_file: Path) -> None:
    secret = run("token", "create", "a", "--role", "reader").out.strip()
    for verb in (["create", secret, "--role", "reader"], ["revoke", secret], ["rotate", secret]):
        assert secret not in run("token", *verb, expect=2).err


def test_the_file_has_to_be_named(run: Run, tmp_path: Path) -> None:
    done = run("token", "create", "a", "--role", "reader", expect=2)
    assert done.err == "ctl: no tokens file is named: give --tokens-file FILE or set CONTROLLER_TOKENS_FILE\n"
    run("token", "create", "a", "--role", "reader", "--tokens-file", "t.toml")
    assert (tmp_path / "t.toml").exists()


def test_a_file_of_variables_names_it_only_if_it_is_named_itself(run: Run, tmp_path: Path) -> None:
    """Rule 15: ./.env may come with the folder of a stranger."""
    (tmp_path / ".env").write_text("CONTROLLER_TOKENS_FILE=t.toml\n")
    for verb in (["create", "a", "--role", "reader"], ["list"], ["revoke", "a"]):
        done = run("token", *verb, expect=2)
        assert "tokens_file (CONTROLLER_TOKENS_FILE in .env) may not come from ./.env" in done.err
    assert not (tmp_path / "t.toml").exists()
    run("token", "create", "a", "--role", "reader", "--env-file", ".env")
    assert run("token", "list", "-o", "name", "--env-file", ".env").out == "a\n"


def test_the_home_directory_may_be_written_as_a_tilde(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    run("token", "create", "a", "--role", "reader", "--tokens-file", "~/t.toml")
    assert read_tokens_file(tmp_path / "t.toml").tokens
    assert "home directory" in run("token", "list", "--tokens-file", "~nobody-at-all/t.toml", expect=2).err


@pytest.mark.parametrize("columns", [60, 80])
def test_a_terminal_shows_the_token_on_one_line_without_colour(tmp_path: Path, columns: int) -> None:
    path = str(tmp_path / "t.toml")
    lines = on_terminal("token", "create", "gpu", "--role", "worker", "--tokens-file", path, columns=columns)
    assert re.fullmatch(FORM, lines[0])
    assert "\x1b" not in "".join(lines)


def test_it_calls_no_controller_and_leaves_the_token_in_no_argument(tmp_path: Path) -> None:
    args = ["--role", "reader", "-v", "-a", "http://127.0.0.1:1", "--tokens-file", "t.toml"]
    done = ctl("token", "create", "gpu", *args, cwd=tmp_path)
    assert "GET" not in done.err
    assert "sha256" in Path(tmp_path / "t.toml").read_text()

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import pytest
import yaml

from dbgpt_ctl.auth.tokens import sha256_of
from tests.cli.schemas import validated

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

A, B, C, D = (sha256_of(text) for text in "abcd")
TEXT = f"""
mode = "log"
[token.two]
role = "worker"
sha256 = ["{A}", "{B}"]
models = ["qwen*@llm"]
hosts = ["10.1.0.0/16", "gpu-*"]
max_instances = 7
[token.over]
role = "operator"
sha256 = ["{C}"]
expires = 2020-01-01T00:00:00Z
[token.gone]
role = "reader"
sha256 = []
revoked_sha256 = ["{D}"]
"""


@pytest.fixture
def file(tokens_file: Path) -> Path:
    tokens_file.write_text(TEXT)
    tokens_file.chmod(0o600)
    return tokens_file


def test_a_table(run: Run, file: Path) -> None:
    done = run("token", "list")
    assert done.lines == [
        "NAME  ROLE      MODELS     HOSTS               MAX INSTANCES  EXPIRES  VALID",
        "gone  reader    -          -                   -              revoked  0",
        "over  operator  -          -                   -              expired  0",
        "two   worker    qwen*@llm  10.1.0.0/16, gpu-*  7              never    2",
    ]
    assert done.err == ""


def test_documents(run: Run, file: Path) -> None:
    told = json.loads(run("token", "list", "-o", "json").out)
    validated("token-list", told)
    assert yaml.safe_load(run("token", "list", "-o", "yaml").out) == told
    assert (told["file"], told["mode"]) == (str(file), "log")
    assert [(token["name"], token["state"], token["valid_tokens"]) for token in told["tokens"]] == [
        ("gone", "revoked", 0),
        ("over", "expired", 0),
        ("two", "valid", 2),
    ]
    assert told["tokens"][1]["expires"] == "2020-01-01T00:00:00Z"


def test_csv_and_names(run: Run, file: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run("token", "list", "-o", "csv").out)))
    assert (rows[2]["hosts"], rows[2]["max_instances"], rows[0]["state"]) == ("10.1.0.0/16,gpu-*", "7", "revoked")
    assert run("token", "list", "-o", "name").out == "gone\nover\ntwo\n"


@pytest.mark.parametrize("form", ["table", "json", "yaml", "csv", "name"])
def test_no_hash_is_shown(run: Run, file: Path, form: str) -> None:
    done = run("token", "list", "-o", form)
    assert not any(digits in done.out + done.err for digits in (A, B, C, D))


def test_an_empty_file(run: Run, file: Path) -> None:
    file.write_text("")
    done = run("token", "list")
    assert (done.out, done.err) == ("", f"ctl: no tokens in {file}; ctl token create NAME --role ROLE makes one\n")


def test_a_file_that_others_can_read_is_warned_of(run: Run, file: Path) -> None:
    file.chmod(0o644)
    assert run("token", "list").err == f"ctl: warning: others can read {file} (mode 0644): chmod 600 {file}\n"


def test_a_file_that_cannot_be_used(run: Run, file: Path) -> None:
    file.unlink()
    assert run("token", "list", expect=2).err == f"ctl: tokens file {file}: no such file; ctl token create makes one\n"

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbgpt_ctl.auth.tokens import Mode, Role, new_token, sha256_of
from dbgpt_ctl.auth.tokens_file import read_tokens_file
from dbgpt_ctl.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

A, B, C = (sha256_of(text) for text in "abc")
TOKEN = new_token(lambda count: bytes(range(count)))
WHOLE = f"""
mode = "enforce"

[token.gpu]  # a comment
role = "worker"
sha256 = ["{A}", "{B.upper()}"]
revoked_sha256 = ["{C}"]
models = ["qwen*@llm"]
hosts = ["10.1.0.0/16", "*.gpu.example.com"]
max_instances = 40
expires = 2027-01-31T01:00:00+01:00
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.toml"


def write(path: Path, text: str | bytes, mode: int = 0o600) -> None:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        read_tokens_file(path)
    message = str(caught.value)
    assert message.startswith(f"tokens file {path}: ")
    assert message.isprintable()
    assert not any(secret in message for secret in (TOKEN, A, B, C))
    return message.removeprefix(f"tokens file {path}: ")


def of_token(path: Path, lines: str) -> str:
    """The refusal of a file with one token that has these lines."""
    write(path, f"[token.gpu]\n{lines}\n")
    message = refusal(path)
    assert message.startswith("token gpu: ")
    return message.removeprefix("token gpu: ")


def test_a_whole_file(path: Path) -> None:
    write(path, WHOLE)
    file = read_tokens_file(path)
    assert file.mode is Mode.ENFORCE
    token = file.tokens["gpu"]
    assert (token.name, token.role, token.sha256, token.revoked_sha256) == ("gpu", Role.WORKER, (A, B), (C,))
    assert (token.models, token.hosts) == (("qwen*@llm",), ("10.1.0.0/16", "*.gpu.example.com"))
    assert (token.max_instances, token.expires) == (40, datetime(2027, 1, 31, tzinfo=UTC))
    assert len(file.digest) == 12
    assert file.readable_by_others is None


def test_an_empty_file_has_no_tokens_and_no_mode(path: Path) -> None:
    write(path, "")
    file = read_tokens_file(path)
    assert (file.mode, dict(file.tokens)) == (None, {})


def test_a_revoked_token(path: Path) -> None:
    write(path, f'[token.gpu]\nrole = "reader"\nsha256 = []\nrevoked_sha256 = ["{A}"]')
    assert read_tokens_file(path).tokens["gpu"].is_revoked


def test_the_digest_is_of_the_tokens_only(path: Path) -> None:
    two = f'[token.b]\nrole = "reader"\nsha256 = ["{A}"]\n[token.a]\nrole = "reader"\nsha256 = ["{B}"]\n'
    same = (
        f'mode = "log"\n[token.a]\nsha256 = ["{B.upper()}"] # text\nrole = "reader"\n' + two.partition("[token.a]")[0]
    )
    write(path, two)
    digest = read_tokens_file(path).digest
    write(path, same)
    assert read_tokens_file(path).digest == digest
    write(path, two.replace("reader", "worker", 1))
    assert read_tokens_file(path).digest != digest


@pytest.mark.parametrize(
    "change",
    [
        f'role = "worker"\nsha256 = ["{A}"]\nmodels = ["a@llm"]',
        f'role = "worker"\nsha256 = ["{A}"]\nhosts = ["a"]',
        f'role = "worker"\nsha256 = ["{A}"]\nmax_instances = 1',
        f'role = "worker"\nsha256 = ["{A}"]\nexpires = 2027-01-01T00:00:00Z',
        f'role = "worker"\nsha256 = ["{A}", "{B}"]',
        f'role = "worker"\nsha256 = ["{A}"]\nrevoked_sha256 = ["{B}"]',
        f'role = "worker"\nsha256 = ["{B}"]',
    ],
)
def test_every_fact_of_a_token_is_in_the_digest(path: Path, change: str) -> None:
    write(path, f'[token.gpu]\nrole = "worker"\nsha256 = ["{A}"]')
    digest = read_tokens_file(path).digest
    write(path, f"[token.gpu]\n{change}")
    assert read_tokens_file(path).digest != digest


@pytest.mark.parametrize(("mode", "readable"), [(0o600, None), (0o400, None), (0o640, 0o640), (0o604, 0o604)])
def test_who_else_can_read_it(path: Path, mode: int, readable: int | None) -> None:
    write(path, WHOLE, mode)
    assert read_tokens_file(path).readable_by_others == readable


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write(path: Path, mode: int) -> None:
    write(path, WHOLE, mode)
    assert refusal(path) == f"others can write it (mode {mode:04o}): chmod go-w {path}"


def test_a_folder_in_which_everyone_can_replace_it(path: Path) -> None:
    write(path, WHOLE)
    path.parent.chmod(0o777)
    assert refusal(path).startswith(f"everyone can write to its folder {path.parent}")
    path.parent.chmod(0o1777)
    assert read_tokens_file(path).tokens


def test_the_folder_behind_a_link_counts_too(tmp_path: Path, path: Path) -> None:
    target = tmp_path / "open" / "tokens.toml"
    target.parent.mkdir()
    write(target, WHOLE)
    path.symlink_to(target)
    assert read_tokens_file(path).tokens
    target.parent.chmod(0o777)
    assert refusal(path).startswith(f"everyone can write to its folder {target.parent}")


def test_a_mount_of_kubernetes(tmp_path: Path) -> None:
    """tokens.toml -> ..data/tokens.toml, and ..data -> ..2026_11_28, in a folder with the sticky bit."""
    mount = tmp_path / "mount"
    (mount / "..2026_11_28").mkdir(parents=True)
    mount.chmod(0o1777)
    write(mount / "..2026_11_28" / "tokens.toml", WHOLE, 0o440)
    (mount / "..data").symlink_to("..2026_11_28")
    (mount / "tokens.toml").symlink_to("..data/tokens.toml")
    assert read_tokens_file(mount / "tokens.toml").readable_by_others == 0o440


def test_what_is_no_readable_file(path: Path) -> None:
    assert refusal(path) == "no such file; ctl token create makes one"
    path.mkdir()
    assert refusal(path) == "cannot be read: Is a directory"
    path.rmdir()
    os.mkfifo(path)
    assert refusal(path) == "cannot be read: it is a named pipe, not a regular file"
    path.unlink()
    path.symlink_to(path)
    assert refusal(path) == "cannot be read: Too many levels of symbolic links"


def test_a_file_that_is_too_large(path: Path) -> None:
    write(path, "#" * (1024**2 + 1))
    assert refusal(path) == "cannot be read: it is larger than 1 MiB"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\xff\xfe", "not TOML: UnicodeDecodeError"),
        (f'[token.gpu]\nsha256 = "{TOKEN}\n"', "not TOML: at line 2, column"),
        ("mode = " + "1" * 5000, "not TOML: ValueError"),
        ("mode = " + "[" * 5000, "not TOML of a tokens file: it is nested too deeply"),
        ("mode = 0x" + "f" * 5000, "mode ******** is not one of off, log, enforce"),
        ('mode = "Enforce"', "mode 'Enforce' is not one of off, log, enforce"),
        ("mode = 1", "mode 1 is not one of"),
        ("mode = []", "mode [] is not one of"),
        ('mood = "off"', "'mood' is not known; did you mean mode?"),
        ("[[token]]", "token is not a table"),
        ("[tokens.gpu]", "'tokens' is not known; did you mean token?"),
        (f'{TOKEN} = ""', "'********' is not known; there are mode, token".replace("'", "")),
        ('[token."a b"]', "'a b' is not a name for a token"),
        (f"[token.{TOKEN}]", "******** is not a name for a token"),
        ("[token]\ngpu = 1", "token gpu: is not a table such as [token.gpu]"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole(path: Path, text: str | bytes, message: str) -> None:
    write(path, text)
    assert refusal(path).startswith(message)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (f'sha256 = ["{A}"]', "role is missing"),
        ('role = "worker"', "sha256 is missing"),
        ('role = "admin"\nsha256 = []', "role 'admin' is not one of reader, worker, operator, metrics"),
        (f'role = "{TOKEN}"\nsha256 = []', "role ******** is not one of"),
        (
            'role = "operator"\nsha256 = []\nhosts = ["a"]',
            "hosts is for tokens of workers only, and its role is operator",
        ),
        (f'role = "reader"\nsha265 = ["{A}"]', "'sha265' is not known; did you mean sha256?"),
    ],
)
def test_a_token_that_is_wrong(path: Path, lines: str, message: str) -> None:
    assert of_token(path, lines).startswith(message)


@pytest.mark.parametrize(
    ("hashes", "message"),
    [
        (f'sha256 = "{A}"', 'sha256 is not a list of texts: write sha256 = ["..."]'),
        ("sha256 = [1]", "sha256 is not a list of texts"),
        (f'sha256 = ["{TOKEN}"]', "sha256 holds what is a token, not its SHA-256"),
        (f'sha256 = ["gpu:{TOKEN}"]', "sha256 holds what is a token, not its SHA-256"),
        ('sha256 = ["hunter2"]', "sha256 holds a text that is not the 64 hexadecimal digits of a SHA-256"),
        (f'sha256 = ["{A[:-1]}"]', "sha256 holds a text that is not the 64 hexadecimal digits"),
        (f'sha256 = ["{A[:-1]}g"]', "sha256 holds a text that is not the 64 hexadecimal digits"),
        (f'sha256 = ["{sha256_of("")}"]', "sha256 holds the SHA-256 of an empty text"),
        (f'sha256 = ["{A}", "{B}", "{C}"]', "sha256 holds 3 hashes, and at most 2 are valid"),
        (f'sha256 = ["{A}", "{A.upper()}"]', "sha256 holds a hash twice"),
        (f'sha256 = ["{A}"]\nrevoked_sha256 = ["{A}"]', "a hash is in sha256 and in revoked_sha256"),
        ('sha256 = []\nrevoked_sha256 = ["x"]', "revoked_sha256 holds a text that is not"),
    ],
)
def test_hashes_that_are_wrong(path: Path, hashes: str, message: str) -> None:
    assert of_token(path, f'role = "worker"\n{hashes}').startswith(message)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('models = ["qwen"]', "models: 'qwen' is no pattern of NAME@TYPE"),
        (f'models = ["{TOKEN}"]', "models: ******** is no pattern"),
        ("models = []", "models is empty: remove the key to allow any"),
        ("hosts = []", "hosts is empty"),
        ('hosts = ["10.1.0.1/16"]', "hosts: '10.1.0.1/16' is an address with the length of a range"),
        ('hosts = "10.1.0.0/16"', "hosts is not a list of texts"),
        ("max_instances = 0", "max_instances 0 is not a whole number from 1"),
        ("max_instances = true", "max_instances True is not a whole number"),
        ("max_instances = 1.0", "max_instances 1.0 is not a whole number"),
        ('max_instances = "1"', "max_instances '1' is not a whole number"),
        ("expires = 2027-01-31T00:00:00", "expires 2027-01-31 00:00:00 has no offset from UTC"),
        ("expires = 2027-01-31", "expires 2027-01-31 is a date without a time"),
        ('expires = "2027-01-31T00:00:00Z"', "expires '2027-01-31T00:00:00Z' is not a time"),
        ("expires = 0001-01-01T00:00:00+01:00", "expires 0001-01-01 00:00:00+01:00 is outside of the years"),
    ],
)
def test_values_that_are_wrong(path: Path, line: str, message: str) -> None:
    assert of_token(path, f'role = "worker"\nsha256 = ["{A}"]\n{line}').startswith(message)


@pytest.mark.parametrize("key", ["sha256", "revoked_sha256"])
def test_a_hash_in_two_tokens(path: Path, key: str) -> None:
    other = {"sha256": [A]} if key == "sha256" else {"sha256": [], "revoked_sha256": [A]}
    lines = "\n".join(f"{name} = {value!r}" for name, value in other.items())
    write(path, f'[token.a]\nrole = "reader"\nsha256 = ["{A}"]\n[token.b]\nrole = "worker"\n{lines}')
    assert refusal(path).startswith("token b: it has a hash that token a has too")


@given(st.binary(max_size=200) | st.text(alphabet='[]{}=".,\ntokenmd1e-#\\u', max_size=80).map(str.encode))
def test_any_content_is_read_or_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    write(path, content)
    message = ""
    try:
        read_tokens_file(path)
    except UsageError as error:
        message = str(error)
    assert message == "" or message.isprintable()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_a_file_that_another_user_made_where_everyone_can_make_files(path: Path) -> None:
    write(path, WHOLE)
    os.chown(path, 1234, 4321)
    assert read_tokens_file(path).tokens
    path.parent.chmod(0o1777)
    assert refusal(path) == (
        f"another user made it in {path.parent}, where everyone can make files: keep it in a folder of yours"
    )
    os.chown(path, 0, 0)
    assert read_tokens_file(path).tokens

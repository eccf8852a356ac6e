"""Edits of a tokens file: what they change and keep, at the same time and under `kill -9`."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.auth.editing import Edit, create_token, revoke_token, rotate_token, set_mode, withdraw_token
from dbgpt_ctl.auth.tokens import Mode, Role, Token, sha256_of
from dbgpt_ctl.auth.tokens_file import LARGEST_FILE, MAX_REVOKED, read_tokens_file
from dbgpt_ctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = datetime(2026, 12, 1, tzinfo=UTC)
A, B, C = (sha256_of(text) for text in "abc")
COMMENTED = f"""\
# Our tokens. Ask Anna before a change.
mode = "log"  # since Monday

# The GPU hosts in the east.
[token.gpu]
role = "worker"   # no more than that
sha256 = [
    "{A.upper()}",  # handed out on Monday
]
hosts = ['10.1.0.0/16']

[token.api]
role = "reader"
sha256 = ["{C}"]
# The end.
"""
KILLED = """
import os, sys
from pathlib import Path
from dbgpt_ctl.auth.editing import Edit, create_token
from dbgpt_ctl.auth.tokens import Role, Token, sha256_of
at, path = int(sys.argv[1]), Path(sys.argv[2])
def stop(event, args):
    global at
    if event in ("open", "os.rename", "os.chmod", "os.remove") and ".toml" in str(args[0]):
        at -= 1
        if at < 0:
            os.kill(os.getpid(), 9)
sys.addaudithook(stop)
create_token(path, Token("new", Role.READER, (sha256_of("new"),)))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    path.write_text(COMMENTED)
    path.chmod(0o600)
    return path


def refused(message: str) -> pytest.RaisesExc[UsageError]:
    return pytest.raises(UsageError, match=message)


def test_the_first_token_makes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new.toml"
    token = Token("gpu", Role.WORKER, (A,), models=("qwen*@llm",), hosts=("10.0.0.0/8",), max_instances=3, expires=NOW)
    create_token(path, token)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_tokens_file(path).tokens == {"gpu": token}
    assert path.read_text().startswith("# ")
    assert "expires = 2026-12-01T00:00:00Z\n" in path.read_text()


def test_only_create_makes_a_file(tmp_path: Path) -> None:
    path = tmp_path / "new.toml"
    with refused("no such file"):
        set_mode(path, Mode.LOG)
    with refused("no such file"):
        revoke_token(path, "gpu", only_old=False)
    with refused("no such folder"):
        create_token(tmp_path / "absent" / "t.toml", Token("gpu", Role.WORKER, (A,)))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "link.toml").symlink_to(tmp_path / "gone" / "t.toml")
    with refused(f"no such folder as {tmp_path / 'gone'}: make it first"):
        create_token(tmp_path / "link.toml", Token("gpu", Role.WORKER, (A,)))


def test_comments_and_form_are_kept(path: Path) -> None:
    rotate_token(path, "gpu", B, None, NOW)
    revoke_token(path, "gpu", only_old=True)
    set_mode(path, Mode.ENFORCE)
    create_token(path, Token("new", Role.READER, (sha256_of("new"),)))
    text = path.read_text()
    kept = [line for line in COMMENTED.splitlines() if "#" in line and A.upper() not in line]
    assert [line for line in kept if line.replace("log", "enforce") not in text] == []
    assert "hosts = ['10.1.0.0/16']" in text


def test_a_text_of_a_list_keeps_its_comment(path: Path) -> None:
    rotate_token(path, "gpu", B, None, NOW)
    assert f'"{A.upper()}",  # handed out on Monday\n' in path.read_text()
    assert read_tokens_file(path).tokens["gpu"].sha256 == (B, A)


def test_what_needs_no_change_writes_nothing(path: Path) -> None:
    before = path.stat()
    assert not set_mode(path, Mode.LOG).changed
    assert path.stat() == before
    revoke_token(path, "gpu", only_old=False)
    assert not revoke_token(path, "gpu", only_old=False).changed


def test_a_token_from_its_first_secret_to_its_end(path: Path) -> None:
    rotate_token(path, "gpu", B, None, NOW)
    with refused("has an old and a new one, both valid: ctl token revoke gpu --old"):
        rotate_token(path, "gpu", sha256_of("third"), None, NOW)
    with refused("token gpu exists in .*ctl token rotate gpu .*ctl token revoke gpu"):
        create_token(path, Token("gpu", Role.READER, (sha256_of("third"),)))
    token = revoke_token(path, "gpu", only_old=True).after.tokens["gpu"]
    assert (token.sha256, token.revoked_sha256) == ((B,), (A,))
    with refused("token gpu has no old one"):
        revoke_token(path, "gpu", only_old=True)
    token = revoke_token(path, "gpu", only_old=False).after.tokens["gpu"]
    assert (token.sha256, token.revoked_sha256) == ((), (B, A))
    with refused("token gpu is revoked: ctl token create gpu"):
        rotate_token(path, "gpu", sha256_of("third"), None, NOW)
    create_token(path, Token("gpu", Role.READER, (sha256_of("third"),)))
    token = read_tokens_file(path).tokens["gpu"]
    assert token == Token("gpu", Role.READER, (sha256_of("third"),), (B, A))


def test_the_last_revoked_hashes_are_kept(path: Path) -> None:
    for number in range(MAX_REVOKED + 3):
        rotate_token(path, "gpu", sha256_of(str(number)), None, NOW)
        revoke_token(path, "gpu", only_old=True)
    revoked = read_tokens_file(path).tokens["gpu"].revoked_sha256
    assert revoked == tuple(sha256_of(str(number)) for number in reversed(range(2, MAX_REVOKED + 2)))


def test_an_expired_token_is_rotated_only_with_a_new_time(path: Path) -> None:
    create_token(path, Token("old", Role.READER, (B,), expires=NOW))
    with refused("token old is expired, .*--expires 90d"):
        rotate_token(path, "old", sha256_of("new"), None, NOW)
    later = NOW + timedelta(days=1)
    assert rotate_token(path, "old", sha256_of("new"), later, NOW).after.tokens["old"].expires == later


def test_a_token_that_is_not_there(path: Path) -> None:
    with refused(r"token 'gpi' is not in .*; did you mean gpu\?"):
        revoke_token(path, "gpi", only_old=False)
    with refused("there are api, gpu"):
        rotate_token(path, "xyz-1", B, None, NOW)


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (Token("a b", Role.READER, (A,)), "'a b' is not a name for a token"),
        (Token("new", Role.READER, (B,), hosts=("h",)), "hosts is for tokens of workers only"),
        (Token("new", Role.WORKER, (B,), hosts=("10.1.0.1/16",)), "hosts: '10.1.0.1/16' is an address with"),
        (Token("new", Role.WORKER, (B,), models=("qwen",)), "models: 'qwen' is no pattern"),
        (Token("new", Role.WORKER, (B,), max_instances=0), "max_instances 0 is not"),
    ],
)
def test_a_token_that_no_file_may_hold(path: Path, token: Token, message: str) -> None:
    with refused(f"^(token new: )?{message}"):
        create_token(path, token)
    assert path.read_text() == COMMENTED


def test_a_file_that_is_wrong_is_not_touched(path: Path) -> None:
    path.write_text(f"{COMMENTED}\nmood = 1")
    with refused("'mood' is not known"):
        set_mode(path, Mode.ENFORCE)
    path.write_text(COMMENTED)
    path.chmod(0o666)
    with refused("others can write it"):
        set_mode(path, Mode.ENFORCE)
    assert path.read_text() == COMMENTED


@pytest.mark.parametrize(
    "text",
    [
        f'token = {{gpu = {{role = "worker", sha256 = ["{A}"]}}}}\n',
        f'token.gpu.role = "worker"\ntoken.gpu.sha256 = ["{A}"]\nmode = "log"\n',
        f'[token]\ngpu.role = "worker"\ngpu.sha256 = ["{A}"]\n',
        f'[token.gpu]\r\nrole = "worker"\r\nsha256 = ["{A}"]\r\n',
        f'\ufeff[token."gpu"]\nrole = "worker"\nsha256 = ["{A}"]',
        f'[token.gpu]\nrole="worker"\nsha256=["{A}"]\n[token.z]\nrole="reader"\nsha256=[]\n',
    ],
)
def test_any_form_of_toml_is_edited_rightly_or_refused(path: Path, text: str) -> None:
    edits: tuple[Callable[[], Edit], ...] = (
        lambda: set_mode(path, Mode.ENFORCE),
        lambda: rotate_token(path, "gpu", B, None, NOW),
        lambda: revoke_token(path, "gpu", only_old=False),
        lambda: create_token(path, Token("new.x", Role.READER, (C,))),
    )
    for edit in edits:
        path.write_text(text)
        before = read_tokens_file(path)
        try:
            edit()
        except UsageError as error:
            assert "its form is unusual" in str(error)  # noqa: PT017 - most forms raise nothing
            assert path.read_text() == text
        else:
            after = read_tokens_file(path)
            assert after != before
            assert after.mode in (before.mode, Mode.ENFORCE)


def test_edits_at_the_same_time_lose_nothing(path: Path) -> None:
    def create(number: int) -> None:
        create_token(path, Token(f"t{number}", Role.READER, (sha256_of(str(number)),)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, range(24)))
    assert {f"t{number}" for number in range(24)} < set(read_tokens_file(path).tokens)
    assert "# The end." in path.read_text()


def test_a_process_that_is_killed_in_an_edit_leaves_a_whole_file(path: Path) -> None:
    """Killed at each system call on the file in turn, until an edit gets through."""
    before, outcomes = read_tokens_file(path).tokens, []
    for at in range(50):
        path.write_text(COMMENTED)
        done = subprocess.run([sys.executable, "-c", KILLED, str(at), str(path)], check=False, timeout=120)
        tokens = dict(read_tokens_file(path).tokens)
        outcomes.append("new" in tokens)
        tokens.pop("new", None)
        assert tokens == before
        assert done.returncode in (0, -9)
        if done.returncode == 0:
            break
    assert outcomes[0] is False
    assert outcomes[-1] is True
    assert len(outcomes) > 3
    assert set(path.parent.iterdir()) == {path}


def test_no_edit_makes_a_file_that_no_controller_reads(path: Path) -> None:
    with path.open("a") as file:
        file.write("#" * (LARGEST_FILE - path.stat().st_size))
    before = path.read_bytes()
    with refused("would be larger than 1 MiB, and is left as it was"):
        rotate_token(path, "gpu", B, None, NOW)
    assert path.read_bytes() == before
    assert read_tokens_file(path).tokens


def test_a_rotate_is_taken_back(path: Path) -> None:
    before = read_tokens_file(path).tokens["gpu"]
    withdraw_token(path, "gpu", rotate_token(path, "gpu", B, NOW + timedelta(days=1), NOW))
    after = read_tokens_file(path).tokens["gpu"]
    assert (after.sha256, after.revoked_sha256, after.expires) == (before.sha256, (B,), None)


def test_a_rotate_is_taken_back_after_another_edit(path: Path) -> None:
    edit = rotate_token(path, "gpu", B, NOW + timedelta(days=1), NOW)
    revoke_token(path, "gpu", only_old=True)
    withdraw_token(path, "gpu", edit)
    after = read_tokens_file(path).tokens["gpu"]
    assert (after.sha256, after.revoked_sha256) == ((), (B, A))


def test_a_create_is_taken_back(path: Path) -> None:
    token = Token("new", Role.READER, (B,))
    withdraw_token(path, "new", create_token(path, token))
    assert read_tokens_file(path).tokens["new"].is_revoked
    create_token(path, Token("new", Role.OPERATOR, (sha256_of("d"),)))
    assert read_tokens_file(path).tokens["new"].revoked_sha256 == (B,)

"""The tokens file while a controller runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.auth.tokens import Mode, sha256_of
from dbgpt_ctl.auth.tokens_file import TokensFile, parse_tokens_file
from dbgpt_ctl.controller.auth import tokens_in_force
from dbgpt_ctl.controller.auth.tokens_in_force import InForce, TokensInForce
from dbgpt_ctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def content(mode: str | None, *names: str) -> str:
    head = "" if mode is None else f'mode = "{mode}"\n'
    return head + "".join(f'[token.{name}]\nrole = "reader"\nsha256 = ["{sha256_of(name)}"]\n' for name in names)


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Replaces the file at once, as an editor or `ctl token` does."""
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.chmod(mode)
    draft.replace(path)


class Followed:
    """Tokens in force, and each of them that came into force."""

    def __init__(self, path: Path | None, setting: Mode = Mode.OFF, *, must_authenticate: bool = False) -> None:
        self.used: list[InForce] = []
        self.tokens = TokensInForce(path, setting, self.used.append, must_authenticate=must_authenticate)

    def names(self) -> list[list[str]]:
        return [sorted(each.file.tokens) if each.file else [] for each in self.used]


def test_the_mode_of_the_file_goes_before_the_setting(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    for of_file, setting, expected in [
        ("enforce", Mode.OFF, (Mode.ENFORCE, True)),
        ("off", Mode.ENFORCE, (Mode.OFF, True)),
        (None, Mode.LOG, (Mode.LOG, False)),
    ]:
        write(path, content(of_file, "a"))
        followed = Followed(path, setting)
        followed.tokens.read_first()
        assert (followed.used[0].mode, followed.used[0].in_file) == expected


def test_without_a_file_the_setting_is_in_force() -> None:
    followed = Followed(None, Mode.LOG)
    followed.tokens.read_first()
    assert followed.used == [InForce(Mode.LOG, None, in_file=False)]


def test_a_change_comes_into_force_and_a_file_that_is_wrong_does_not(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    write(path, content("enforce", "a"))
    followed = Followed(path)
    followed.tokens.read_first()

    async def looks() -> None:
        await followed.tokens.look()
        assert followed.names() == [["a"]]
        write(path, content("enforce", "a", "b"))
        await followed.tokens.look()
        assert followed.names() == [["a"], ["a", "b"]]
        spoilers: list[Callable[[], object]] = [
            lambda: write(path, "mode ="),
            path.unlink,
            lambda: write(path, content("off"), 0o666),
        ]
        for spoil in spoilers:
            spoil()
            await followed.tokens.look()
            assert followed.tokens.problem is not None
            assert len(followed.used) == 2
        path.chmod(0o600)
        await followed.tokens.look()
        assert followed.tokens.problem is None
        assert followed.used[2].mode is Mode.OFF

    asyncio.run(looks())


def test_a_problem_that_goes_without_a_change_of_the_file_is_over(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    write(path, content("log", "a"))
    followed = Followed(path)
    followed.tokens.read_first()
    tmp_path.chmod(0o777)
    write(path, content("enforce", "a"))
    asyncio.run(followed.tokens.look())
    assert "its folder" in str(followed.tokens.problem)
    tmp_path.chmod(0o700)
    asyncio.run(followed.tokens.look())
    assert followed.tokens.problem is None
    assert followed.used[1].mode is Mode.ENFORCE


def test_a_file_that_was_cut_off_opens_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    write(path, content("enforce", "a"))
    followed = Followed(path)
    followed.tokens.read_first()

    async def looks() -> None:
        for text, problem in [
            ("", "is empty"),
            ("\n", "is empty"),
            (content(None, "a"), 'says no mode any more: write mode = "enforce" as before'),
            ('mode = "en', "not TOML"),
        ]:
            path.write_text(text)
            await followed.tokens.look()
            assert problem in str(followed.tokens.problem)
        assert len(followed.used) == 1
        path.write_text(content("off", "a"))  # said on purpose
        await followed.tokens.look()
        assert followed.tokens.problem is None
        assert followed.used[1].mode is Mode.OFF

    asyncio.run(looks())


def test_a_file_that_is_written_in_parts_is_read_when_it_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tokens.toml"
    write(path, content("enforce", "a"))
    followed = Followed(path)
    followed.tokens.read_first()
    parts = [content("enforce", "a", "b")[:length] for length in (17, 100, 400)]
    sleep = asyncio.sleep

    async def writing(_secs: float) -> None:
        if parts:
            path.write_text(parts.pop(0))
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", writing)
    path.write_text("")
    asyncio.run(followed.tokens.look())
    assert followed.names() == [["a"], ["a", "b"]]
    assert followed.tokens.problem is None


def test_the_same_mistake_is_not_parsed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tokens.toml"
    write(path, content("log", "a"))
    followed = Followed(path)
    followed.tokens.read_first()
    parsed: list[bytes] = []

    def parse(data: bytes, *others: Any) -> TokensFile:
        parsed.append(data)
        return parse_tokens_file(data, *others)

    monkeypatch.setattr(tokens_in_force, "parse_tokens_file", parse)

    async def looks() -> None:
        for text, problem in [("mode =", "not TOML"), ('mode = "x"', "not one of"), (content("log", "b"), None)]:
            write(path, text)
            for _ in range(3):
                await followed.tokens.look()
                assert (problem is None) is (followed.tokens.problem is None)
                assert problem is None or problem in str(followed.tokens.problem)

    asyncio.run(looks())
    assert len(parsed) == 3
    assert followed.names()[-1] == ["b"]


def test_a_link_that_is_exchanged_is_followed(tmp_path: Path) -> None:
    """As Kubernetes does with a Secret: tokens.toml -> ..data/tokens.toml, ..data -> a folder of this version."""
    for version, name in (("v1", "a"), ("v2", "b")):
        (tmp_path / version).mkdir()
        write(tmp_path / version / "tokens.toml", content(None, name), 0o644)
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "tokens.toml").symlink_to("..data/tokens.toml")
    followed = Followed(tmp_path / "tokens.toml")
    followed.tokens.read_first()
    (tmp_path / "..new").symlink_to("v2")
    (tmp_path / "..new").replace(tmp_path / "..data")
    asyncio.run(followed.tokens.look())
    assert followed.names() == [["a"], ["b"]]


def test_a_file_that_says_no_mode_any_more_does_not_turn_the_check_off(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    write(path, content("enforce", "a"))
    followed, with_setting = Followed(path), Followed(path, Mode.ENFORCE)
    for each in (followed, with_setting):
        each.tokens.read_first()
    write(path, content(None, "b"))
    for each in (followed, with_setting):
        asyncio.run(each.tokens.look())
    assert "says no mode any more" in str(followed.tokens.problem)
    assert 'mode = "enforce"' in str(followed.tokens.problem)
    assert followed.names() == [["a"]]
    assert with_setting.names() == [["a"], ["b"]]  # nothing is opened
    write(path, content("off", "a"))
    asyncio.run(followed.tokens.look())
    assert (followed.tokens.problem, followed.used[-1].mode) == (None, Mode.OFF)
    write(path, content(None, "a", "b"))
    asyncio.run(followed.tokens.look())
    assert (followed.tokens.problem, followed.names()[-1]) == (None, ["a", "b"])


def test_a_required_authentication_is_not_turned_off(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    write(path, content("enforce", "a"))
    followed = Followed(path, must_authenticate=True)
    followed.tokens.read_first()
    write(path, content("off", "a"))
    asyncio.run(followed.tokens.look())
    assert "--require-auth" in str(followed.tokens.problem)
    assert len(followed.used) == 1
    with pytest.raises(UsageError, match="--require-auth"):
        Followed(path, must_authenticate=True).tokens.read_first()


def test_the_file_is_followed_and_a_problem_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tokens_in_force, "LOOK_SECS", 0.01)
    path = tmp_path / "tokens.toml"
    write(path, content("enforce", "a"))
    followed = Followed(path)
    followed.tokens.read_first()

    async def follow() -> None:
        async with followed.tokens.followed():
            path.rename(tmp_path / "gone")
            while followed.tokens.problem is None:
                await asyncio.sleep(0.01)
            write(path, content("enforce", "b"))
            while len(followed.used) < 2:
                await asyncio.sleep(0.01)
            while "can be used again" not in caplog.text:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(follow(), 30))
    assert caplog.text.count("stay in force") == 1
    assert followed.names() == [["a"], ["b"]]

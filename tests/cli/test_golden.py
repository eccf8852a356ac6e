"""What a person sees of each verb, in each format, on a terminal and in a pipe: as it is kept in `golden/`.

    CTL_UPDATE_GOLDEN=1 python -m pytest tests/cli/test_golden.py      writes the files anew; then look at the diff

`␛` is the character ESC. `stderr: ` starts what is written to stderr. Views that see the same share one block.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from datetime import timedelta
from difflib import unified_diff
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.clusters import stock_controller
from tests.cli.golden.commands import CHANGES, CONTEXTS, FAILURES, NOBODY, READS, TOKENS
from tests.cli.golden.stage import CTL, NOW, VIEWS, Cluster, View, cluster, readable, seen
from tests.cli.test_process import on_terminal
from tests.support.fake_controller import fake_controller, listed
from tests.support.process import start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.cli.conftest import Run

FOLDER = Path(__file__).parent / "golden"
STATUSES = {"not-allowed": 401, "failed": 500, "leaving": 503}
NOT_SHOWN = {"models ping", "serve", "completion", "help", "version", "db upgrade", "db check", "auth status"}
"""They have tests of their own: a ping asks workers, completion prints what completions/ holds, this cluster has no
tokens, the others run on a server.
"""
UPDATES = bool(os.environ.get("CTL_UPDATE_GOLDEN"))
INSTANCES = """\
instances:
  - {model: qwen2.5, host: 10.0.0.4, port: 8001, weight: 3, enabled: false}
  - {model: qwen2.5, host: 10.0.0.5, port: 8001, weight: 2}
  - {model: qwen2.5, host: 10.0.0.6, port: 8001}
  - {model: 深度求索, host: worker-8, port: 8001, prompt_template: chat}
"""
BROKEN = "instances:\n  - {model: qwen2.5, hots: h, port: 99999}\n  - {model: qwen2.5, host: h}\n"


@pytest.fixture(autouse=True)
def place(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with files for apply, a clean environment, no proxy and no contexts."""
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", "home/me")  # relative: it is shown, and the test's folder has another name each time
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    (tmp_path / "instances.yaml").write_text(INSTANCES)
    (tmp_path / "broken.yaml").write_text(BROKEN)
    return tmp_path


def compare(name: str, blocks: Sequence[str]) -> None:
    file, found = FOLDER / f"{name}.txt", "\n".join(blocks)
    if UPDATES:
        assert not os.environ.get("CI"), "CTL_UPDATE_GOLDEN is set: nothing would be tested"
        file.write_text(found, encoding="utf-8")
    kept = file.read_text(encoding="utf-8") if file.exists() else ""
    diff = "".join(
        unified_diff(kept.splitlines(keepends=True), found.splitlines(keepends=True), f"golden/{name}.txt", "now")
    )
    if diff:
        pytest.fail(f"{diff}\nCTL_UPDATE_GOLDEN=1 keeps it as it is now", pytrace=False)


def block(args: Sequence[str], look: Callable[[View], str]) -> str:
    """One command line in all views; the views that see the same are told once."""
    by_text: dict[str, list[str]] = {}
    for view in VIEWS:
        by_text.setdefault(look(view), []).append(view.name)
    parts = [
        f"---- {'everywhere' if len(by_text) == 1 else ' | '.join(names)}\n{text}" for text, names in by_text.items()
    ]
    return f"==== ctl {' '.join(args)}\n{''.join(parts)}"


def look(args: Sequence[str], view: View) -> str:
    filled = [arg.replace("{controller}", os.environ.get("CONTROLLER_ADDRESS", "")) for arg in args]
    return readable(seen(filled, view))


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch, place: Path) -> Iterator[Cluster]:
    with cluster() as found:
        monkeypatch.setenv("CONTROLLER_ADDRESS", found.url)
        yield found


@pytest.mark.parametrize("name", READS)
def test_reads(there: Cluster, name: str) -> None:
    compare(name, [block(args, partial(look, args)) for args in READS[name]])


@pytest.mark.parametrize("name", CHANGES)
def test_changes(there: Cluster, name: str) -> None:
    def look_anew(args: Sequence[str], view: View) -> str:
        there.renew()
        return look(args, view)

    compare(name, [block(args, partial(look_anew, args)) for args in CHANGES[name]])


@pytest.mark.parametrize(("name", "lines"), [("context", CONTEXTS), ("token", TOKENS)])
def test_files(monkeypatch: pytest.MonkeyPatch, place: Path, name: str, lines: Sequence[Sequence[str]]) -> None:
    """Each view has a file of contexts and a tokens file of its own, which grow from line to line."""
    monkeypatch.setenv("CONTROLLER_TOKENS_FILE", "tokens.toml")

    def look_there(args: Sequence[str], view: View) -> str:
        folder = place / view.name
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        return look(args, view)

    compare(name, [block(args, partial(look_there, args)) for args in lines])


@pytest.mark.parametrize("name", FAILURES)
def test_failures(monkeypatch: pytest.MonkeyPatch, place: Path, name: str) -> None:
    with failing(name) as url:
        monkeypatch.setenv("CONTROLLER_ADDRESS", url)
        compare(f"failure-{name}", [block(args, partial(look, args)) for args in FAILURES[name]])


@contextmanager
def failing(how: str) -> Iterator[str]:
    """A controller that does not do what it should; its URL."""
    if how == "stock":
        beat = (NOW - timedelta(seconds=15)).replace(tzinfo=None).isoformat()  # as DB-GPT does, without an offset
        hosts = {"10.0.0.4": True, "10.0.0.5": False}
        with stock_controller(
            [listed("qwen2.5@llm", host, healthy=healthy, last_heartbeat=beat) for host, healthy in hosts.items()]
        ) as fake:
            fake.date = format_datetime(NOW, usegmt=True)
            yield fake.url
    elif how in STATUSES:
        with fake_controller(status=STATUSES[how], health=STATUSES[how], body={"detail": "so says the test"}) as fake:
            yield fake.url
    else:
        yield NOBODY


def test_every_verb_is_shown() -> None:
    lines = [
        args
        for told in (READS, CHANGES, {"context": CONTEXTS, "token": TOKENS})
        for each in told.values()
        for args in each
    ]
    shown = {" ".join(args[: 2 if args[0] in ("models", "context", "token", "auth") else 1]) for args in lines}
    assert shown == set(verbs()) - NOT_SHOWN


def verbs() -> Iterator[str]:
    for name in CTL.commands:  # type: ignore[attr-defined]
        command = CTL.get_command(None, name)  # type: ignore[attr-defined]
        yield from [f"{name} {each}" for each in getattr(command, "commands", {})] or [name]


def test_the_folder_holds_nothing_else() -> None:
    names = {*READS, *CHANGES, "context", "token", *(f"failure-{name}" for name in FAILURES)}
    assert {file.stem for file in FOLDER.glob("*.txt")} == names


@pytest.mark.parametrize(("columns", "env"), [(80, {}), (200, {}), (80, {"NO_COLOR": "1"})])
@pytest.mark.parametrize("line", ["models list", "models list -o wide", "status"])
def test_a_real_terminal_shows_the_same(there: Cluster, line: str, columns: int, env: dict[str, str]) -> None:
    """Else the golden files would be of a terminal that nobody has."""
    real = "".join(f"{each}\n" for each in on_terminal(*line.split(), "-a", there.url, columns=columns, **env))
    assert readable(f"{real}exit 0\n") == look(line.split(), View("", columns, tuple(env.items())))


def test_ctrl_c_ends_a_wait(place: Path) -> None:
    with fake_controller() as fake, start("wait", "qwen2.5", "--every", "10ms", "-a", fake.url) as process:
        assert process.stderr
        while len(fake.requests) < 2:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == -signal.SIGINT
        assert process.stderr.read() == ""


@pytest.mark.parametrize("line", ["status", "why qwen2.5 --no-probe", "diff -f instances.yaml"])
def test_a_reader_that_is_gone_ends_it_with_141(there: Cluster, place: Path, line: str) -> None:
    process = start(*line.split(), "--quiet", "-a", there.url, cwd=place)
    assert process.stdout
    assert process.stderr
    with process:
        process.stdout.close()
        told = process.stderr.read()
    assert process.returncode == 141
    assert told == ""

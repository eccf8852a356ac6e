"""Anything wrong in the arguments exits with 2, names the value, and sends nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.verbs import COMMAND

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Run
    from tests.support.fake_controller import FakeController

REGISTER = ["models", "register"]
BAD = [
    ([*REGISTER, "qwen"], "qwen"),
    ([*REGISTER, "qwen/h"], "qwen/h"),
    ([*REGISTER, "qwen:8001"], "qwen:8001"),
    ([*REGISTER, "two@at@llm/h:1"], "two@at@llm"),
    ([*REGISTER, "@llm/h:1"], "@llm/h:1"),
    ([*REGISTER, "qwen@/h:1"], "qwen@/h:1"),
    ([*REGISTER, "/h:1"], "/h:1"),
    ([*REGISTER, "qwen/:1"], "qwen/:1"),
    ([*REGISTER, "qwen/h:0"], "'qwen/h:0': port 0"),
    ([*REGISTER, "qwen/h:65536"], "65536"),
    ([*REGISTER, "qwen/h:-1"], "-1"),
    ([*REGISTER, "qwen/h:80x"], "80x"),
    ([*REGISTER, "qwen/h:1.5"], "1.5"),
    ([*REGISTER, "qwen/h h:1"], "h h"),
    ([*REGISTER, "qwen/user@h:1"], "user@h"),
    ([*REGISTER, "qwen/::1"], "write qwen/[::1]:PORT"),
    ([*REGISTER, "qwen/http://h:1"], "write qwen/h:1"),
    ([*REGISTER, "qwen/h:1", "--weight", "-1"], "weight '-1' is negative"),
    ([*REGISTER, "qwen/10.0.0.4:80:81"], "10.0.0.4:80"),
    ([*REGISTER, "http://h:1/x:y"], "'y'"),
    ([*REGISTER, "\x00/h:1"], "\\x00"),
    ([*REGISTER, "q" * 129 + "/h:1"], "qqq"),
    ([*REGISTER, "good/h:1", "bad/h:0"], "bad/h:0"),
    ([*REGISTER, "qwen@reranker/h:1", "--type", "llm"], "llm"),
    ([*REGISTER, "qwen/h:1", "--type", "l@m"], "l@m"),
    ([*REGISTER, "qwen/h:1", "--type", " "], "--type ' '"),
    ([*REGISTER, "qwen/h:1", "--host", "g", "--port", "1"], "qwen/h:1"),
    ([*REGISTER, "qwen", "--host", "h"], "--host 'h' without --port"),
    ([*REGISTER, "qwen", "--port", "1"], "--port '1' without --host"),
    ([*REGISTER, "qwen", "glm", "--host", "h", "--port", "1"], "'glm'"),
    ([*REGISTER, "qwen", "--host", "http://h", "--port", "1"], "http://h"),
    ([*REGISTER, "qwen", "--host", "h", "--port", "0x50"], "0x50"),
    ([*REGISTER, "qwen/h:1", "--weight", "nan"], "nan"),
    ([*REGISTER, "qwen/h:1", "--weight", "heavy"], "heavy"),
    ([*REGISTER, "qwen/h:1", "--prompt-template", "a\nb"], "a\\nb"),
    ([*REGISTER, "qwen/h:1", "-o", "table"], "table"),
    ([*REGISTER], "NAME[@TYPE]/HOST:PORT"),
    (["models", "deregister", "qwen/h:1", "qwen/h:70000"], "70000"),
    (["models", "deregister", r"\x20qwen/h:1"], "' qwen"),
    (["models", "heartbeat", "qwen/h:1", "--every", "0"], "'0'"),
    (["models", "heartbeat", "qwen/h:1", "--every", "-5s"], "-5s"),
    (["models", "heartbeat", "qwen/h:1", "--every", "10 parsecs"], "10 parsecs"),
    (["models", "heartbeat", "qwen/h:1", "--every", "25h"], "25h"),
    (["models", "prune", "--older-than", "7"], "--older-than '7' has no unit of time: write 7s, 7m, 7h or 7d"),
    (["models", "list", "two@at@llm"], "two@at@llm"),
    (["models", "list", ""], "model '' has no name"),
    (["wait", "@llm"], "model '@llm' has no name"),
    (["models", "list", "a", "b"], "b"),
    (["models", "list", "-o", "xml"], "xml"),
    (["models", "list", "--type", "a@b"], "a@b"),
    (["models", "list", "--sideways"], "--sideways"),
    (["models", "list", "--request-timeout", "soon"], "soon"),
    (["models", "list", "--request-timeout", "0"], "'0'"),
    (["models", "list", "--address", "ftp://h"], "ftp://h"),
    (["models", "list", "--address", "http://h:99999"], "99999"),
    (["models", "list", "--env-file", "no-such.env"], "no-such.env"),
    (["models", "lst"], "No such command 'lst'. Did you mean 'list'? See 'ctl models --help'.\n"),
    (
        ["models", "list", "--helthy-only"],
        "--helthy-only. Did you mean --healthy-only? See 'ctl models list --help'.\n",
    ),
    (["health", "extra"], "extra"),
    (["completion", "powershell"], "'powershell' is not one of bash, zsh, fish"),
    (["drain", "qwen/h:1"], "No such command 'drain'. Did you mean `ctl models drain`?\n"),
    (
        ["help", "list"],
        "No such command 'list'. Did you mean `ctl models list` or `ctl context list` or `ctl token list`?\n",
    ),
    (["bogus"], "bogus"),
    (["--bogus"], "--bogus"),
]


@pytest.mark.parametrize(("args", "named"), BAD, ids=[" ".join(args)[:60] for args, _ in BAD])
def test_wrong_usage(run: Run, fake: FakeController, args: list[str], named: str) -> None:
    done = run(*args, expect=2)
    assert done.out == ""
    assert done.err.startswith("ctl: ")
    assert done.err.count("\n") == 1
    assert named in done.err
    assert fake.requests == []


TIMES = {
    "--request-timeout": ["models", "list"],
    "--every": ["wait", "qwen"],
    "--timeout": ["wait", "qwen"],
    "--max-age": ["assert", "qwen"],
    "--older-than": ["models", "prune"],
    "--since": ["events"],
    "--for": ["models", "drain", "qwen/h:1"],
    "--expires": ["token", "create", "gpu", "--role", "worker"],
}
OF_MORE_VERBS = [
    ["models", "list", "--watch", "--every", "5"],
    ["models", "heartbeat", "qwen/h:1", "--every", "5"],
    ["models", "drain", "qwen/h:1", "--wait", "--timeout", "5"],
    ["models", "undrain", "qwen/h:1", "--wait", "--timeout", "5"],
    ["context", "set", "prod", "--request-timeout", "5"],
]


@pytest.mark.parametrize(
    "args", [*([*verb, option, "5"] for option, verb in TIMES.items()), *OF_MORE_VERBS], ids=" ".join
)
def test_a_time_without_a_unit_is_refused(run: Run, fake: FakeController, args: list[str]) -> None:
    done = run(*args, expect=2)
    assert "'5' has no unit of time: write 5s, 5m" in done.err
    assert fake.requests == []


def test_the_list_of_times_is_complete() -> None:
    found = {param.opts[0] for param in parameters(COMMAND) if param.metavar == "TIME"}
    assert found == set(TIMES)


def parameters(command: Any) -> Iterator[Any]:
    """The parameters of the command and of all commands below it."""
    yield from command.params
    for name in getattr(command, "commands", ()):
        yield from parameters(command.get_command(None, name))


@pytest.mark.parametrize("args", [[], ["models"]])
def test_a_noun_alone_shows_its_help(run: Run, args: list[str]) -> None:
    done = run(*args)
    assert done.out == run(*args, "--help").out == run(*args, "-h").out
    assert done.out.startswith(" ".join(["Usage: ctl", *args]))


@pytest.mark.parametrize("verb", ["list", "register", "deregister", "heartbeat"])
def test_every_verb_has_help_that_fits(run: Run, verb: str) -> None:
    out = run("models", verb, "--help").out
    for option in ("-a, --address", "--request-timeout", "-o, --output", "--env-file", "CONTROLLER_ADDRESS"):
        assert option in out
    assert max(map(len, out.splitlines())) <= 80
    assert "str" not in out


@pytest.mark.parametrize("args", [["why", "qwen", "--ping", "metadata"], ["doctor", "--ping", "metadata"]])
def test_a_value_after_a_space_gets_a_hint(run: Run, fake: FakeController, args: list[str]) -> None:
    done = run(*args, expect=2)
    assert "; a value follows = and no space: did you mean --ping=metadata? See 'ctl " in done.err
    assert done.err.count("\n") == 1
    assert fake.requests == []

"""Lines of shell that call `ctl`, as they stand in documents and in alerts: do the commands and flags exist?"""

from __future__ import annotations

import shlex
from typing import Any

import typer

from dbgpt_ctl.cli import app


def unknown_flags(line: str) -> set[str]:
    """Flags of `ctl` in a line of shell that the command has not. Fails for a command that is none."""
    unknown: set[str] = set()
    for words in ctl_calls(line):
        command, rest = resolved(words)
        flags = {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)}
        options = rest[: rest.index("--")] if "--" in rest else rest
        used = {word.partition("=")[0] for word in options if word.startswith("-") and word != "-"}
        unknown |= used - flags - {"--help", "-h"}
    return unknown


def ctl_calls(line: str) -> list[list[str]]:
    """The words after each `ctl` in a line of shell, up to a pipe, a redirection or the next command."""
    lexer = shlex.shlex(line.replace(".venv/bin/ctl", "ctl"), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    calls: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("|&;<>()"):
            calls.append([])
        else:
            calls[-1].append(word)
    return [words[words.index("ctl") + 1 :] for words in calls if "ctl" in words]


def resolved(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words name, and the words after its name."""
    command: Any = typer.main.get_command(app)
    while words and getattr(command, "commands", None):
        assert words[0] in command.commands or words[0].startswith("-"), f"there is no command {words[0]}"
        if words[0].startswith("-"):
            break
        command, words = command.get_command(None, words[0]), words[1:]
    return command, words


def parse(line: str) -> None:
    """Parses the one call of `ctl` in a line, and raises what the command raises where that is not possible."""
    (words,) = ctl_calls(line)
    command, rest = resolved(words)
    command.make_context(command.name, list(rest))

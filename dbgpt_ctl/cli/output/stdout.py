"""Writes data to stdout, messages and questions to stderr. But for `status_line`, no other module writes to either."""

from __future__ import annotations

import os
import re
import shutil
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.errors import CtlError
from dbgpt_ctl.text.escaping import defused, escaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dbgpt_ctl.cli.output.table import Column


class OutputFormat(StrEnum):
    """The values of `-o`; each command takes some of them. json, yaml and csv hold the API's own keys and values."""

    TABLE = "table"
    WIDE = "wide"
    TEXT = "text"
    JSON = "json"
    YAML = "yaml"
    CSV = "csv"
    NAME = "name"


class PipeClosed(CtlError):
    """The reader of stdout closed the pipe, as `head` does. No message; 128 + SIGPIPE, as 130 is 128 + SIGINT."""

    exit_code = 141


_LONGEST_ANSWER = 1000
_BEYOND_ASCII = re.compile(r"[^\n -~]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NUMBER_OF_YAML = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|0o[0-7]+")
FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""A spreadsheet reads a cell that starts with one of these, of ASCII or of double width, as a formula; csv output puts
a `'` before such text. A tab or a line break before it is an escape by then, and a number is no text.
"""


def say(line: str) -> None:
    """Writes a message to stderr."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(f"ctl: {defused(line)}\n")  # one write, because `ctl health -v` writes from several threads
        sys.stderr.flush()
    except OSError:
        _discard(sys.stderr)


def ask(question: str) -> str:
    """Writes a question to stderr and returns the line that a person types; empty at the end of the input.

    `typer.confirm` asks again until it understands the answer, and turns the end of the input into an error of its own.
    """
    sys.stderr.write(f"ctl: {defused(question)}")
    sys.stderr.flush()
    answer = sys.stdin.readline(_LONGEST_ANSWER)
    if not answer.endswith("\n"):
        sys.stderr.write("\n")
    return answer


def print_lines(lines: Iterable[str]) -> None:
    """Writes lines to stdout and flushes them. Characters that its encoding lacks are escaped."""
    print_raw("".join(f"{line}\n" for line in lines))


def print_raw(text: str) -> None:
    """Writes text to stdout as it is and flushes it."""
    stream = _stdout()
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        _discard(stream)
        if isinstance(error, BrokenPipeError):
            raise PipeClosed("the reader of the output is gone") from error
        raise CtlError(f"cannot write the output: {error.strerror or error}") from error


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Writes a JSON document in which every character that a terminal obeys or hides is escaped."""
    print_lines([json_text(value, indent=indent)])


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON with letters of any script as they are, and JSON's own escapes for what is not printable."""
    import json

    text = json.dumps(value, ensure_ascii=not _encodes_unicode(), indent=indent)
    return _BEYOND_ASCII.sub(lambda match: match[0] if match[0].isprintable() else _json_escape(match[0]), text)


def print_yaml(value: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> None:
    """Writes a YAML document. If a text in it is not printable, everything beyond ASCII is escaped."""
    import json

    import yaml

    text = json.dumps(value, ensure_ascii=False)
    plain = _encodes_unicode() and text.isprintable()
    # The fast dumper fails at surrogates.
    dumper: Any = yaml.SafeDumper if _SURROGATE.search(text) else getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    # No anchors: people and other tools read a value where it stands, also when it stands there twice.
    dumper = type("Dumper", (dumper,), {"ignore_aliases": lambda _dumper, _data: True})
    dumper.add_representer(str, _yaml_text)
    dumped = yaml.dump(json.loads(text), Dumper=dumper, allow_unicode=plain, sort_keys=False, width=2**30)
    print_lines([dumped.rstrip("\n")])


def print_document(value: Sequence[Mapping[str, Any]] | Mapping[str, Any], form: OutputFormat) -> None:
    """Writes a JSON or YAML document; nothing for another format."""
    if form is OutputFormat.JSON:
        print_json(value)
    elif form is OutputFormat.YAML:
        print_yaml(value)


def print_csv(keys: Sequence[str], objects: Iterable[Mapping[str, Any]], *, headers: bool) -> None:
    """Writes RFC 4180 with line feeds. null is an empty cell, booleans are as in JSON, text is escaped."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if headers:
        writer.writerow(keys)
    writer.writerows([_csv_cell(row.get(key)) for key in keys] for row in objects)
    print_lines(text.getvalue().split("\n")[:-1])


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, headers: bool) -> None:
    """Writes a table: on a terminal framed and in colour unless NO_COLOR is set, in a pipe plain and never cut."""
    from dbgpt_ctl.cli.output.table import MAX_RICH_ROWS, fitted, plain

    colour = wants_colour()
    if is_terminal() and len(rows) <= MAX_RICH_ROWS:
        width = shutil.get_terminal_size().columns
        print_lines(fitted(columns, rows, width=width, colour=colour, headers=headers))
    else:
        print_lines(plain(columns, rows, headers=headers, colour=colour))


def is_terminal() -> bool:
    """Whether stdout is a terminal."""
    return bool(_stdout().isatty())


def wants_colour() -> bool:
    """Whether stdout is a terminal with colours."""
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _stdout() -> Any:
    if sys.stdout is None:
        raise CtlError("cannot write the output: standard output is closed")
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    return sys.stdout


def _discard(stream: Any) -> None:
    """Sends the stream's buffer to /dev/null: Python flushes it at exit, and would print an error."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, stream.fileno())
    os.close(devnull)


def _yaml_text(dumper: Any, text: str) -> Any:
    """A text with quotes where it looks like a number to a reader of YAML 1.2, such as `1e5`; PyYAML knows 1.1 only."""
    return dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="'" if _NUMBER_OF_YAML.fullmatch(text) else None
    )


def _encodes_unicode() -> bool:
    return (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "").startswith("utf")


def _json_escape(char: str) -> str:
    import json

    return f"\\u{ord(char):04x}" if char == "\x7f" else json.dumps(char)[1:-1]


def _csv_cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return value
    text = escaped(value)
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text

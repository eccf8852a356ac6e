"""What the commands print: data on stdout, and only here; talk on stderr."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.cli.output.escaping import defused, escaped
from dbgpt_ctl.errors import CtlError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from dbgpt_ctl.cli.output.table import Column


class Format(StrEnum):
    """The values of `-o`. json, yaml and csv hold the API's own keys and values."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    CSV = "csv"
    NAME = "name"


class PipeClosed(CtlError):
    """Who read stdout has seen enough: nothing to say. 128 + SIGPIPE, as 130 is 128 + SIGINT."""

    exit_code = 141


_BEYOND_ASCII = re.compile(r"[^\n -~]")
_SURROGATE = re.compile("[\ud800-\udfff]")
FORMULA_STARTS = ("=", "+", "-", "@")
"""A spreadsheet takes a cell that starts with one of these for a formula; in csv such text gets a `'` before it."""


def say(line: str) -> None:
    """A line for the person, on stderr."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(f"ctl: {defused(line)}\n")  # at once: `ctl health` talks from several threads
        sys.stderr.flush()
    except OSError:
        _let_go_of(sys.stderr)


def print_lines(lines: Iterable[str]) -> None:
    """Lines on stdout, as they are; at once, also in a pipe. Characters that its encoding lacks come out as escapes."""
    print_raw("".join(f"{line}\n" for line in lines))


def print_raw(text: str) -> None:
    """As `print_lines`, without line ends of its own."""
    stream = _stdout()
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        _let_go_of(stream)
        if isinstance(error, BrokenPipeError):
            raise PipeClosed("the reader of the output is gone") from error
        raise CtlError(f"cannot write the output: {error.strerror or error}") from error


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """A JSON document, in which no character that a terminal obeys or hides is raw."""
    print_lines([json_text(value, indent=indent)])


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON: letters of any script as they are, all that is not printable as JSON's own escapes."""
    import json

    text = json.dumps(value, ensure_ascii=not _speaks_unicode(), indent=indent)
    return _BEYOND_ASCII.sub(lambda found: found[0] if found[0].isprintable() else _json_escape(found[0]), text)


def print_yaml(value: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> None:
    """A YAML document; with a text in it that is not printable, everything beyond ASCII is escaped."""
    import yaml

    texts = list(_texts(value))
    plain = _speaks_unicode() and all(text.isprintable() for text in texts)
    whole = all(text.isascii() or not _SURROGATE.search(text) for text in texts)
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper) if whole else yaml.SafeDumper  # the fast one fails at them
    # No anchors: what stands there twice is read by other tools, and by people, where it stands.
    dumper = type("Dumper", (dumper,), {"ignore_aliases": lambda _dumper, _data: True})
    plain_value = value if isinstance(value, Mapping) else list(value)
    dumped = yaml.dump(plain_value, Dumper=dumper, allow_unicode=plain, sort_keys=False, width=2**30)
    print_lines([dumped.rstrip("\n")])


def print_csv(keys: Sequence[str], objects: Iterable[Mapping[str, Any]], *, headers: bool) -> None:
    """RFC 4180 with line feeds. null is an empty cell, booleans as in JSON, text is escaped and never a formula."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if headers:
        writer.writerow(keys)
    writer.writerows([_csv_cell(each.get(key)) for key in keys] for each in objects)
    print_lines(text.getvalue().split("\n")[:-1])


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, headers: bool) -> None:
    """Framed and in colour on a terminal, without both where NO_COLOR is set; in a pipe never cut nor coloured."""
    from dbgpt_ctl.cli.output.table import MAX_RICH_ROWS, fitted, plain

    on_terminal = _stdout().isatty()
    colour = on_terminal and _wants_colour()
    if on_terminal and len(rows) <= MAX_RICH_ROWS:
        width = shutil.get_terminal_size().columns
        print_lines(fitted(columns, rows, width=width, colour=colour, headers=headers))
    else:
        print_lines(plain(columns, rows, headers=headers, colour=colour))


def is_terminal() -> bool:
    """Whether a person looks at stdout."""
    return bool(_stdout().isatty())


def wants_colour() -> bool:
    """Whether stdout is a terminal that is to show colours."""
    return is_terminal() and _wants_colour()


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for pair in value.items():
            yield from _texts(pair)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def _stdout() -> Any:
    if sys.stdout is None:
        raise CtlError("cannot write the output: standard output is closed")
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    return sys.stdout


def _let_go_of(stream: Any) -> None:
    """Lets what cannot be written vanish, or Python tries again at its exit and complains."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, stream.fileno())
    os.close(devnull)


def _speaks_unicode() -> bool:
    return (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "").startswith("utf")


def _wants_colour() -> bool:
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


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

"""Where the text of a knob comes from: the environment and a .env file (flags are the caller's)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.settings.knob import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

DEFAULT_ENV_FILE = ".env"


class Found(NamedTuple):
    """A text and where it stood. `shadowed` are other spellings of the same name there, with another text."""

    text: str
    origin: str
    shadowed: tuple[str, ...] = ()


def find_variables(environ: Mapping[str, str], env_file: str | None, shared: Iterable[str] = ()) -> dict[str, Found]:
    """All CONTROLLER_ variables that are set and not empty, by their names in upper case; the environment wins.
    Those of other programs that `shared` names too, in upper case only.

    `env_file`: None reads ./.env if it is there, an empty one reads none, a named one must exist. Raises UsageError if
    it cannot be read.
    """
    in_file = {name: text for name, text in _read_env_file(env_file).items() if text is not None}
    label = env_file or DEFAULT_ENV_FILE
    wanted = tuple(shared)
    found = {name: each._replace(origin=f"{each.origin} in {label}") for name, each in _by_upper_case(in_file, wanted)}
    return found | {
        name: each._replace(origin=f"environment {each.origin}") for name, each in _by_upper_case(environ, wanted)
    }


def _by_upper_case(variables: Mapping[str, str], shared: tuple[str, ...]) -> Iterator[tuple[str, Found]]:
    """One entry for all spellings of a name. Upper case wins, as for a shell it is the usual one; then lower case."""
    spellings: dict[str, list[str]] = {}
    for name, text in variables.items():
        if text and (upper := name.upper()).startswith(PREFIX):
            spellings.setdefault(upper, []).append(name)
    yield from ((name, Found(variables[name], name)) for name in shared if variables.get(name))
    for upper, names in spellings.items():
        first, *others = sorted(names, key=lambda name: (name != name.upper(), name != name.lower(), name))
        shadowed = tuple(other for other in others if variables[other] != variables[first])
        yield upper, Found(variables[first], first, shadowed)


def _read_env_file(env_file: str | None) -> Mapping[str, str | None]:
    if env_file == "":
        return {}
    path = Path(env_file or DEFAULT_ENV_FILE).expanduser()
    if env_file is None and not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8-sig") as stream:
            from dotenv import dotenv_values  # it is slow to import, and mostly there is no such file

            return dotenv_values(stream=stream)
    except FileNotFoundError:
        raise UsageError(f"--env-file {env_file}: no such file") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not a .env file: it is not UTF-8 text") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None


def remarks_on(variables: Mapping[str, Found], known: Iterable[str]) -> list[str]:
    """One line for each variable that does not do what its writer expects: unknown names, spellings that lose."""
    names = set(known)
    remarks = []
    for name, found in variables.items():
        if not name.startswith(PREFIX):
            continue
        remarks += [f"{other} is ignored: it differs from {found.origin}" for other in found.shadowed]
        if name in names or _is_set_by_platforms(name):
            continue
        remarks.append(f"{found.origin} is not known and ignored{_did_you_mean(name, names)}")
    return remarks


def _is_set_by_platforms(name: str) -> bool:
    """Kubernetes, and Docker's links, describe a service named `controller` to every container beside it."""
    return name.startswith((f"{PREFIX}SERVICE_", f"{PREFIX}PORT_", f"{PREFIX}ENV_")) or name == f"{PREFIX}NAME"


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches  # only a typo pays for it

    close = get_close_matches(name.removeprefix(PREFIX), [each.removeprefix(PREFIX) for each in known], n=1)
    return f"; did you mean {PREFIX}{close[0]}?" if close else ""

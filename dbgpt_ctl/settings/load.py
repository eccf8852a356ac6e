"""How a setting gets its value: flag > environment > .env file > default.

A file that the caller names (--env-file) is trusted like the environment. ./.env is not: it may come with the folder of
a stranger. So it never decides where a secret goes or who is believed, and names no code to import (rule 15). Clients
do not read it. For a controller its values are taken as they stand: `${VAR}` in it would put any variable of the
environment into a value.

A field of a settings class that is made by `setting` declares one. Its variable, its flag and its row in every table
follow from the field's name. `Settings.load` is the one border where texts become checked values.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, fields
from io import StringIO
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.files import MIB, read_file
from dbgpt_ctl.settings.masking import HIDDEN, quote
from dbgpt_ctl.spelling import did_you_mean, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from dbgpt_ctl.settings.value_types import ValueType

PREFIX = "CONTROLLER_"
DEFAULT_ENV_FILE = ".env"
_LARGEST_ENV_FILE = MIB
_NAME_IT = f"if you trust that file, name it: --env-file {DEFAULT_ENV_FILE}"
_VARIABLE_IN_TEXT = re.compile(r"\$\{[^}]*\}")


class Setting(NamedTuple):
    """The declaration of one setting. `aliases` are further flags.

    `shared` are variables of other programs that set it too, while the switch `shared_with` is on.
    """

    name: str
    default: Any
    kind: ValueType
    help: str
    aliases: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    shared_with: str = ""
    trusted_only: bool = False
    """Whether ./.env may not set it."""
    is_written: bool = False
    """Whether it is a path to which a controller writes: ./.env may name only one in its folder. Another one could be
    any file of the user, such as a script of the shell, and a log holds names that callers choose.
    """
    receives: tuple[str, ...] = ()
    """The settings with the secrets that it leads somewhere, or protects on their way: ./.env may not set it while one
    of them comes from elsewhere.
    """
    secret_variables: tuple[str, ...] = ()
    """Variables from which a library takes more secrets for the same receiver."""

    @property
    def variable(self) -> str:
        """Its variable in the environment and in a .env file."""
        return PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """Its flag as help texts show it."""
        return "--" + self.name.replace("_", "-")

    def parse(self, text: str) -> Any:
        """The value; None for an empty text where the default is None. ValueError holds the end of a sentence."""
        return None if self.default is None and not text else self.kind.parse(text)

    def text(self, value: Any) -> str:
        """The value as text, without secrets; empty for None."""
        shown = self.kind.shown(value)
        return "" if value is None else str(shown).lower() if isinstance(shown, bool) else str(shown)


def setting(default: Any, kind: ValueType, text: str, **further: Any) -> Any:
    """A field of a settings class whose name is the setting's. `text` is its help: a phrase without a full stop.

    `further` are other fields of its `Setting`.
    """
    return field(default=default, metadata={"kind": kind, "help": text, **further})


def declared_settings(settings: Settings | type[Settings]) -> tuple[Setting, ...]:
    """What is declared in a settings class, or in the class of an object, in the order of its fields."""
    return tuple(
        Setting(declared.name, declared.default, **declared.metadata)
        for declared in fields(settings)
        if declared.metadata
    )


class Found(NamedTuple):
    """A text and the place where it stood. `shadowed` are other spellings of the same name there, with another text."""

    text: str
    origin: str
    shadowed: tuple[str, ...] = ()
    trusted: bool = True
    """False in ./.env."""


NOTHING: Mapping[str, Found] = MappingProxyType({})


class Effective(NamedTuple):
    """A setting with the value in force, without secrets, and the origin of the value: `flag --port`, `default` ..."""

    setting: Setting
    shown: Any
    origin: str


@dataclass(frozen=True, repr=False)
class Settings:
    """Base of the settings classes: it loads the settings, and shows them without secrets."""

    reads_folder: ClassVar[bool] = False
    """Whether ./.env counts when no file is named."""
    origins: Mapping[str, str] = field(default_factory=dict, kw_only=True, compare=False)
    """The origin of each value that is not a default, by name of setting."""
    remarks: tuple[str, ...] = field(default=(), kw_only=True, compare=False)
    """One line for each variable that is likely a mistake; never a secret."""

    @classmethod
    def load(
        cls,
        flags: Mapping[str, object],
        environ: Mapping[str, str],
        env_file: str | None = None,
        *,
        before: Mapping[str, Found] = NOTHING,
        after: Mapping[str, Found] = NOTHING,
    ) -> Self:
        """The checked settings. `flags` maps names of settings to the texts that were given, or to None.

        `env_file`: None reads ./.env if it exists and `reads_folder`, an empty one reads none, a named one must exist.
        `before` and `after` hold more texts by name of setting: they go before, and after, variables. Raises
        UsageError, which names every wrong value and its origin, or every one that may not come from ./.env.
        """
        settings = declared_settings(cls)
        if env_file is None and not cls.reads_folder:
            env_file = ""
        foreign = [name for setting in settings for name in setting.shared + setting.secret_variables]
        variables = find_variables(environ, env_file, foreign)
        given = {
            setting.name: Found(str(flags[setting.name]), f"flag {setting.flag}")
            for setting in settings
            if _is_in(flags, setting)
        }
        values: dict[str, Any] = {}
        sources: dict[str, Found] = {}
        wrong: list[str] = []
        for setting in settings:
            found = given.get(setting.name) or before.get(setting.name) or _found(setting, variables, values)
            if (found := found or after.get(setting.name)) is None:
                continue
            sources[setting.name] = found
            try:
                values[setting.name] = setting.parse(found.text)
            except (UsageError, ValueError) as error:
                wrong.append(f"{_subject(setting, found.text, error)} {error} ({found.origin})")
        if refused := list(_refused(settings, sources, values, given, variables)):
            raise UsageError(f"{'; '.join(refused)}; {_NAME_IT}")
        if wrong:
            raise UsageError("; ".join(wrong))
        origins = {name: found.origin for name, found in sources.items()}
        remarks = (*cls._remarks(variables), *_literal(sources.values()))
        return cls(**values, origins=origins, remarks=remarks).checked()

    def checked(self) -> Self:
        """The same settings, if the rules over several settings hold. Raises UsageError."""
        return self

    def effective(self) -> list[Effective]:
        """Every setting with its value in force, secrets hidden, and the origin of the value."""
        return [
            Effective(
                setting, setting.kind.shown(getattr(self, setting.name)), self.origins.get(setting.name, "default")
            )
            for setting in declared_settings(self)
        ]

    def __repr__(self) -> str:
        shown = ", ".join(f"{effective.setting.name}={effective.shown!r}" for effective in self.effective())
        return f"{type(self).__name__}({shown})"

    @classmethod
    def _remarks(cls, variables: Mapping[str, Found]) -> tuple[str, ...]:  # noqa: ARG003 - a client warns of none
        return ()


def _found(setting: Setting, variables: Mapping[str, Found], values: Mapping[str, Any]) -> Found | None:
    """Its own variable, else the first of those that it shares with other programs while those are in use."""
    names = [setting.variable]
    if not setting.shared_with or values.get(setting.shared_with):
        names += setting.shared
    return next((variables[name] for name in names if name in variables), None)


def _is_in(flags: Mapping[str, object], setting: Setting) -> bool:
    return flags.get(setting.name) is not None


def _refused(
    settings: tuple[Setting, ...],
    sources: Mapping[str, Found],
    values: Mapping[str, Any],
    given: Mapping[str, Found],
    variables: Mapping[str, Found],
) -> Iterator[str]:
    """A sentence for each value in force that may not come from ./.env."""
    by_name = {setting.name: setting for setting in settings}
    for setting in settings:
        found = sources.get(setting.name)
        if found is None or found.trusted:
            continue
        subject = f"{setting.name} ({found.origin}) may not come from ./.env"
        if setting.trusted_only:
            yield subject
            continue
        path = values.get(setting.name) if setting.is_written else None
        if path is not None and not _is_in_this_folder(path):
            yield f"{subject}, because {quote(path)} is outside of this folder"
            continue
        secrets = (_from_elsewhere(by_name[name], given, variables) for name in setting.receives)
        if secret := next(filter(None, secrets), None):
            yield f"{subject} while {secret} does not"


def _is_in_this_folder(path: str) -> bool:
    """Whether the path stays in the current folder, `~` replaced and links followed."""
    try:
        return Path(os.path.realpath(Path(path).expanduser())).is_relative_to(Path.cwd().resolve())
    except RuntimeError:  # the home of a user who does not exist
        return False
    except ValueError:  # a NUL
        return False


def _from_elsewhere(secret: Setting, given: Mapping[str, Found], variables: Mapping[str, Found]) -> str | None:
    """The secret and its origin, if a trusted source gives it, whether that is in force or not: a library may look at
    the environment again.
    """
    names = (secret.variable, *secret.shared, *secret.secret_variables)
    sources = [given.get(secret.name), *(variables.get(name) for name in names)]
    return next((f"{secret.name} ({found.origin})" for found in sources if found and found.trusted), None)


def _literal(sources: Iterable[Found]) -> Iterator[str]:
    """One line for each value of ./.env that a named file would give with its variables replaced."""
    for found in sources:
        if not found.trusted and _VARIABLE_IN_TEXT.search(found.text):
            yield f"{found.origin} holds ${{...}}, which is replaced only in a file that is named: {_NAME_IT}"


def _subject(setting: Setting, text: str, error: Exception) -> str:
    """The begin of the sentence that `error` ends. A UsageError is a whole sentence of its own."""
    if isinstance(error, UsageError):
        return f"{setting.name}:"
    if not text.strip():
        return setting.name
    return f"{setting.name} {HIDDEN if setting.kind.holds_secret(text) else quote(text)}"


def find_variables(environ: Mapping[str, str], env_file: str | None, shared: Iterable[str] = ()) -> dict[str, Found]:
    """All CONTROLLER_ variables that are set and not empty, by their names in upper case; the environment wins.

    Variables of other programs that `shared` names are found too, in upper case only. `env_file`: None reads ./.env if
    it exists, an empty one reads none. Raises UsageError if the file cannot be read.
    """
    in_file = {name: text for name, text in _read_env_file(env_file).items() if text is not None}
    label = env_file or DEFAULT_ENV_FILE
    wanted = tuple(shared)
    variables = dict(_by_upper_case(in_file, wanted, lambda name: f"{name} in {label}"))
    if env_file is None:
        variables = {name: found._replace(trusted=False) for name, found in variables.items()}
    return variables | dict(_by_upper_case(environ, wanted, lambda name: f"environment {name}"))


def _by_upper_case(
    variables: Mapping[str, str], shared: tuple[str, ...], origin: Callable[[str], str]
) -> Iterator[tuple[str, Found]]:
    """One entry for all spellings of a name. Upper case wins, the usual spelling in a shell; then lower case."""
    spellings: dict[str, list[str]] = {}
    for name, text in variables.items():
        if text and (upper := name.upper()).startswith(PREFIX):
            spellings.setdefault(upper, []).append(name)
    yield from ((name, Found(variables[name], origin(name))) for name in shared if variables.get(name))
    for upper, names in spellings.items():
        first, *others = sorted(names, key=lambda name: (name != name.upper(), name != name.lower(), name))
        shadowed = tuple(other for other in others if variables[other] != variables[first])
        yield upper, Found(variables[first], origin(first), shadowed)


def _read_env_file(env_file: str | None) -> Mapping[str, str | None]:
    if env_file == "":
        return {}
    path = Path(env_file or DEFAULT_ENV_FILE).expanduser()
    try:
        if env_file is None and _is_no_env_file(path):
            return {}
        text = read_file(path, _LARGEST_ENV_FILE, regular=env_file is None).decode("utf-8-sig")
        from dotenv import dotenv_values  # slow to import, and most often there is no such file

        return dotenv_values(stream=StringIO(text, newline=None), interpolate=env_file is not None)
    except FileNotFoundError:
        raise UsageError(f"--env-file {env_file}: no such file") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not a .env file: it is not UTF-8 text") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None


def _is_no_env_file(path: Path) -> bool:
    """Whether nothing is to be read: a virtual environment may be a folder `.env`, and a container may mount /dev/null
    over the file to hide it.
    """
    return not path.exists() or path.is_dir() or path.samefile(os.devnull)


def folder_holds(variable: str) -> bool:
    """Whether ./.env gives the variable a value, as far as a look can tell: it is not parsed. Raises nothing."""
    try:
        data = read_file(DEFAULT_ENV_FILE, _LARGEST_ENV_FILE, regular=True)
    except OSError:
        return False
    # Each blank stands for itself on one line: a pattern over several lines would look at a file of blanks for hours.
    line = rf"^[^\S\n]*(?:export[^\S\n]+)?{variable}[ \t]*=[ \t]*(?![\"']{{2}})[^\s#]"
    return re.search(line.encode(), data, re.IGNORECASE | re.MULTILINE) is not None


def remarks_on(variables: Mapping[str, Found], known: Iterable[str]) -> list[str]:
    """One line for each variable without the effect that its author expects: an unknown name, a spelling that loses."""
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
    """Kubernetes and Docker's links describe a service named `controller` to every container beside it."""
    return name.startswith((f"{PREFIX}SERVICE_", f"{PREFIX}PORT_", f"{PREFIX}ENV_")) or name == f"{PREFIX}NAME"


def _did_you_mean(variable: str, known: Iterable[str]) -> str:
    """Compares without the prefix, which all variables share."""
    near = nearest(variable.removeprefix(PREFIX), [other.removeprefix(PREFIX) for other in known])
    return did_you_mean(near and PREFIX + near)

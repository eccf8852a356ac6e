"""Which instances a command is about: references, references from standard input, or a selector.

    NAME[@TYPE]/HOST:PORT ...           these instances
    NAME --host HOST --port PORT        this instance
    -                                   references from standard input, one a line, as `-o name` prints them
    --model, --host, --type, --state    all registered instances that match; --all: all

`client.instance_filter` has the rules by which an instance matches a selector, the GLOB among them.

A selector skips instances of type service unless `--type service` is given: DB-GPT finds the control ports of its
workers through them. Every verb that takes references takes all of this by `takes_selection`.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass, replace
from functools import wraps
from inspect import Parameter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbgpt_ctl.cli.completion import candidates
from dbgpt_ctl.cli.diagnosis.caveats import refuse_stale, warn_of_caveats
from dbgpt_ctl.cli.framework.options import ModelPattern, States, argument, host_option, type_option
from dbgpt_ctl.cli.parsing.suggestions import Suggestions, explain_no_match
from dbgpt_ctl.domain.filters import InstanceFilter, ModelFilter
from dbgpt_ctl.domain.instance import SERVICE
from dbgpt_ctl.domain.references import (
    first_references,
    is_reference,
    parse_reference,
    parse_targets,
    require_callable,
)
from dbgpt_ctl.errors import CtlError, NotFound, UsageError
from dbgpt_ctl.text.escaping import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    from dbgpt_ctl.cli.framework.session import Session
    from dbgpt_ctl.client.results import Inventory, KnownInstance
    from dbgpt_ctl.client.sync import ControllerClient
    from dbgpt_ctl.domain.instance import InstanceKey

STDIN = "-"
MAX_STDIN_BYTES = 16 * 1024**2
"""Of the references on standard input: some 300,000."""

_REFERENCES = "NAME[@TYPE]/HOST:PORT"
_LISTED = "Instances as `ctl models list -o name` prints them; - reads them from standard input; or"


@dataclass(frozen=True, slots=True)
class Selected:
    """The instances of a selection, without duplicates, in the order of the command line or of the list."""

    keys: list[InstanceKey]
    answer: Inventory | None = None
    """The list that was read: it has at least all instances of the models of the keys. None where none was read."""

    def known(self) -> Mapping[InstanceKey, KnownInstance]:
        """The instances of the list by their keys; of duplicates, which DB-GPT's controller may list, the last."""
        return {} if self.answer is None else {instance.key: instance for instance in self.answer.instances}


@dataclass(frozen=True, slots=True)
class Selection:
    """What the command line selects. Nothing was read yet."""

    keys: tuple[InstanceKey, ...] = ()
    """The references of the command line, without those of standard input."""
    reads_stdin: bool = False
    selector: InstanceFilter | None = None
    """None: references."""
    model_type: str | None = None
    """The type of a NAME without one, for references of standard input."""
    creates: bool = False
    """The command may store an unknown instance, so a URL must be able to contain its host."""

    @classmethod
    def of_references(
        cls,
        words: Sequence[str],
        *,
        model_type: str | None = None,
        host: str | None = None,
        port: str | None = None,
        creates: bool = False,
    ) -> Self:
        """Raises UsageError, which names the value."""
        named = [word for word in words if word != STDIN]
        reads_stdin = len(named) < len(words)
        if len(words) - len(named) > 1:
            raise UsageError(f"{STDIN} is given more than once: standard input can be read only once")
        if reads_stdin and (host, port) != (None, None):
            raise UsageError(f"{STDIN} reads references, which have a host and a port: leave out --host and --port")
        keys = parse_targets(named, model_type, host, port, creates=creates) if named else []
        return cls(tuple(keys), reads_stdin=reads_stdin, model_type=model_type, creates=creates)

    @property
    def by_selector(self) -> bool:
        """Whether the instances come from a list, so that the person who typed it may not know them all."""
        return self.selector is not None

    def resolve(
        self,
        client: ControllerClient,
        session: Session,
        *,
        changes: bool = False,
        lists: bool = False,
        complete: bool = False,
    ) -> Selected:
        """The selected instances. Of references, those of standard input come last.

        It sends at most one request for a list: for a selector, and with `lists` for references too; then the answer
        has all instances of the models of the selected ones. With `changes`, a selector does not rest on a stale list.
        With `complete`, a controller without /api/v1 is not enough.

        Raises UsageError, StaleList, NotSupported, and NotFound for a selector that matches nothing.
        """
        if self.selector is not None:
            return self._matching(self.selector, client, session, changes=changes, lists=lists, complete=complete)
        keys = list(dict.fromkeys([*self.keys, *(self._read_stdin(session) if self.reads_stdin else ())]))
        if not lists or not keys:
            return Selected(keys)
        names = {key.model_name for key in keys}
        wanted = InstanceFilter(ModelFilter(names.pop() if len(names) == 1 else None))
        answer = client.inventory(wanted, require_complete=complete)
        warn_of_caveats(session, answer)
        return Selected(keys, answer)

    def _matching(
        self,
        wanted: InstanceFilter,
        client: ControllerClient,
        session: Session,
        *,
        changes: bool,
        lists: bool,
        complete: bool,
    ) -> Selected:
        answer = client.inventory(replace(wanted, host=None) if lists else wanted, require_complete=complete)
        if changes:
            refuse_stale(session, answer, "nothing was changed, because a selector needs the list of now")
        else:
            warn_of_caveats(session, answer)
        matching = list(dict.fromkeys(instance.key for instance in answer.instances if wanted.matches(instance)))
        if not matching:
            raise NotFound(explain_no_match(Suggestions(client), wanted, answer.controller))
        skips = wanted.models.type != SERVICE and wanted.models.model_name is None and wanted.models.name is None
        keys = [key for key in matching if not skips or key.type != SERVICE]
        if not keys:
            raise NotFound(f"only instances of type {SERVICE} match: --type {SERVICE} selects them")
        if len(keys) < len(matching):
            skipped = first_references([key for key in matching if key.type == SERVICE])
            session.say(f"skipped: {skipped}: a selector takes type {SERVICE} only with --type {SERVICE}")
        return Selected(keys, answer)

    def _read_stdin(self, session: Session) -> list[InstanceKey]:
        """Raises UsageError, with the line of the mistake."""
        if sys.stdin is not None and sys.stdin.isatty():
            session.say("reading references from standard input, one a line; Ctrl-D ends them")
        keys = []
        for number, line in enumerate(_stdin_text().split("\n"), start=1):
            if line.strip():
                try:
                    keys.append(parse_reference(line, self.model_type))
                    if self.creates:
                        require_callable(keys[-1].host)
                except UsageError as error:
                    raise UsageError(f"standard input, line {number}: {error}") from None
        if not keys:
            session.say("standard input names no instances")
        return keys


def takes_selection(
    *, selectors: bool = True, names: bool = False, creates: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds references and selectors to a command, and passes it the Selection that they make, as `selection`.

    A wrong one raises UsageError before the command runs. `selectors`: False for a command that creates instances, and
    so takes references only. `names`: a NAME[@TYPE] alone selects all instances of that model. `creates`: see
    `Selection`. Stands below `takes_session`.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = inspect.signature(command, eval_str=True)
        added = _parameters(selectors=selectors, names=names)

        @wraps(command)
        def with_selection(**given: Any) -> Any:
            texts = {parameter.name: given.pop(parameter.name) for parameter in added}
            return command(selection=_parse(texts, names=names, selectors=selectors, creates=creates), **given)

        others = [parameter for parameter in own.parameters.values() if parameter.name != "selection"]
        parameters = [*added, *others]
        vars(with_selection)["__signature__"] = own.replace(parameters=parameters)
        with_selection.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return with_selection

    return decorate


def _parameters(*, selectors: bool, names: bool) -> list[Parameter]:
    ways = "one NAME with --host and --port" + (", or a selector" if selectors else "")
    metavar = f"NAME[@TYPE]|{_REFERENCES}" if names else _REFERENCES
    references = argument(metavar, candidates.references, f"{_LISTED} {ways}.")
    kind, default = (list[str] | None, None) if selectors else (list[str], Parameter.empty)
    if not selectors:
        model_type, host = "Type of a NAME that has none.  [default: llm]", "Host of NAME, as it is registered."
    else:
        model_type = "Type of a NAME that has none [default: llm]; without references only this type."
        host = "Host of NAME, as it is registered; without references only this host."
    annotations: dict[str, tuple[Any, Any]] = {
        "references": (Annotated[kind, references], default),
        "model_type": (Annotated[str | None, type_option(model_type)], None),
        "host": (Annotated[str | None, host_option(host)], None),
        "port": (Annotated[str | None, typer.Option("--port", metavar="PORT", help="Port of NAME.")], None),
    }
    if selectors:
        everything = typer.Option("--all", help=f"All instances; none of type {SERVICE} without --type {SERVICE}.")
        annotations |= {
            "model": (ModelPattern, None),
            "states": (States, None),
            "everything": (Annotated[bool, everything], False),
        }
    return [
        Parameter(
            name,
            Parameter.POSITIONAL_OR_KEYWORD if name == "references" else Parameter.KEYWORD_ONLY,
            default=default,
            annotation=annotation,
        )
        for name, (annotation, default) in annotations.items()
    ]


def _parse(texts: Mapping[str, Any], *, selectors: bool, names: bool, creates: bool) -> Selection:
    """Raises UsageError."""
    words = texts["references"] or []
    model_type, host, port = texts["model_type"], texts["host"], texts["port"]
    states, everything = texts.get("states") or None, texts.get("everything") or None
    flags = {"--all": everything, "--model": texts.get("model"), "--state": states}
    given = [flag for flag, value in flags.items() if value is not None]
    if names and len(words) == 1 and not (port or everything) and words[0] != STDIN and not is_reference(words[0]):
        wanted = InstanceFilter.parse(words[0], model_type, states, host, flags["--model"])
        return Selection(selector=wanted, model_type=model_type, creates=creates)
    if words and given:
        raise UsageError(f"{given[0]} selects instances and {quoted(words[0])} names some: give one of them")
    if words:
        return Selection.of_references(words, model_type=model_type, host=host, port=port, creates=creates)
    if port is not None:
        raise UsageError(f"--port {quoted(port)} goes with NAME and --host; a selector takes --host alone")
    if not selectors or not (given or host is not None or model_type is not None):
        selector = ", or a selector: --model, --host, --type, --state or --all" if selectors else ""
        raise UsageError(f"give references {_REFERENCES}, {STDIN} to read them from standard input{selector}")
    wanted = InstanceFilter.parse(None, model_type, states, host, flags["--model"])
    return Selection(selector=wanted, model_type=model_type, creates=creates)


def _stdin_text() -> str:
    """Raises UsageError, CtlError."""
    if sys.stdin is None:
        raise CtlError("cannot read standard input: it is closed")
    try:
        data = sys.stdin.buffer.read(MAX_STDIN_BYTES + 1)
        text = data.decode()
    except OSError as error:
        raise CtlError(f"cannot read standard input: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"standard input is not UTF-8: byte {error.start + 1} is wrong") from None
    if len(data) > MAX_STDIN_BYTES:
        raise UsageError(f"standard input is larger than {MAX_STDIN_BYTES // 1024**2} MiB, the most that is read")
    return text

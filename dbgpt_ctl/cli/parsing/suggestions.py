"""What somebody may have meant who named nothing that is there. Only a failure pays for it, with one list call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.cli.completion.candidates import TYPES
from dbgpt_ctl.cli.output.escaping import escaped
from dbgpt_ctl.cli.parsing.references import reference_to
from dbgpt_ctl.errors import CtlError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dbgpt_ctl.cli.parsing.references import ModelFilter
    from dbgpt_ctl.client import ControllerClient, ReportedInstance
    from dbgpt_ctl.domain.instance import InstanceKey


class Registered:
    """All that is registered, asked for when it is needed; nothing when the controller does not say."""

    def __init__(self, client: ControllerClient) -> None:
        self._client = client
        self._instances: tuple[ReportedInstance, ...] | None = None

    @property
    def instances(self) -> tuple[ReportedInstance, ...]:
        """One call, the first time."""
        if self._instances is None:
            try:
                self._instances = self._client.list().instances
            except CtlError:
                self._instances = ()
        return self._instances

    def hint_at_model(self, wanted: ModelFilter) -> str:
        """How the line goes on that says that there is none: `; did you mean qwen3@llm?`, or empty."""
        known = {each.model_name for each in self.instances}
        if wanted.kind is not None:
            kinds = {name.partition("@")[2] for name in known}
            near = nearest(wanted.kind, kinds)
            shown = ", ".join(sorted(map(escaped, kinds)))
            return _did_you_mean(near and escaped(near)) or (f"; the types there are {shown}" if shown else "")
        name = (wanted.name or wanted.model_name or "").partition("@")[0]
        twins = sorted(each for each in known if each.partition("@")[0] == name)
        if twins or wanted.model_name:
            near = twins[0] if twins else nearest(wanted.model_name or "", known)
            return _did_you_mean(near and escaped(near))
        names = {each.partition("@")[0]: each for each in sorted(known, reverse=True)}
        near = nearest(name, names)
        return _did_you_mean(near and escaped(names[near]))

    def hint_at_instance(self, key: InstanceKey) -> str:
        """As `hint_at_model`, for an instance: another of its model or at its address, if that looks like it."""
        keys = [each.key for each in self.instances]
        alike = [each for each in keys if each.model_name == key.model_name or each[1:] == key[1:]]
        by_text = {str(each): each for each in alike or keys}
        near = nearest(str(key), by_text)
        return _did_you_mean(near and reference_to(by_text[near]._asdict()))


def remarks_on_types(keys: Iterable[InstanceKey]) -> Iterator[str]:
    """A line for each type that is likely a typing error. Any type may be registered: DB-GPT may have more one day."""
    for kind in sorted({key.type for key in keys} - set(TYPES)):
        near = nearest(kind, TYPES)
        if near:
            yield f"warning: registering type {escaped(kind)}, which no DB-GPT asks for; did you mean {near}?"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The one that looks most like `word`, upper and lower case alike, if any does."""
    from difflib import get_close_matches

    folded = {each.casefold(): each for each in sorted(known, reverse=True)}
    close = get_close_matches(word.casefold(), folded, n=1)
    return folded[close[0]] if close else None


def _did_you_mean(shown: str | None) -> str:
    return f"; did you mean {shown}?" if shown else ""

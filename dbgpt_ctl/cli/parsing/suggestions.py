"""What a person may have meant who named a model or instance that is not registered."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.instance import MODEL_TYPES
from dbgpt_ctl.domain.references import reference_of
from dbgpt_ctl.errors import CtlError
from dbgpt_ctl.spelling import did_you_mean, nearest
from dbgpt_ctl.text.escaping import escaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dbgpt_ctl.client.results import KnownInstance
    from dbgpt_ctl.client.sync import ControllerClient
    from dbgpt_ctl.domain.filters import InstanceFilter, ModelFilter
    from dbgpt_ctl.domain.instance import InstanceKey

_MOST_LISTED = 8


class Suggestions:
    """Suggestions from all registered instances. The first suggestion lists them; none comes of a failed list."""

    def __init__(self, client: ControllerClient) -> None:
        self._client = client

    @cached_property
    def instances(self) -> tuple[KnownInstance, ...]:
        """All registered instances; empty when the controller does not answer."""
        try:
            return self._client.list().instances
        except CtlError:
            return ()

    def for_models(self, wanted: ModelFilter) -> str:
        """The end of a message that nothing matches: `; did you mean qwen3@llm?`, or empty."""
        known = {instance.model_name for instance in self.instances}
        if wanted.pattern is not None:
            near = nearest(wanted.pattern, known)
            return did_you_mean(near and escaped(near)) or _registered("models", known)
        if wanted.type is not None:
            types = {model_name.partition("@")[2] for model_name in known}
            near = nearest(wanted.type, types)
            return did_you_mean(near and escaped(near)) or _registered("types", types)
        name = (wanted.name or wanted.model_name or "").partition("@")[0]
        of_other_types = sorted(model_name for model_name in known if model_name.partition("@")[0] == name)
        if of_other_types or wanted.model_name:
            near = of_other_types[0] if of_other_types else nearest(wanted.model_name or "", known)
            return did_you_mean(near and escaped(near))
        by_name = {model_name.partition("@")[0]: model_name for model_name in sorted(known, reverse=True)}
        near = nearest(name, by_name)
        return did_you_mean(near and escaped(by_name[near]))

    def for_host(self, host: str) -> str:
        """The same for a host."""
        hosts = {instance.host for instance in self.instances}
        near = nearest(host, hosts)
        return did_you_mean(near and escaped(near)) or _registered("hosts", hosts)

    def for_instance(self, key: InstanceKey) -> str:
        """The same for an instance: one of the same model or address if there is any, else any that looks like it."""
        keys = [instance.key for instance in self.instances]
        related = [other for other in keys if other.model_name == key.model_name or other[1:] == key[1:]]
        by_text = {str(other): other for other in related or keys}
        near = nearest(str(key), by_text)
        return did_you_mean(near and reference_of(by_text[near])) or "; ctl models list shows what is"


def explain_no_match(
    suggestions: Suggestions, wanted: InstanceFilter, controller: str, *, healthy_only: bool = False
) -> str:
    """Why no instance at the controller matches, and a suggestion where a name looks like a registered one."""
    if not (healthy_only or wanted.states or wanted.host or str(wanted.models)):
        return f"no instances registered at {controller}"
    others = [
        instance
        for instance in suggestions.instances
        if (healthy_only or wanted.states) and wanted.matches_key(instance.key)
    ]
    if others and wanted.states:
        in_any_state = replace(wanted, states=frozenset())
        states = " or ".join(sorted(wanted.states))
        routable = " and gets requests" if healthy_only else ""
        return f"none of the {len(others)} instances{in_any_state} at {controller} is {states}{routable}"
    if others:
        return (
            f"none of the {len(others)} instances{wanted} at {controller} gets requests: "
            "all are unhealthy, drained or deregistered"
        )
    healthy = "healthy " if healthy_only else ""
    is_model_known = any(wanted.models.matches(instance.model_name) for instance in suggestions.instances)
    hint = suggestions.for_host(str(wanted.host)) if is_model_known else suggestions.for_models(wanted.models)
    return f"no {healthy}instances{wanted} registered at {controller}{hint}"


def warn_of_types(keys: Iterable[InstanceKey]) -> Iterator[str]:
    """A warning for each type that looks like a typing error. Any type may be registered: DB-GPT may add some."""
    for model_type in sorted({key.type for key in keys} - set(MODEL_TYPES)):
        near = nearest(model_type, MODEL_TYPES)
        if near:
            yield f"warning: registering type {escaped(model_type)}, which DB-GPT never uses; did you mean {near}?"


def _registered(noun: str, texts: Iterable[str]) -> str:
    """`; registered types are llm, service`, with at most `_MOST_LISTED` of them; empty if there are none."""
    shown = sorted(map(escaped, texts))
    more = f" and {len(shown) - _MOST_LISTED} more" if len(shown) > _MOST_LISTED else ""
    return f"; registered {noun} are {', '.join(shown[:_MOST_LISTED])}{more}" if shown else ""

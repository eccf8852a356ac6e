"""Gathers the facts: asks each controller, knocks at workers, looks around on this machine."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from dbgpt_ctl.cli.completion.candidates import TYPES
from dbgpt_ctl.cli.diagnosis.asking import ask
from dbgpt_ctl.cli.diagnosis.facts import Facts, Place
from dbgpt_ctl.cli.diagnosis.probe import MOST, probe_all
from dbgpt_ctl.cli.diagnosis.rules.addresses import is_loopback, means_here
from dbgpt_ctl.cli.diagnosis.surroundings import open_files, proxied
from dbgpt_ctl.errors import CtlError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbgpt_ctl.cli.diagnosis.asking import Told
    from dbgpt_ctl.cli.framework.session import Session
    from dbgpt_ctl.cli.parsing.references import ModelFilter
    from dbgpt_ctl.domain.events import Event

_MOST_EVENTS = 20


def gather(session: Session, wanted: ModelFilter, *, knock: bool) -> Facts:
    """All facts; what cannot be asked is missing from them, a controller that does not answer is one of them."""
    addresses = session.settings.addresses
    told = _ask_all(session, [each.url for each in addresses], wanted)
    facts = Facts(
        wanted=wanted,
        controllers=tuple(each.facts for each in told),
        models=frozenset().union(*(each.models for each in told)),
        proxies=tuple(proxied(addresses, os.environ)),
        open_files=tuple(open_files(session.env_file)),
    )
    if str(wanted) and not facts.seen:
        return replace(facts, events=_events_of(session, facts))
    if not knock:
        return facts
    places = places_of(facts)
    return replace(facts, probes=probe_all(places[:MOST]), unprobed=max(0, len(places) - MOST))


def _ask_all(session: Session, urls: Sequence[str], wanted: ModelFilter) -> list[Told]:
    """All at once, in their order."""
    if len(urls) == 1:
        return [ask(session.client, urls[0], wanted)]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(len(urls)) as threads:
        return list(threads.map(lambda url: ask(partial(session.client, url), url, wanted), urls))


def places_of(facts: Facts) -> list[Place]:
    """Where to knock, each address once, one of each model first; those that get requests before the others.

    Not where a host means the machine of whoever calls it, unless that is the controller's machine as well.
    """
    turns: list[tuple[bool, int, Place]] = []
    for instances in facts.by_model.values():
        for turn, each in enumerate(sorted(instances, key=lambda each: not each.gets_requests)):
            if not means_here(each.key.host) or is_loopback(facts.controller_of(each).host):
                turns.append((not each.gets_requests, turn, each.place))
    return list(dict.fromkeys(place for _, _, place in sorted(turns)))


def _events_of(session: Session, facts: Facts) -> tuple[Event, ...]:
    """What happened to instances that are in no list any more, oldest first."""
    wanted = facts.wanted
    names = [wanted.model_name] if wanted.model_name else [f"{wanted.name}@{kind}" for kind in TYPES]
    found: dict[tuple[str, int], Event] = {}
    for controller in facts.answering:
        if controller.is_stock:
            continue
        with session.client(controller.url) as client:
            for name in names:
                try:
                    page = client.events(model_name=name, limit=_MOST_EVENTS)
                except CtlError:
                    continue
                found |= {(page.stream, each.id): each for each in page.events}
    return tuple(sorted(found.values(), key=lambda each: (each.change.time, each.id)))

"""GET /api/v1/diagnosis: what `ctl status` would warn of at this controller, with the remedy.

The rules are those of the CLI. They are imported at the first request, so that `ctl serve` starts without them. They
run in a thread: with thousands of instances they take a tenth of a second, and other requests are served meanwhile.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import islice
from secrets import token_hex
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import orjson
from fastapi.responses import Response

from dbgpt_ctl.controller.api.commands import called_url
from dbgpt_ctl.controller.api.status import status_of
from dbgpt_ctl.controller.http.callers import RouteAccess
from dbgpt_ctl.controller.http.routes import JSON, Route
from dbgpt_ctl.controller.http.serializers import known_object
from dbgpt_ctl.domain.hosts import is_loopback
from dbgpt_ctl.wire.diagnosis import Diagnosis, DiagnosisFinding, FindingEvidence
from dbgpt_ctl.wire.encoding import encoded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import Request

    from dbgpt_ctl.client.results import KnownInstance
    from dbgpt_ctl.controller.service.controller import Controller
    from dbgpt_ctl.diagnosis.facts import Finding
    from dbgpt_ctl.registry.contract import Listing
    from dbgpt_ctl.wire.status import Status

MAX_EVIDENCE = 100
"""Pieces of evidence that one finding has; the others are counted."""
SHARED_SECS = 1.0
"""So long callers get the same answer, with the URL that each of them called. With an examination for each URL, callers
who make up names for a controller would keep everybody else waiting.
"""


_NAME = token_hex(16)
"""Another one in each process: no instance can have it in a name."""
PLACES = {True: f"http://{_NAME}.localhost", False: f"http://{_NAME}.invalid"}
"""What stands for the URL of this controller in an answer until somebody gets it. Its host is on the loopback interface
or elsewhere, as that of the URL: the rules ask for nothing else of it.
"""


class _CachedAnswer(NamedTuple):
    """An answer with one of PLACES in it, and the event loop's time of it."""

    made_at: float
    body: bytes


class DiagnosisEndpoint:
    """Examines the status of one controller, one examination at a time."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._examining = asyncio.Lock()
        self._latest: dict[str, _CachedAnswer] = {}
        """By the place in it."""

    def routes(self) -> tuple[Route, ...]:
        """Its route."""
        return (Route("GET", "/v1/diagnosis", self.diagnosis, RouteAccess.READER, Diagnosis),)

    async def diagnosis(self, request: Request) -> Response:
        """What is wrong with this controller, its registry and its models, and what to do: the warnings of `ctl status`
        at this controller. While the registry is away, it is made of what is known.
        """
        url, now = called_url(request), asyncio.get_running_loop().time
        place = PLACES[is_loopback(urlsplit(url).hostname or "")]
        async with self._examining:
            latest = self._latest.get(place)
            if latest is None or now() - latest.made_at >= SHARED_SECS:
                status, listing = await status_of(self._controller)
                body = await asyncio.to_thread(_examined, status, listing, place)
                self._latest[place] = latest = _CachedAnswer(now(), body)
        return Response(latest.body.replace(place.encode(), orjson.dumps(url)[1:-1]), media_type=JSON)


def _examined(status: Status, listing: Listing | None, url: str) -> bytes:
    """The answer, made of a status and of the instances that the rules look at one by one."""
    from dbgpt_ctl.diagnosis.examine import overview, sample
    from dbgpt_ctl.diagnosis.facts import ControllerFacts

    controller = ControllerFacts.of_status(url, status)
    examined = sample(controller, _examined_instances(listing, status), MAX_EVIDENCE)
    findings = overview([replace(controller, instances=examined.instances)], status, examined.left_out)
    return encoded(Diagnosis(time=status.time, findings=list(map(finding_of, findings))))


def _examined_instances(listing: Listing | None, status: Status) -> Iterator[KnownInstance]:
    from dbgpt_ctl.client.results import KnownInstance
    from dbgpt_ctl.diagnosis.examine import EXAMINED

    for entry in () if listing is None else listing.entries:
        if EXAMINED.matches(entry):
            yield KnownInstance.read(known_object(entry), status.time)


def finding_of(finding: Finding) -> DiagnosisFinding:
    """One of the `findings`."""
    shown = islice(finding.evidence, MAX_EVIDENCE)
    return DiagnosisFinding(
        code=finding.code,
        severity=finding.severity.value,
        summary=finding.summary,
        evidence=[FindingEvidence(subject=evidence.subject, detail=evidence.detail) for evidence in shown],
        fix=finding.fix,
        more=finding.more + max(0, len(finding.evidence) - MAX_EVIDENCE),
    )

"""`GET /metrics`."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

from dbgpt_ctl.controller.http.callers import RouteAccess
from dbgpt_ctl.controller.http.routes import AT_ROOT, Route
from dbgpt_ctl.controller.service.large_lists import EncodedList
from dbgpt_ctl.wire import status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastapi import Request
    from fastapi.responses import Response
    from starlette.datastructures import Headers

    from dbgpt_ctl.controller.api.metrics_reader import MetricsReader
    from dbgpt_ctl.controller.metrics.counters import Reading
    from dbgpt_ctl.controller.service.large_lists import LargeLists

SHARED_SECS = 1.0
"""A scrape may get an answer that was made so long ago. So any number of scrapers costs little more than one."""
BYTES_IN_PIECE = 64 * 1024
OPENMETRICS = "application/openmetrics-text"
CONTENT_TYPES = {
    False: "text/plain; version=0.0.4; charset=utf-8",
    True: f"{OPENMETRICS}; version=1.0.0; charset=utf-8",
}
"""By whether it is OpenMetrics."""


class Form(NamedTuple):
    """How a scraper wants its answer. Prometheus asks for OpenMetrics and gzip."""

    is_openmetrics: bool
    is_gzip: bool

    @classmethod
    def wanted_by(cls, headers: Headers) -> Form:
        """As the headers of a request say. Without any it is plain text, for a person with curl."""
        return cls(OPENMETRICS in headers.get("accept", ""), "gzip" in headers.get("accept-encoding", ""))

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer."""
        headers = {"Content-Type": CONTENT_TYPES[self.is_openmetrics], "Vary": "Accept, Accept-Encoding"}
        return {**headers, "Content-Encoding": "gzip"} if self.is_gzip else headers


class MetricsEndpoint:
    """The text of a scrape is made in turns with other requests; with 1,000 models it takes 30 to 60 ms. A thread
    would delay heartbeats more: each time the event loop looks for I/O, the thread takes the interpreter for 5 ms.

    Answers are sent by `large`, which bounds what readers hold that stall.
    """

    def __init__(
        self, reader: MetricsReader, large: LargeLists, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._reader = reader
        self._large = large
        self._monotonic = monotonic
        self._rendering = asyncio.Lock()
        self._shared: dict[Form, tuple[float, EncodedList]] = {}
        """When an answer was made, and its body."""

    def routes(self) -> tuple[Route, ...]:
        """The route of the metrics."""
        return (
            Route(
                "GET",
                "/metrics",
                self.metrics,
                RouteAccess.METRICS,
                status.Metrics,
                errors=frozenset(),
                media_type="text/plain",
                prefixes=AT_ROOT,
            ),
        )

    async def metrics(self, request: Request) -> Response:
        """The numbers of this controller for Prometheus, as text or as OpenMetrics. It never waits for the registry."""
        form = Form.wanted_by(request.headers)
        async with self._rendering:
            body = self._shared_body(form)
            if body is None:
                await self._large.make_room()
                body = EncodedList(await _rendered(self._reader.read(), form))
                self._shared[form] = self._monotonic(), body
        return self._large.answer(body, None, form.headers)

    def _shared_body(self, form: Form) -> EncodedList | None:
        made_at, body = self._shared.get(form, (0.0, None))
        return body if self._monotonic() - made_at < SHARED_SECS else None


async def _rendered(readings: list[Reading], form: Form) -> tuple[bytes, ...]:
    pieces = [bytearray()]
    for part in await asyncio.to_thread(_parts, readings, form):
        if len(pieces[-1]) >= BYTES_IN_PIECE:
            pieces.append(bytearray())
        pieces[-1] += part
        await asyncio.sleep(0)
    return tuple(map(bytes, pieces))


def _parts(readings: list[Reading], form: Form) -> Iterator[bytes]:
    """To be called in a thread: it reads /proc, and the first call imports prometheus_client. The iterator does not."""
    from dbgpt_ctl.controller.metrics import exposition

    process = exposition.of_process()
    return exposition.parts(readings, process, as_openmetrics=form.is_openmetrics, compressed=form.is_gzip)

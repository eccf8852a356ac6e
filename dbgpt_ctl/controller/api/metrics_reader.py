"""Reads the numbers of a controller for one scrape, without I/O. It knows nothing of the format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dbgpt_ctl
from dbgpt_ctl.auth.tokens import Mode, Reason
from dbgpt_ctl.controller.metrics import declarations as declared
from dbgpt_ctl.controller.metrics.counters import Reading
from dbgpt_ctl.registry.model_counts import COUNTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dbgpt_ctl.controller.metrics.counters import Counters, Labels
    from dbgpt_ctl.controller.metrics.declarations import Metric
    from dbgpt_ctl.controller.metrics.instance_counts import InstanceCounter, InstanceCounts
    from dbgpt_ctl.controller.service.controller import Controller
    from dbgpt_ctl.tracing import Tracer


class MetricsReader:
    """Reads everything at one time, in the event loop; another thread may iterate over the readings."""

    def __init__(
        self, controller: Controller, counters: Counters, instances: InstanceCounter, tracer: Tracer | None
    ) -> None:
        self._controller = controller
        self._counters = counters
        self._instances = instances
        self._tracer = tracer

    def read(self) -> list[Reading]:
        """All metrics that have a value now."""
        counts = self._instances.current  # read once: it may become too old at any time
        return [
            *([] if counts is None else _of_instances(counts)),
            *self._of_registry(counts),
            *self._of_controller(),
            *self._of_connections(),
            *self._of_requests(),
            *self._of_storage(),
        ]

    def _of_registry(self, counts: InstanceCounts | None) -> Iterator[Reading]:
        registry = self._controller.registry
        figures = registry.figures()
        numbers = (
            (declared.REGISTRY_INSTANCES, figures.instances),
            (declared.REGISTRY_INSTANCES_LIMIT, figures.max_instances),
            (declared.CLOCK_OFFSET, figures.clock_offset_secs),
            (declared.REGISTRY_HELD_INSTANCES, None if counts is None else counts.held),
            (declared.REGISTRY_WAITING_CALLS, figures.waiting_calls),
            (declared.REGISTRY_READY, self._controller.registry_health().ready),
            (declared.REGISTRY_STALE, self._instances.is_stale),
        )
        yield Reading(declared.BUILD_INFO, [((dbgpt_ctl.__version__, registry.describe().kind), 1)])
        yield from (_single(metric, number) for metric, number in numbers if number is not None)

    def _of_controller(self) -> Iterator[Reading]:
        controller = self._controller
        yield _single(declared.LEAVING, controller.leaving)
        yield _single(declared.EVENT_LOOP_LAG, controller.loop_lag.seconds)
        yield _single(declared.WATCHERS, controller.feed.watchers)
        yield _single(declared.WATCHERS_LIMIT, controller.feed.max_watchers)
        yield _by_label(declared.WATCHES_CLOSED, controller.feed.closed)
        yield Reading(declared.CREDENTIAL_EXPIRY, list(self._credentials()))
        if self._tracer is not None:
            dropped = self._tracer.dropped + sum(writer.dropped for writer in self._tracer.writers)
            yield _single(declared.TRACE_SPANS_DROPPED, dropped)
        if controller.access is not None:
            totals = controller.access.refusals.totals
            modes = ((Mode.LOG, True), (Mode.ENFORCE, False))
            values = [
                ((reason.value, mode.value), totals[reason, served])
                for reason in Reason
                for mode, served in modes
                if reason.is_refusal
            ]
            yield Reading(declared.AUTH_REFUSALS, values)

    def _credentials(self) -> Iterator[tuple[Labels, float]]:
        controller = self._controller
        file = None if controller.access is None else controller.access.in_force.file
        for token in () if file is None else file.tokens.values():
            if token.sha256 and token.expires is not None:
                yield ("token", token.name), token.expires.timestamp()
        if controller.tls is not None:
            yield ("certificate", "tls_cert"), controller.tls.certificate.current.not_after.timestamp()

    def _of_connections(self) -> Iterator[Reading]:
        figures = self._controller.connections
        if figures is None:
            return
        yield _single(declared.CONNECTIONS, len(figures.connections))
        yield _single(declared.CONNECTIONS_LIMIT, figures.limit)
        closed = {"idle": figures.closed, "refused": figures.refused, "slow": figures.readers_dropped}
        yield _by_label(declared.CONNECTIONS_CLOSED, closed)

    def _of_requests(self) -> Iterator[Reading]:
        operations = self._counters.requests
        answers = [
            ((operation, str(status)), number)
            for operation, counts in operations.items()
            for status, number in counts.statuses.items()
        ]
        durations = [((operation,), counts.durations.read()) for operation, counts in operations.items()]
        yield Reading(declared.REQUESTS, answers)
        yield Reading(declared.REQUEST_DURATION, durations)
        yield _single(declared.HEARTBEATS_REFUSED, self._counters.heartbeats_refused)

    def _of_storage(self) -> Iterator[Reading]:
        counts = self._counters.storage.read()
        yield Reading(declared.TRANSITIONS, counts.transitions.items())
        yield _by_label(declared.REGISTRY_ERRORS, counts.errors)
        yield Reading(declared.COMMIT_DURATION, [((), counts.commits)])
        yield Reading(declared.BATCH_SIZE, [((), counts.batches)])


def _of_instances(counts: InstanceCounts) -> Iterator[Reading]:
    columns = {name: COUNTS.index(name) for name in (*declared.STATES, "routable", "drained")}
    models = counts.models.items()
    by_state = (((model, state), row[columns[state]]) for model, row in models for state in declared.STATES)
    yield Reading(declared.INSTANCES, by_state)
    yield Reading(declared.INSTANCES_ROUTABLE, (((model,), row[columns["routable"]]) for model, row in models))
    yield Reading(declared.INSTANCES_DRAINED, (((model,), row[columns["drained"]]) for model, row in models))
    yield Reading(declared.OLDEST_DRAIN, (((model,), since) for model, since in counts.oldest_drain.items()))
    yield _single(declared.MODEL_NAMES_IN_OTHER, counts.names_in_other)


def _single(metric: Metric, value: float) -> Reading:
    return Reading(metric, [((), value)])


def _by_label(metric: Metric, numbers: Mapping[str, int]) -> Reading:
    """A counter with one label of fixed values. Each has a series from the start: the first one is an increase then."""
    (values,) = metric.values.values()
    return Reading(metric, [((value,), numbers.get(value, 0)) for value in values])

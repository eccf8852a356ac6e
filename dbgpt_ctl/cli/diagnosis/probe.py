"""Probes the addresses of workers: does anything listen there, and is it a DB-GPT worker?

A probe is the first call of a ping (see `ping`), to many addresses at the same time and with a short timeout.
"""

from __future__ import annotations

from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING

from dbgpt_ctl.diagnosis.facts import Probe, ProbeOutcome
from dbgpt_ctl.domain.hosts import is_loopback, is_this_machine
from dbgpt_ctl.failure_causes import FailureCause

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbgpt_ctl.client.responses import NoResponse, Response
    from dbgpt_ctl.client.transport import Transport
    from dbgpt_ctl.diagnosis.facts import Endpoint


TIMEOUT_SECS = 2.0
MAX_ENDPOINTS = 50
"""Addresses that are probed, all at the same time."""
_GRACE_SECS = 0.2
_REFUSED = Probe(ProbeOutcome.REFUSED, "nothing listens there, seen from here")
_RESET = Probe(ProbeOutcome.RESET, "what listens there closes the connection without a whole answer")


def probe_all(endpoints: Sequence[Endpoint], timeout: float = TIMEOUT_SECS) -> dict[Endpoint, Probe]:
    """Probes all endpoints at the same time, and returns after at most `timeout` seconds, name resolution included."""
    from dbgpt_ctl.ping.calls import worker_transport  # it imports httpx

    results: dict[Endpoint, Probe] = {}
    deadline = monotonic() + timeout
    transport = worker_transport()

    def run(endpoint: Endpoint) -> None:
        results[endpoint] = probe(endpoint, transport, timeout)

    threads = [Thread(target=run, args=(endpoint,), daemon=True) for endpoint in endpoints]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline + _GRACE_SECS - monotonic()))
    finished = dict(results)
    return {endpoint: finished.get(endpoint, _silent(timeout)) for endpoint in endpoints}


def probe(endpoint: Endpoint, transport: Transport, timeout: float) -> Probe:
    """Probes one endpoint."""
    from dbgpt_ctl.client.responses import NoResponse
    from dbgpt_ctl.ping.calls import WorkerCalls, address_of_worker, is_of_worker

    address = address_of_worker(*endpoint)
    if address is None:
        return Probe(ProbeOutcome.FAILED, "its host and port are no address")
    outcome = WorkerCalls(transport, address, timeout).descriptions()
    if isinstance(outcome, NoResponse):
        return _without_response(outcome, timeout)
    return Probe(ProbeOutcome.WORKER, "a worker answers") if is_of_worker(outcome) else _other(outcome)


def _without_response(outcome: NoResponse, timeout: float) -> Probe:
    match outcome.cause:
        case FailureCause.REFUSED:
            return _REFUSED
        case FailureCause.RESET:
            return _RESET
        case FailureCause.CONNECT_TIMEOUT | FailureCause.ANSWER_TIMEOUT:
            return _silent(timeout)
        case FailureCause.NAME_LOOKUP:
            return Probe(ProbeOutcome.UNKNOWN_NAME, f"{outcome.detail}, seen from here")
        case FailureCause.NOT_A_CONTROLLER | FailureCause.ANSWER_TOO_LARGE:
            return Probe(ProbeOutcome.OTHER, outcome.detail)
    return Probe(ProbeOutcome.FAILED, f"it cannot be reached from here: {outcome.detail}")


def _other(outcome: Response) -> Probe:
    return Probe(ProbeOutcome.OTHER, f"an HTTP server answers, but not as a worker: status {outcome.status}")


def _silent(timeout: float) -> Probe:
    return Probe(ProbeOutcome.SILENT, f"no answer within {max(timeout, 0.0):.2g} s, seen from here")


def means_caller(host: str, controller_host: str) -> bool:
    """Whether a call to a registered host would reach the machine of the caller, while the worker is on another one.

    A loopback address is that of the machine on which the controller is, or on which the worker is. Unless the
    controller is called by one too, that is not the machine of the caller.
    """
    return is_this_machine(host) and not is_loopback(controller_host)

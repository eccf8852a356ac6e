"""The spans that a real controller records of real requests, and the independence of requests from sinks."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import FastAPI

from dbgpt_ctl.controller.api.dbgpt import DbgptEndpoints
from dbgpt_ctl.controller.app import ControllerApp, create_app
from dbgpt_ctl.controller.bootstrap import create_tracer, initialize_controller
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.settings.schema import ControllerSettings
from dbgpt_ctl.tracing import Tracer
from dbgpt_ctl.tracing import writer as writer_module
from dbgpt_ctl.tracing.writer import SpanWriter
from tests.support.clock import START, ManualClock
from tests.support.server import running_app, running_controller
from tests.tracing.keeping import Fails, Hangs, Keeps
from tests.tracing.spans import Sink

if TYPE_CHECKING:
    from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
    from dbgpt_ctl.tracing import Span

KEEPS = "tests.tracing.keeping:Keeps"
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
NOT_SAMPLED = {"traceparent": f"00-{TRACE}-{CALLER}-00"}
INSTANCE = {
    "model_name": "qwen@llm",
    "host": "10.0.0.4",
    "port": 8001,
    "weight": 2.5,
    "check_healthy": True,
    "healthy": False,
    "enabled": True,
    "prompt_template": "chat",
    "last_heartbeat": None,
    "remove_from_registry": False,
}
KEY = {name: INSTANCE[name] for name in ("model_name", "host", "port")}
MODELS, HEARTBEAT = "/api/controller/models", "/api/controller/heartbeat"
PREFIX = "dbgpt.model.controller."


def call(url: str, *requests: tuple[str, str, dict[str, Any]]) -> list[httpx.Response]:
    with httpx.Client(base_url=url, trust_env=False) as client:
        return [client.request(method, path, **more) for method, path, more in requests]


def test_register_and_deregister_are_recorded_as_dbgpt_does(registry: EmbeddedModelRegistry) -> None:
    with running_controller(registry, tracer_storage_cls=KEEPS) as url:
        call(url, ("POST", MODELS, {"json": INSTANCE}), ("DELETE", MODELS, {"params": KEY}))
        root, register, root2, deregister = Keeps.wait_for(4)
    assert [each.operation_name for each in Keeps.spans] == [
        "DB-GPT-ModelController",
        f"{PREFIX}register_instance",
        "DB-GPT-ModelController",
        f"{PREFIX}deregister_instance",
    ]
    assert root.metadata == {"path": MODELS, "status": 200}
    assert register.metadata == INSTANCE
    assert deregister.metadata == INSTANCE | {"weight": 1.0, "prompt_template": None}
    assert root.parent_span_id is None
    assert register.parent_span_id == root.context.span_id
    assert register.context.trace_id == root.context.trace_id != root2.context.trace_id
    assert root.start_time <= register.end_time
    assert len(Keeps.closed) == 1


def test_a_span_is_part_of_the_callers_trace(registry: EmbeddedModelRegistry) -> None:
    with running_controller(registry, tracer_storage_cls=KEEPS) as url:
        call(url, ("POST", MODELS, {"json": INSTANCE, "headers": SAMPLED}))
        root, register = Keeps.wait_for(2)
    assert (root.context.trace_id, root.parent_span_id) == (TRACE, CALLER)
    assert (register.context.trace_id, register.parent_span_id) == (TRACE, root.context.span_id)


@pytest.mark.parametrize(
    "hostile", ["", "00-0-0-01", f"00-{TRACE}-{CALLER}-01-x", "\xff" * 55, f"ff-{TRACE}-{CALLER}-01"]
)
def test_a_malformed_traceparent_starts_a_new_trace(registry: EmbeddedModelRegistry, hostile: str) -> None:
    headers = {"traceparent": hostile.encode("latin-1")}
    with running_controller(registry, tracer_storage_cls=KEEPS) as url:
        assert call(url, ("POST", MODELS, {"json": INSTANCE, "headers": headers}))[0].json() is True
        root, _ = Keeps.wait_for(2)
    assert root.parent_span_id is None
    assert root.context.trace_id != TRACE


def test_heartbeats_lists_and_health_are_not_recorded_by_default(registry: EmbeddedModelRegistry) -> None:
    quiet: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", HEARTBEAT, {"json": INSTANCE}),
        ("GET", MODELS, {}),
        ("GET", "/api/health", {"headers": SAMPLED}),
    ]
    with running_controller(registry, tracer_storage_cls=KEEPS) as url:
        call(url, *quiet, ("POST", MODELS, {"json": INSTANCE}))
        Keeps.wait_for(2)
    assert [each.operation_name for each in Keeps.spans][1:] == [f"{PREFIX}register_instance"]


def test_heartbeats_and_lists_are_recorded_by_ratio(registry: EmbeddedModelRegistry) -> None:
    with running_controller(registry, tracer_storage_cls=KEEPS, tracer_sample_ratio=1.0) as url:
        query = {"model_name": "qwen@llm", "healthy_only": "true"}
        call(url, ("POST", HEARTBEAT, {"json": INSTANCE}), ("GET", MODELS, {"params": query}))
        _, beat, _, listed = Keeps.wait_for(4)
    assert (beat.operation_name, beat.metadata) == (f"{PREFIX}send_heartbeat", INSTANCE)
    assert (listed.operation_name, listed.metadata) == (f"{PREFIX}get_all_instances", query)


def test_the_decision_of_the_caller_goes_before_the_ratio(registry: EmbeddedModelRegistry) -> None:
    with running_controller(registry, tracer_storage_cls=KEEPS) as url:
        call(
            url,
            ("POST", MODELS, {"json": INSTANCE, "headers": NOT_SAMPLED}),
            ("POST", HEARTBEAT, {"json": INSTANCE, "headers": SAMPLED}),
        )
        Keeps.wait_for(2)
    assert [each.operation_name for each in Keeps.spans][1:] == [f"{PREFIX}send_heartbeat"]


class Throws(Random):
    """Random numbers that a test chooses."""

    numbers: list[float]

    def random(self) -> float:
        return self.numbers.pop(0)


def test_the_ratio_is_met_number_by_number() -> None:
    random = Throws()
    random.numbers = [0.0, 0.2, 0.25, 0.3, 0.999]
    writer = SpanWriter(Sink(), monotonic=lambda: 0.0)
    tracer = Tracer([writer], clock=ManualClock(), monotonic=lambda: 0.0, random=random, sample_ratio=0.25)
    assert [tracer.records(None, always=False) for _ in range(5)] == [True, True, False, False, False]
    assert tracer.records(None, always=True)
    assert random.numbers == []


def test_without_a_ratio_no_number_is_drawn() -> None:
    random = Throws()
    random.numbers = []
    tracer = Tracer(
        [SpanWriter(Sink(), monotonic=lambda: 0.0)], clock=ManualClock(), monotonic=lambda: 0.0, random=random
    )
    assert not tracer.records(None, always=False)


def test_times_are_the_clocks() -> None:
    sink, clock = Sink(), ManualClock()
    spans: list[Span] = []
    sink.write = spans.extend  # type: ignore[method-assign, assignment]
    writer = SpanWriter(sink, monotonic=lambda: 0.0)
    tracer = Tracer([writer], clock=clock, monotonic=lambda: 0.0, random=Random(1))
    root, operation = tracer.start(None, "x", "/p")
    clock.advance(1.5)
    tracer.end(root, operation, {})
    tracer.open()
    tracer.close()
    assert {each.operation_name: (each.end_time - each.start_time).total_seconds() for each in spans} == {
        "DB-GPT-ModelController": 1.5,
        "x": 1.5,
    }
    assert all(each.start_time == START for each in spans)


REFUSED = {
    "wrong body": (("POST", MODELS, {"json": {**INSTANCE, "port": 0}}), 422, "invalid_instance"),
    "no JSON": (("POST", MODELS, {"content": b"x"}), 415, "unsupported_media_type"),
    "wrong query": (("DELETE", MODELS, {"params": {**KEY, "port": "x"}}), 422, "invalid_instance"),
    "full": (("POST", MODELS, {"json": {**INSTANCE, "port": 2}}), 429, "registry_full"),
}


@pytest.mark.parametrize(("request_", "status", "code"), REFUSED.values(), ids=REFUSED)
def test_what_went_wrong_is_recorded(
    registry: EmbeddedModelRegistry, request_: tuple[str, str, dict[str, Any]], status: int, code: str
) -> None:
    with running_controller(registry, tracer_storage_cls=KEEPS) as url:
        replies = call(url, ("POST", MODELS, {"json": INSTANCE}), request_)
        root, operation = Keeps.wait_for(4)[2:]
    assert replies[1].status_code == root.metadata["status"] == status
    assert operation.metadata["error_code"] == code == replies[1].json()["code"]
    assert operation.metadata["error"] == operation.error == replies[1].json()["detail"]
    assert root.error is None
    if code == "registry_full":
        assert operation.metadata["port"] == 2


def test_a_bug_is_recorded_without_its_text(
    registry: EmbeddedModelRegistry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_args: object, **_kwargs: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(registry, "register", broken)
    with running_controller(registry, tracer_storage_cls=KEEPS) as url:
        assert call(url, ("POST", MODELS, {"json": INSTANCE}))[0].status_code == 500
        root, operation = Keeps.wait_for(2)
    assert root.error == operation.error == "ZeroDivisionError"
    assert root.metadata["status"] == 500
    assert operation.metadata == INSTANCE | {"error": "ZeroDivisionError", "error_code": "internal_error"}


def test_without_a_sink_nothing_is_recorded(registry: EmbeddedModelRegistry) -> None:
    assert create_tracer(ControllerSettings()) is None
    app = create_app(ControllerSettings(), registry)
    assert isinstance(app, ControllerApp)
    of_dbgpt = [route for route in app.endpoints.values() if route.is_of_dbgpt]  # others check their query first
    assert of_dbgpt
    for route in of_dbgpt:
        endpoints = getattr(route.endpoint, "__self__", None)
        assert isinstance(endpoints, DbgptEndpoints), "something is wrapped around it"


def test_a_recording_controller_has_the_same_api(registry: EmbeddedModelRegistry) -> None:
    settings = ControllerSettings(tracer_storage_cls=KEEPS)
    plain = create_app(settings, registry).openapi()
    assert create_app(settings, registry, create_tracer(settings)).openapi() == plain


def test_in_a_foreign_application_too(registry: EmbeddedModelRegistry) -> None:
    app = FastAPI()
    initialize_controller(app, registry=registry, settings=ControllerSettings(tracer_storage_cls=KEEPS))
    with running_app(app) as url:
        replies = call(url, ("POST", MODELS, {"json": INSTANCE}), ("POST", MODELS, {"json": {**INSTANCE, "port": 0}}))
        Keeps.wait_for(4)
    assert [each.status_code for each in replies] == [200, 422]
    assert [each.metadata["status"] for each in Keeps.spans if each.is_server] == [200, 422]
    assert len(Keeps.closed) == 1


def test_errors_of_a_class_reach_no_request_and_are_logged_once(
    registry: EmbeddedModelRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    with running_controller(registry, tracer_storage_cls="tests.tracing.keeping.Fails") as url:
        replies = call(url, *[("POST", MODELS, {"json": INSTANCE})] * 5)
        Fails.wait_for(10)
    assert [each.json() for each in replies] == [True] * 5
    assert len(Fails.closed) == 1
    records = [record for record in caplog.records if record.name.startswith("dbgpt_ctl.tracing")]
    assert [record.getMessage() for record in records] == [
        "tracing to tests.tracing.keeping.Fails fails; further errors of it are not logged"
    ]


def test_a_class_that_hangs_delays_no_request(
    registry: EmbeddedModelRegistry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first append never returns while all these requests are answered."""
    monkeypatch.setattr(writer_module, "MAX_SPANS", 20)
    settings = ControllerSettings(tracer_storage_cls="tests.tracing.keeping:Hangs")
    tracer = create_tracer(settings)
    assert tracer is not None
    [writer] = tracer.writers
    with running_app(create_app(settings, registry, tracer)) as url:
        call(url, ("POST", MODELS, {"json": INSTANCE}))
        Hangs.wait_for(1)
        replies = call(url, *[("POST", MODELS, {"json": INSTANCE})] * 50)
        assert len(Hangs.spans) == 1
        assert writer.waiting == 20
        assert writer.dropped == 102 - 20
        Hangs.let_go.set()
    assert [each.json() for each in replies] == [True] * 50
    assert len(Hangs.spans) == 20


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nonsense", "is not package.module:Class"),
        (":Class", "is not package.module:Class"),
        ("no.such.module:Class", "cannot be made: ModuleNotFoundError: No module named 'no'"),
        ("tests.tracing.keeping:Nobody", "cannot be made: AttributeError: .*Nobody"),
        ("tests.tracing.keeping:CannotBeMade", "cannot be made: ValueError: never"),
        ("tests.tracing.keeping:NoSink", "is no span sink: it has no method close"),
        ("tests.tracing.keeping:KEY", "cannot be made"),
    ],
)
def test_a_class_that_is_no_sink_is_refused_at_the_start(name: str, why: str) -> None:
    with pytest.raises(UsageError, match=f"^tracer_storage_cls '{name}' {why}"):
        create_tracer(ControllerSettings(tracer_storage_cls=name))

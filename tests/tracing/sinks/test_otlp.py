"""Spans at a real OTLP receiver, over gRPC and HTTP; receivers that hang and receivers that are not there."""

from __future__ import annotations

import logging
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trustme

from dbgpt_ctl.controller.app import create_app
from dbgpt_ctl.controller.bootstrap import create_tracer
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.settings.schema import ControllerSettings
from dbgpt_ctl.tracing import writer as writer_module
from dbgpt_ctl.tracing.sinks.otlp import OtlpOptions, OtlpSink
from dbgpt_ctl.tracing.writer import NotDelivered, SpanWriter
from tests.support.clock import START
from tests.support.otlp import Receiver, attributes_of, running_receiver
from tests.support.server import running_app
from tests.tracing.spans import span
from tests.tracing.test_endpoints import INSTANCE, KEY, MODELS, PREFIX, SAMPLED, TRACE, call

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry

PROTOCOLS = ("grpc", "http/protobuf")
OK, ERROR = 0, 2
INTERNAL, SERVER = 1, 2
ROOT = "DB-GPT-ModelController"


@pytest.fixture(params=PROTOCOLS)
def receiver(request: pytest.FixtureRequest) -> Iterator[Receiver]:
    with running_receiver(request.param) as running:
        yield running


@pytest.fixture(params=PROTOCOLS)
def dead(request: pytest.FixtureRequest) -> Iterator[Receiver]:
    """A port that is reserved and has no listener."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        receiver = Receiver(request.param)
        path = "" if request.param == "grpc" else "/v1/traces"
        receiver.endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}{path}"
        yield receiver


def exporting(receiver: Receiver, **more: Any) -> ControllerSettings:
    settings = {"protocol": receiver.protocol, "endpoint": receiver.endpoint, **more}
    return ControllerSettings(
        tracer_to_open_telemetry=True,
        **{f"otel_exporter_otlp_traces_{name}": value for name, value in settings.items()},
    )


def options(receiver: Receiver, **more: Any) -> OtlpOptions:
    return OtlpOptions(protocol=receiver.protocol, endpoint=receiver.endpoint, **more)


def test_the_same_spans_over_both(receiver: Receiver, registry: EmbeddedModelRegistry) -> None:
    settings = exporting(receiver)
    with running_app(create_app(settings, registry, create_tracer(settings))) as url:
        call(
            url,
            ("POST", MODELS, {"json": INSTANCE, "headers": SAMPLED}),
            ("DELETE", MODELS, {"params": KEY, "headers": SAMPLED}),
            ("DELETE", MODELS, {"params": {**KEY, "port": 0}, "headers": SAMPLED}),
        )
        spans = receiver.spans(6)
    caller = SAMPLED["traceparent"].split("-")[2]
    roots, operations = spans[0::2], spans[1::2]
    assert [each.name for each in roots] == [ROOT] * 3
    assert [each.name for each in operations] == [
        f"{PREFIX}register_instance",
        f"{PREFIX}deregister_instance",
        f"{PREFIX}deregister_instance",
    ]
    assert {each.trace_id.hex() for each in spans} == {TRACE}
    assert {each.parent_span_id.hex() for each in roots} == {caller}
    assert [each.parent_span_id for each in operations] == [each.span_id for each in roots]
    assert len({each.span_id for each in spans}) == 6
    assert [{each.kind for each in some} for some in (roots, operations)] == [{SERVER}, {INTERNAL}]
    assert [each.status.code for each in operations] == [OK, OK, ERROR]
    assert [each.status.code for each in roots] == [OK, OK, OK]
    assert attributes_of(roots[0]) == {"path": MODELS, "status": 200}
    assert attributes_of(operations[0]) == {name: value for name, value in INSTANCE.items() if value is not None}
    assert "port 0" in attributes_of(operations[2])["error"]
    assert receiver.services == {ROOT}


def test_times_are_exact(receiver: Receiver) -> None:
    sink = OtlpSink(options(receiver))
    sink.write([span()])
    sink.close()
    assert receiver.spans(1)[0].start_time_unix_nano == 1_767_323_045_678_901_000
    assert START.isoformat() == "2026-01-02T03:04:05.678901+00:00"


def test_headers_and_compression(receiver: Receiver) -> None:
    sink = OtlpSink(options(receiver, headers="Authorization=Bearer%20s3cr3t, x-tenant = a", compression="gzip"))
    sink.write([span()])
    sink.close()
    [headers] = receiver.headers
    assert headers["authorization"] == "Bearer s3cr3t"
    assert headers["x-tenant"] == "a"
    if receiver.protocol == "http/protobuf":
        assert headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("trusted", [True, False])
def test_a_certificate_of_a_private_authority(tmp_path: Path, trusted: bool) -> None:
    ours, theirs = trustme.CA(), trustme.CA()
    issued = ours.issue_cert("127.0.0.1")
    pem = tmp_path / "ca.pem"
    (ours if trusted else theirs).cert_pem.write_to_path(str(pem))
    credentials = grpc.ssl_server_credentials(
        [(issued.private_key_pem.bytes(), b"".join(each.bytes() for each in issued.cert_chain_pems))]
    )
    with running_receiver("grpc", credentials=credentials) as receiver:
        sink = OtlpSink(options(receiver, certificate=str(pem), timeout=5 if trusted else 0.5))
        if trusted:
            sink.write([span()])
            assert len(receiver.spans(1)) == 1
        else:
            with pytest.raises(NotDelivered):
                sink.write([span()])
        sink.close()


def test_a_dead_receiver_costs_no_request_and_a_bounded_buffer(
    dead: Receiver,
    registry: EmbeddedModelRegistry,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(writer_module, "MAX_SPANS", 20)
    settings = exporting(dead, timeout=0.2)
    tracer = create_tracer(settings)
    assert tracer is not None
    [writer] = tracer.writers
    with running_app(create_app(settings, registry, tracer)) as url:
        replies = call(url, *[("POST", MODELS, {"json": INSTANCE})] * 100)
        assert writer.waiting <= 20
        assert writer.waiting + writer.dropped == 200
    assert [each.json() for each in replies] == [True] * 100
    lines = [record.getMessage() for record in caplog.records]
    assert sum("spans dropped" in line for line in lines) <= 1
    assert sum("fails: " in line for line in lines) <= 1
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]


def test_a_receiver_that_hangs_costs_no_request_and_a_bounded_buffer(
    receiver: Receiver, registry: EmbeddedModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the first batch and does not answer while all these requests are answered; then nothing is lost of what
    waited.
    """
    monkeypatch.setattr(writer_module, "MAX_SPANS", 20)
    receiver.let_go.clear()
    settings = exporting(receiver)
    tracer = create_tracer(settings)
    assert tracer is not None
    [writer] = tracer.writers
    with running_app(create_app(settings, registry, tracer)) as url:
        call(url, ("POST", MODELS, {"json": INSTANCE}))
        assert receiver.reached.wait(20)
        replies = call(url, *[("POST", MODELS, {"json": INSTANCE})] * 100)
        assert not receiver.let_go.is_set()
        assert (writer.waiting, writer.dropped) == (20, 182)
        receiver.let_go.set()
        assert len(receiver.spans(20)) == 20
    assert [each.json() for each in replies] == [True] * 100


def test_what_waited_for_a_receiver_arrives_when_it_comes(registry: EmbeddedModelRegistry) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = ControllerSettings(
        tracer_to_open_telemetry=True,
        otel_exporter_otlp_traces_protocol="http/protobuf",
        otel_exporter_otlp_traces_endpoint=f"http://127.0.0.1:{port}/v1/traces",
        otel_exporter_otlp_traces_timeout=0.2,
    )
    tracer = create_tracer(settings)
    assert tracer is not None
    with running_app(create_app(settings, registry, tracer)) as url:
        call(url, *[("POST", MODELS, {"json": INSTANCE})] * 3)
        with running_receiver("http/protobuf", port=port) as receiver:
            assert len(receiver.spans(6)) == 6


def test_the_reason_of_a_failure_is_logged_once_by_the_writer(dead: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    sink = OtlpSink(options(dead, timeout=0.2, headers="authorization=s3cr3t"))
    with pytest.raises(NotDelivered) as caught:
        sink.write([span()])
    sink.close()
    assert str(caught.value)
    assert "\n" not in str(caught.value)
    assert "s3cr3t" not in str(caught.value) + caplog.text
    assert caplog.records == []


def test_an_error_that_an_exporter_raises_is_a_failed_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = OtlpSink(OtlpOptions(endpoint="http://127.0.0.1:9"))

    def export(_: object) -> None:
        raise ConnectionError("refused\nby 127.0.0.1")

    monkeypatch.setattr(sink._exporter, "export", export)
    with pytest.raises(NotDelivered, match=r"^ConnectionError: refused by 127\.0\.0\.1$"):
        sink.write([span()])
    sink.close()


def test_the_logs_of_other_exporters_stay(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    """While the sink exports, lines of another thread on the same logger are logged."""
    receiver.let_go.clear()
    sink = OtlpSink(options(receiver))
    thread = threading.Thread(target=sink.write, args=([span()],))
    thread.start()
    assert receiver.reached.wait(20)
    name = "grpc.exporter" if receiver.protocol == "grpc" else "http.trace_exporter"
    logging.getLogger(f"opentelemetry.exporter.otlp.proto.{name}").warning("to %s", receiver.endpoint)
    receiver.let_go.set()
    thread.join()
    sink.close()
    assert [record.getMessage() for record in caplog.records] == [f"to {receiver.endpoint}"]


def test_a_receiver_that_hangs_does_not_keep_the_controller(receiver: Receiver) -> None:
    """`close` returns while the export is still unanswered."""
    receiver.let_go.clear()
    writer = SpanWriter(OtlpSink(options(receiver)), monotonic=lambda: 0.0)
    writer.open()
    writer.put(span())
    assert receiver.reached.wait(20)
    writer.close(0.05)
    assert not receiver.let_go.is_set()
    receiver.let_go.set()
    for thread in threading.enumerate():
        if thread.name.startswith("traces to "):
            thread.join()


def test_fastapi_exports_no_second_span(registry: EmbeddedModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """FastAPI's telemetry reads these variables, too; the spans of this package are the only ones."""
    with running_receiver("http/protobuf") as receiver:
        base = receiver.endpoint.removesuffix("/v1/traces")
        monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", base)
        settings = exporting(receiver)
        with running_app(create_app(settings, registry, create_tracer(settings))) as url:
            call(url, ("POST", MODELS, {"json": INSTANCE}), ("GET", MODELS, {}), ("GET", "/openapi.json", {}))
        assert [each.name for each in receiver.spans(2)] == [ROOT, f"{PREFIX}register_instance"]
        assert [headers["user-agent"].split("/")[0] for headers in receiver.headers] == ["OTel-OTLP-Exporter-Python"]


def test_the_standard_names_name_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "controller-7")
    with running_receiver("grpc") as receiver:
        sink = OtlpSink(options(receiver))
        sink.write([span()])
        sink.close()
        receiver.spans(1)
    assert receiver.services == {"controller-7"}


def test_a_missing_extra_is_refused_with_a_plain_message(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry.exporter")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter", None)
    with pytest.raises(UsageError, match=r"^tracer_to_open_telemetry needs the extra otel: pip install 'dbgpt-ctl\["):
        create_tracer(ControllerSettings(tracer_to_open_telemetry=True))


def test_a_missing_certificate_is_refused_with_a_plain_message() -> None:
    with pytest.raises(
        UsageError, match=r"^otel_exporter_otlp_traces_certificate /no/such.pem cannot be read: No such"
    ):
        OtlpSink(OtlpOptions(certificate="/no/such.pem"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_logs_name_the_place_without_secrets(protocol: str) -> None:
    made = OtlpOptions(protocol=protocol, endpoint="http://me:s3cr3t@h:4318/v1/traces", headers="a=s3cr3t")
    assert made.place == f"OTLP {protocol} http://********@h:4318/v1/traces"
    assert "s3cr3t" not in repr(made).replace(made.endpoint or "", "")

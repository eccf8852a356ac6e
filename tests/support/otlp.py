"""A real OTLP receiver, over gRPC and over HTTP, on free ports of loopback: what a collector would get."""

from __future__ import annotations

import gzip
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.proto.trace.v1.trace_pb2 import Span

WAIT_SECS = 20.0


class Receiver:
    """What arrived. `protocol` and `endpoint` are what an exporter is told."""

    def __init__(self, protocol: str) -> None:
        self.protocol = protocol
        self.endpoint = ""
        self.headers: list[dict[str, str]] = []
        """The metadata or headers of each export, names in lower case."""
        self.services: set[str] = set()
        self.let_go = threading.Event()
        """Cleared: exports hang until it is set."""
        self.let_go.set()
        self.reached = threading.Event()
        """Set when an export has arrived, answered or not."""
        self._spans: list[Span] = []
        self._news = threading.Condition()

    def take(self, request: ExportTraceServiceRequest, headers: dict[str, str]) -> None:
        self.reached.set()
        self.let_go.wait(WAIT_SECS)
        with self._news:
            self.headers.append({name.lower(): value for name, value in headers.items()})
            for resource in request.resource_spans:
                attributes = {each.key: each.value.string_value for each in resource.resource.attributes}
                self.services.add(attributes["service.name"])
                for scope in resource.scope_spans:
                    self._spans += scope.spans
            self._news.notify_all()

    def spans(self, count: int) -> list[Span]:
        """All spans, once at least `count` have arrived."""
        with self._news:
            assert self._news.wait_for(lambda: len(self._spans) >= count, WAIT_SECS), [s.name for s in self._spans]
            return list(self._spans)


def attributes_of(span: Span) -> dict[str, Any]:
    """The attributes as Python values."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value") for each in span.attributes}


@contextmanager
def running_receiver(
    protocol: str, *, port: int = 0, credentials: grpc.ServerCredentials | None = None
) -> Iterator[Receiver]:
    """Receives until the block is left. `protocol`: grpc or http/protobuf. With `credentials`: gRPC over TLS.
    `port`: for HTTP; 0 takes a free one.
    """
    receiver = Receiver(protocol)
    with _grpc(receiver, credentials) if protocol == "grpc" else _http(receiver, port):
        try:
            yield receiver
        finally:
            receiver.let_go.set()


@contextmanager
def _grpc(receiver: Receiver, credentials: grpc.ServerCredentials | None) -> Iterator[None]:
    class Service(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> ExportTraceServiceResponse:  # noqa: N802 - gRPC's name
            receiver.take(request, {name: str(value) for name, value in context.invocation_metadata()})
            return ExportTraceServiceResponse()

    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Service(), server)  # type: ignore[no-untyped-call]
        if credentials:
            port = server.add_secure_port("127.0.0.1:0", credentials)
        else:
            port = server.add_insecure_port("127.0.0.1:0")
        receiver.endpoint = f"{'https' if credentials else 'http'}://127.0.0.1:{port}"
        server.start()
        try:
            yield
        finally:
            receiver.let_go.set()
            server.stop(None).wait()


@contextmanager
def _http(receiver: Receiver, port: int) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            status = 200 if self.path == "/v1/traces" else 404
            if status == 200:
                receiver.take(ExportTraceServiceRequest.FromString(body), dict(self.headers))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        receiver.endpoint = f"http://127.0.0.1:{server.server_port}/v1/traces"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield
        finally:
            receiver.let_go.set()
            server.shutdown()
            thread.join()

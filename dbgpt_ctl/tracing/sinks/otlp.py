"""Spans to an OpenTelemetry collector, by the exporters of OpenTelemetry's own SDK (extra `otel`)."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbgpt_ctl import __version__
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.tracing.sinks.custom import NotDelivered
from dbgpt_ctl.tracing.span import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

    from dbgpt_ctl.tracing.span import Span

GRPC, HTTP = "grpc", "http/protobuf"
EXTRA = "pip install 'dbgpt-ctl[otel]'"


@dataclass(frozen=True)
class OtlpOptions:
    """Where to, and how. What is None is left to the standard OTEL_* variables and the SDK's defaults."""

    protocol: str = GRPC
    endpoint: str | None = None
    """A URL; for HTTP the whole of it, `/v1/traces` too. For gRPC `http://` is plain, `https://` is TLS."""
    insecure: bool | None = None
    """gRPC without TLS, where the endpoint has no scheme."""
    certificate: str | None = None
    """Path of the PEM file with the certificates to trust."""
    headers: str | None = field(default=None, repr=False)
    """`name=value,name=value`, values percent-encoded."""
    timeout: float = 10.0
    """In seconds, for one batch with its retries."""
    compression: str = "none"

    @property
    def place(self) -> str:
        """Where to, for logs."""
        endpoint = self.endpoint or "the default endpoint"
        scheme, separator, rest = endpoint.rpartition("://")
        return f"OTLP {self.protocol} {scheme}{separator}{rest.rpartition('@')[2]}"


class OtlpSink:
    """A batch is one export. Raises UsageError when the extra is missing or an option cannot be used."""

    def __init__(self, options: OtlpOptions) -> None:
        self._place = options.place
        try:
            self._exporter, self._words = _exporter(options)
            self._convert = _converter()
        except ImportError as error:
            raise UsageError(
                f"tracer_to_open_telemetry needs the extra otel: {EXTRA} ({error.name or error} is missing)"
            ) from None

    def __str__(self) -> str:
        return self._place

    def write(self, spans: Sequence[Span]) -> None:
        from opentelemetry.sdk.trace.export import SpanExportResult

        batch = [self._convert(span) for span in spans]
        with self._words:
            try:
                result = self._exporter.export(batch)
            except Exception as error:  # an older SDK lets those of its HTTP library through
                raise NotDelivered(" ".join(f"{type(error).__name__}: {error}".split())) from error
        if result is not SpanExportResult.SUCCESS:
            raise NotDelivered(self._words.last or "the export failed")

    def interrupt(self) -> None:
        """The SDK's exporters end their retries, and that for gRPC its call too."""
        self._exporter.shutdown()

    def close(self) -> None:
        self._words.gag(self._exporter.shutdown)


class _LastWords(logging.Filter):
    """The SDK tells the reason of a failure only in its log, at every attempt: heard here, told once by the writer.

    Only what is logged by the thread that exports here: a foreign application may have exporters of its own.
    """

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self.last = ""
        self._logger = logger
        self._thread: int | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self._thread:
            return True
        self.last = " ".join(record.getMessage().split())
        return False

    def __enter__(self) -> None:
        self._thread = threading.get_ident()
        self._logger.addFilter(self)

    def __exit__(self, *_: object) -> None:
        self._logger.removeFilter(self)

    def gag(self, call: Callable[[], Any]) -> None:
        """Calls without a word of the SDK."""
        with self:
            call()


def _exporter(options: OtlpOptions) -> tuple[SpanExporter, _LastWords]:
    _require_file(options.certificate)
    return (_grpc if options.protocol == GRPC else _http)(options)


def _grpc(options: OtlpOptions) -> tuple[SpanExporter, _LastWords]:
    import grpc
    from opentelemetry.exporter.otlp.proto.grpc import exporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    credentials = None
    if options.certificate:
        credentials = grpc.ssl_channel_credentials(Path(options.certificate).read_bytes())
    made = OTLPSpanExporter(
        endpoint=options.endpoint,
        insecure=options.insecure,
        credentials=credentials,
        headers=options.headers,
        timeout=options.timeout,
        compression=grpc.Compression.Gzip if options.compression == "gzip" else grpc.Compression.NoCompression,
    )
    return made, _LastWords(exporter.logger)


def _http(options: OtlpOptions) -> tuple[SpanExporter, _LastWords]:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.util.re import parse_env_headers

    made = OTLPSpanExporter(
        endpoint=options.endpoint,
        certificate_file=options.certificate,
        headers=parse_env_headers(options.headers, liberal=True) if options.headers else None,
        timeout=options.timeout,
        compression=Compression.Gzip if options.compression == "gzip" else Compression.NoCompression,
    )
    return made, _LastWords(logging.getLogger(OTLPSpanExporter.__module__))


def _require_file(certificate: str | None) -> None:
    try:
        if certificate:
            Path(certificate).read_bytes()
    except OSError as error:
        raise UsageError(
            f"otel_exporter_otlp_traces_certificate {certificate} cannot be read: {error.strerror}"
        ) from None


def _converter() -> Callable[[Span], ReadableSpan]:
    """From our span to the SDK's, with the metadata as attributes, as DB-GPT exports it."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    resource = Resource.create({} if named else {"service.name": ROOT, "service.version": __version__})
    scope = InstrumentationScope("dbgpt_ctl", __version__)
    flags = TraceFlags(TraceFlags.SAMPLED)

    def context(trace_id: str, span_id: str, *, is_remote: bool) -> SpanContext:
        return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote, flags)

    def convert(span: Span) -> ReadableSpan:
        trace_id, span_id, _ = span.context
        parent = span.parent_span_id
        return ReadableSpan(
            name=span.operation_name,
            context=context(trace_id, span_id, is_remote=False),
            parent=None if parent is None else context(trace_id, parent, is_remote=span.is_server),
            resource=resource,
            attributes={name: value for name, value in span.metadata.items() if value is not None},
            kind=SpanKind.SERVER if span.is_server else SpanKind.INTERNAL,
            status=Status(StatusCode.UNSET) if span.error is None else Status(StatusCode.ERROR, span.error),
            start_time=_nanoseconds(span.start_time.timestamp()),
            end_time=_nanoseconds(span.end_time.timestamp()),
            instrumentation_scope=scope,
        )

    return convert


def _nanoseconds(seconds: float) -> int:
    """A float of today's seconds is exact to a microsecond, as our times are."""
    return round(seconds * 1_000_000) * 1000

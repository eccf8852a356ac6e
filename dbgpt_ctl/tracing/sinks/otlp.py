"""Spans to an OpenTelemetry collector over OTLP, with the exporters of OpenTelemetry's SDK (extra `otel`)."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dbgpt_ctl import __version__
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.settings.masking import mask_url
from dbgpt_ctl.tracing.span import ROOT
from dbgpt_ctl.tracing.writer import BatchSink, NotDelivered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

    from dbgpt_ctl.tracing.span import Span

GRPC, HTTP = "grpc", "http/protobuf"
EXTRA = "pip install 'dbgpt-ctl[otel]'"


@dataclass(frozen=True)
class OtlpOptions:
    """The destination and how to reach it. None leaves an option to the OTEL_* variables and the SDK's defaults."""

    protocol: str = GRPC
    endpoint: str | None = None
    """A URL, for HTTP with its path `/v1/traces`. For gRPC `http://` means plain and `https://` means TLS."""
    insecure: bool | None = None
    """gRPC without TLS, if the endpoint has no scheme."""
    certificate: str | None = None
    """Path of the PEM file with the certificates to trust."""
    headers: str | None = field(default=None, repr=False)
    """`name=value,name=value`, values percent-encoded."""
    timeout: float = 10.0
    """The limit for one batch with its retries, in seconds."""
    compression: str = "none"

    @property
    def place(self) -> str:
        """The destination without secrets, for logs."""
        return f"OTLP {self.protocol} {mask_url(self.endpoint or 'the default endpoint')}"


class OtlpSink(BatchSink):
    """Exports each batch in one call. Raises UsageError when the extra is missing or an option cannot be used."""

    def __init__(self, options: OtlpOptions) -> None:
        self._place = options.place
        try:
            self._exporter, self._sdk_log = _exporter(options)
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
        with self._sdk_log:
            try:
                result = self._exporter.export(batch)
            except Exception as error:  # an older SDK passes errors of its HTTP library on
                raise NotDelivered(" ".join(f"{type(error).__name__}: {error}".split())) from error
        if result is not SpanExportResult.SUCCESS:
            raise NotDelivered(self._sdk_log.last or "the export failed")

    def interrupt(self) -> None:
        """The exporter ends its retries; for gRPC it ends the call, too."""
        self._exporter.shutdown()

    def close(self) -> None:
        with self._sdk_log:
            self._exporter.shutdown()


class _SdkLog(logging.Filter):
    """Captures what the SDK logs while this sink exports: its log is the only place with the reason of a failure.

    The writer logs the reason once, instead of the SDK at every attempt. Only lines of the exporting thread are
    captured: the application around this package may have exporters of its own.
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


def _exporter(options: OtlpOptions) -> tuple[SpanExporter, _SdkLog]:
    try:
        certificate = Path(options.certificate).read_bytes() if options.certificate else None
    except OSError as error:
        raise UsageError(
            f"otel_exporter_otlp_traces_certificate {options.certificate} cannot be read: {error.strerror}"
        ) from None
    return _grpc(options, certificate) if options.protocol == GRPC else _http(options)


def _grpc(options: OtlpOptions, certificate: bytes | None) -> tuple[SpanExporter, _SdkLog]:
    import grpc
    from opentelemetry.exporter.otlp.proto.grpc import exporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    span_exporter = OTLPSpanExporter(
        endpoint=options.endpoint,
        insecure=options.insecure,
        credentials=grpc.ssl_channel_credentials(certificate) if certificate is not None else None,
        headers=options.headers,
        timeout=options.timeout,
        compression=grpc.Compression.Gzip if options.compression == "gzip" else grpc.Compression.NoCompression,
    )
    return span_exporter, _SdkLog(exporter.logger)


def _http(options: OtlpOptions) -> tuple[SpanExporter, _SdkLog]:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.util.re import parse_env_headers

    span_exporter = OTLPSpanExporter(
        endpoint=options.endpoint,
        certificate_file=options.certificate,
        headers=parse_env_headers(options.headers, liberal=True) if options.headers else None,
        timeout=options.timeout,
        compression=Compression.Gzip if options.compression == "gzip" else Compression.NoCompression,
    )
    return span_exporter, _SdkLog(logging.getLogger(OTLPSpanExporter.__module__))


def _converter() -> Callable[[Span], ReadableSpan]:
    """A function that turns our span into the SDK's, with the metadata as attributes, as DB-GPT exports it."""
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
    """Exact: a float of today's seconds holds microseconds, the resolution of our times."""
    return round(seconds * 1_000_000) * 1000

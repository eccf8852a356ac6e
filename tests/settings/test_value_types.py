"""Values of single types that the tables of test_load do not cover."""

from __future__ import annotations

import pytest

from tests.settings.loading import SECRET, refused


def test_a_port_that_kubernetes_set_is_explained() -> None:
    message = refused(environ={"CONTROLLER_PORT": "tcp://10.0.0.1:8000"})
    assert message == (
        "port tcp://10.0.0.1:8000 is not a whole number from 1 to 65535: Kubernetes sets this for a Service named "
        "controller (enableServiceLinks: false stops it) (environment CONTROLLER_PORT)"
    )


@pytest.mark.parametrize("text", [SECRET, f"={SECRET}", f"a={SECRET},{SECRET}", ","])
def test_headers_that_are_none_are_refused_and_not_shown(text: str) -> None:
    assert "is not a list of name=value" in refused(flags={"otel_exporter_otlp_traces_headers": text})


@pytest.mark.parametrize("text", ["-0.1", "1.1", "nan", "half"])
def test_a_ratio_is_from_0_to_1(text: str) -> None:
    assert "is not a number from 0 to 1" in refused(flags={"tracer_sample_ratio": text})

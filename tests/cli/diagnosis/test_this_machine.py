"""Which registered hosts would mean the machine of the caller."""

from __future__ import annotations

import pytest

from dbgpt_ctl.cli.diagnosis.this_machine import means_caller


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "0.0.0.0", "[::]"])
def test_a_loopback_address_is_called_only_beside_the_controller(host: str) -> None:
    assert means_caller(host, "ctl-1")
    assert means_caller(host, "10.0.0.1")
    assert not means_caller(host, "127.0.0.1")
    assert not means_caller(host, "localhost")


@pytest.mark.parametrize("host", ["10.0.0.4", "worker-7", "[fd00::5]"])
def test_any_other_address_is_called(host: str) -> None:
    assert not means_caller(host, "ctl-1")
    assert not means_caller(host, "127.0.0.1")

"""Which certificates a client trusts: those of a file in place of the system's, and one line about a wrong file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trustme

from dbgpt_ctl.client.dbgpt_compat import ModelRegistryClient
from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.client.trust import ssl_context
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.failure_causes import FailureCause
from dbgpt_ctl.settings.addresses import parse_addresses
from tests.client.clients import OBJECT, VERBS
from tests.client.test_failure_causes import serving_tls

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client.clients import MakeCalls


@pytest.fixture
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(ca: trustme.CA, tmp_path: Path) -> str:
    """Also with a text around the certificate that is not ASCII, as in the bundles of systems."""
    path = tmp_path / "ca.pem"
    path.write_bytes("# Főtanúsítvány\n".encode() + ca.cert_pem.bytes() + "# ü\n".encode("latin-1"))
    return str(path)


def test_each_client_trusts_the_certificates_of_the_file(make_calls: MakeCalls, ca: trustme.CA, ca_file: str) -> None:
    with serving_tls(ca.issue_cert("127.0.0.1")) as url:
        (listed,) = make_calls(url, VERBS["list"], ca_file=ca_file)
        assert listed.objects == [OBJECT]
        stock = ModelRegistryClient(url, ca_file=ca_file, check_health=False)
        assert len(stock.sync_get_all_instances()) == 1


def test_the_system_is_not_trusted_beside_the_file(
    make_calls: MakeCalls, ca: trustme.CA, ca_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = trustme.CA()
    system.cert_pem.write_to_path(str(tmp_path / "system.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    with serving_tls(system.issue_cert("127.0.0.1")) as url:
        (listed,) = make_calls(url, VERBS["list"])
        assert listed.objects == [OBJECT]
        (error,) = make_calls(url, VERBS["list"], ca_file=ca_file)
        assert error.cause is FailureCause.CERTIFICATE_UNTRUSTED
        assert "--ca-file" in str(error)


def test_a_certificate_that_is_no_root_is_trusted_by_itself(make_calls: MakeCalls, tmp_path: Path) -> None:
    intermediate = trustme.CA().create_child_ca()
    path = tmp_path / "intermediate.pem"
    intermediate.cert_pem.write_to_path(str(path))
    with serving_tls(intermediate.issue_cert("127.0.0.1")) as url:
        (listed,) = make_calls(url, VERBS["list"], ca_file=str(path))
    assert listed.objects == [OBJECT]


def test_the_look_into_the_other_scheme_uses_the_file_too(make_calls: MakeCalls, ca: trustme.CA, ca_file: str) -> None:
    with serving_tls(ca.issue_cert("127.0.0.1")) as url:
        (error,) = make_calls(url.replace("https:", "http:"), VERBS["list"], ca_file=ca_file)
    assert error.cause is FailureCause.NEEDS_HTTPS


HOLDS_NONE = "holds no certificates to trust: it has to be a PEM file of them"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", HOLDS_NONE),
        (b"no certificate\n", HOLDS_NONE),
        (b"-----BEGIN CERTIFICATE-----\nbm90IG9uZQ==\n-----END CERTIFICATE-----\n", HOLDS_NONE),
        (b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", HOLDS_NONE),
        (b"\x30\x82\x01\x00", HOLDS_NONE),
        (b"#" * (4 * 1024**2 + 1), "cannot be read: it is larger than 4 MiB"),
        (None, "no such file"),
    ],
    ids=["empty", "text", "no X.509", "no base64", "DER", "large", "missing"],
)
@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "https://127.0.0.1:1"])
def test_a_wrong_file_is_one_line_that_names_it(address: str, content: bytes | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        ControllerClient(address, ca_file=str(path))
    assert str(caught.value) == f"ca_file {path}: {says}"


def test_a_key_of_a_server_is_no_certificate(ca: trustme.CA, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    ca.issue_cert("h").private_key_pem.write_to_path(str(path))
    with pytest.raises(UsageError, match=HOLDS_NONE):
        ssl_context((), str(path))


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, says in ((tmp_path / "pipe", "it is a named pipe, not a regular file"), (tmp_path, "Is a directory")):
        with pytest.raises(UsageError) as caught:
            ssl_context(parse_addresses("https://h"), str(path))
        assert str(caught.value) == f"ca_file {path}: cannot be read: {says}"

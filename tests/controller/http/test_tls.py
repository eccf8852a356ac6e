"""The files of the TLS listener: what is refused, and when a new pair takes their place."""

from __future__ import annotations

import shutil
import ssl
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from dbgpt_ctl.controller.http.tls import WatchedCertificate, load_certificate, server_context
from dbgpt_ctl.errors import UsageError
from tests.support.clock import START, ManualClock
from tests.support.tls import authority

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.tls import Authority

DAY = timedelta(days=1)
SECRET_LINE = 24
"""So many characters of a key are never in a message."""


@pytest.fixture(params=[trustme.KeyType.ECDSA, trustme.KeyType.RSA], ids=["ecdsa", "rsa"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Authority:
    made = authority(tmp_path / "tls", request.param)
    made.write(made.issue(not_before=START - DAY, not_after=START + 30 * DAY))
    return made


@pytest.fixture
def watched(files: Authority, clock: ManualClock) -> WatchedCertificate:
    return WatchedCertificate(str(files.cert), str(files.key), clock)


def refusal(files: Authority) -> str:
    with pytest.raises(UsageError) as caught:
        load_certificate(str(files.cert), str(files.key))
    message = str(caught.value)
    assert "\n" not in message
    lines = files.key.read_text(errors="replace").splitlines() if files.key.is_file() else []
    assert not any(line in message for line in lines if len(line) > SECRET_LINE and not line.startswith("-----"))
    return message


def test_a_pair_is_loaded_with_its_times(files: Authority) -> None:
    loaded = load_certificate(str(files.cert), str(files.key))
    assert loaded.not_after == (START + 30 * DAY).replace(microsecond=0)
    assert loaded.invalid(START) is None
    assert "expired" in str(loaded.invalid(START + 31 * DAY))
    assert "not valid before" in str(loaded.invalid(START - 2 * DAY))


def test_the_parameters_of_a_handshake() -> None:
    context = server_context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.verify_mode == ssl.CERT_NONE


def test_a_file_that_is_missing(files: Authority) -> None:
    files.key.unlink()
    assert refusal(files) == f"tls_key {files.key}: no such file"
    files.cert.unlink()
    assert refusal(files) == f"tls_cert {files.cert}: no such file"


def test_a_file_that_is_no_file(files: Authority) -> None:
    files.cert.unlink()
    files.cert.mkdir()
    assert refusal(files).startswith(f"tls_cert {files.cert}: cannot be read: ")


def test_files_that_are_exchanged(files: Authority) -> None:
    cert = files.cert.read_bytes()
    files.cert.write_bytes(files.key.read_bytes())
    assert refusal(files) == f"tls_cert {files.cert}: holds no certificate in PEM, or one that is damaged"
    files.key.write_bytes(cert)
    files.cert.write_bytes(cert)
    assert refusal(files) == f"tls_key {files.key}: holds no private key in PEM"


def test_a_damaged_key(files: Authority) -> None:
    lines = files.key.read_text().splitlines()
    files.key.write_text("\n".join([lines[0], "AAAA" + lines[1][4:], *lines[2:]]))
    assert refusal(files).startswith(f"tls_key {files.key}: ")


def test_a_key_of_another_certificate(files: Authority) -> None:
    files.write_key(files.issue())
    assert refusal(files) == f"tls_key {files.key}: is not the key of the first certificate in {files.cert}"


@pytest.mark.parametrize(
    "form", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL], ids=["new", "old"]
)
def test_a_passphrase_is_not_supported(files: Authority, form: serialization.PrivateFormat) -> None:
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"passphrase")
    files.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, encryption))
    assert refusal(files).startswith(f"tls_key {files.key}: is encrypted, and a passphrase is not supported; ")


def test_a_new_pair_is_taken_when_both_files_match(
    files: Authority, watched: WatchedCertificate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    before, new = watched.current, files.issue(not_before=START - DAY, not_after=START + 60 * DAY)
    files.write_cert(new)
    watched.look()
    files.write_key(new)
    watched.look()
    assert watched.current is before  # the files may still change
    watched.look()
    assert watched.current.not_after == (START + 60 * DAY).replace(microsecond=0)
    assert watched.problem is None
    assert [record.getMessage() for record in caplog.records] == [
        "the TLS certificate was replaced; the new one is valid until 2026-03-03T03:04:05Z"
    ]


def test_a_pair_that_does_not_match_is_reported_once_and_the_one_before_it_stays(
    files: Authority, watched: WatchedCertificate, caplog: pytest.LogCaptureFixture
) -> None:
    before, new = watched.current, files.issue(not_before=START - DAY, not_after=START + 60 * DAY)
    files.write_cert(new)
    for _ in range(5):
        watched.look()
    assert watched.current is before
    assert watched.problem == (
        f"tls_key {files.key}: is not the key of the first certificate in {files.cert}; the one before it stays in use"
    )
    assert [record.getMessage() for record in caplog.records] == [watched.problem]
    files.write_key(new)
    for _ in range(2):
        watched.look()
    assert watched.current is not before
    assert watched.problem is None


@pytest.mark.parametrize("change", ["unlink", "spoil"])
def test_files_that_go_or_are_spoilt_change_nothing(files: Authority, watched: WatchedCertificate, change: str) -> None:
    before = watched.current
    if change == "unlink":
        files.cert.unlink()
    else:
        files.cert.write_text("nothing")
    for _ in range(3):
        watched.look()
    assert watched.current is before
    assert str(files.cert) in str(watched.problem)


def test_a_link_that_changes_its_folder_is_followed(tmp_path: Path, clock: ManualClock) -> None:
    """As a volume of Kubernetes does: tls.crt -> ..data/tls.crt, and ..data -> a folder."""
    made = authority(tmp_path / "first")
    mount = tmp_path / "mount"
    mount.mkdir()
    (mount / "..data").symlink_to(made.folder)
    for name in ("tls.crt", "tls.key"):
        (mount / name).symlink_to(f"..data/{name}")
    watched = WatchedCertificate(str(mount / "tls.crt"), str(mount / "tls.key"), clock)
    before = watched.current
    shutil.copytree(made.folder, tmp_path / "second")
    other = authority(tmp_path / "second")
    (mount / "..new").symlink_to(other.folder)
    (mount / "..new").replace(mount / "..data")
    for _ in range(2):
        watched.look()
    assert watched.current is not before
    assert watched.problem is None


def test_a_new_certificate_that_has_expired_is_not_taken(files: Authority, watched: WatchedCertificate) -> None:
    before = watched.current
    files.write(files.issue(not_before=START - 9 * DAY, not_after=START - DAY))
    for _ in range(2):
        watched.look()
    assert watched.current is before
    assert watched.problem == (
        f"tls_cert {files.cert}: the new certificate expired at 2026-01-01T03:04:05Z; the one before it stays in use"
    )


def test_a_new_certificate_is_taken_when_it_becomes_valid(
    files: Authority, watched: WatchedCertificate, clock: ManualClock
) -> None:
    before = watched.current
    files.write(files.issue(not_before=START + DAY, not_after=START + 60 * DAY))
    for _ in range(2):
        watched.look()
    assert watched.current is before
    assert "the new certificate is not valid before 2026-01-03T03:04:05Z" in str(watched.problem)
    clock.advance(DAY.total_seconds())
    watched.look()
    assert watched.current is not before
    assert watched.problem is None


def test_a_certificate_that_expires_in_use_is_loud(
    files: Authority, watched: WatchedCertificate, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    clock.advance(31 * DAY.total_seconds())
    for _ in range(3):
        watched.look()
    assert watched.problem == f"tls_cert {files.cert}: the certificate in use expired at 2026-02-01T03:04:05Z"
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == (
        "ERROR",
        f"{watched.problem}: clients that check it cannot connect",
    )


def test_a_start_with_an_expired_certificate_serves(files: Authority, clock: ManualClock) -> None:
    """The other listener is needed all the same."""
    clock.advance(31 * DAY.total_seconds())
    assert "expired" in str(WatchedCertificate(str(files.cert), str(files.key), clock).problem)

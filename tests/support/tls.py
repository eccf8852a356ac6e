"""Certificates for a controller under test, by a CA of its own."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trustme

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Authority:
    """A CA that issues certificates for loopback, with keys of one type."""

    folder: Path
    ca: trustme.CA
    key_type: trustme.KeyType

    @property
    def ca_file(self) -> Path:
        """Its own certificate."""
        return self.folder / "ca.pem"

    @property
    def cert(self) -> Path:
        return self.folder / "tls.crt"

    @property
    def key(self) -> Path:
        return self.folder / "tls.key"

    @property
    def flags(self) -> list[str]:
        """For `ctl serve`."""
        return ["--tls-cert", str(self.cert), "--tls-key", str(self.key)]

    def issue(self, *, not_before: datetime | None = None, not_after: datetime | None = None) -> trustme.LeafCert:
        """A new certificate, which is in no file."""
        return self.ca.issue_cert(*LOOPBACK, key_type=self.key_type, not_before=not_before, not_after=not_after)

    def write(self, leaf: trustme.LeafCert) -> None:
        """Puts it into the files."""
        self.write_cert(leaf)
        self.write_key(leaf)

    def write_cert(self, leaf: trustme.LeafCert) -> None:
        """Replaces the file of the certificate, as a certificate manager does."""
        _replace(self.cert, b"".join(pem.bytes() for pem in leaf.cert_chain_pems))

    def write_key(self, leaf: trustme.LeafCert) -> None:
        """Replaces the file of the key."""
        _replace(self.key, leaf.private_key_pem.bytes())

    def trusting(self) -> ssl.SSLContext:
        """The context of a client that trusts the CA."""
        return ssl.create_default_context(cafile=str(self.ca_file))


def authority(folder: Path, key_type: trustme.KeyType = trustme.KeyType.ECDSA) -> Authority:
    """A new one, whose files hold its first certificate."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Authority(folder, trustme.CA(key_type=key_type), key_type)
    made.ca.cert_pem.write_to_path(str(made.ca_file))
    made.write(made.issue())
    return made


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_name(f"{path.name}.new")
    draft.touch(mode=0o600)
    draft.write_bytes(content)
    draft.replace(path)

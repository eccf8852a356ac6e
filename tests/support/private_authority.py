"""A certificate authority as a company has one, and what a controller and its clients need of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import certifi
import trustme

if TYPE_CHECKING:
    from collections.abc import Sequence


class PrivateAuthority:
    """Its files are in `folder`: `certificate`, of the authority; `bundle`, the public authorities and this one, which
    clients need that take one file instead of those of the system; and pairs of servers.
    """

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self._folder = folder
        self.certificate = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(str(self.certificate))
        self.bundle = folder / "bundle.pem"
        self.bundle.write_bytes(Path(certifi.where()).read_bytes() + self.certificate.read_bytes())

    def issue(self, name: str, hosts: Sequence[str] = ("127.0.0.1",)) -> tuple[Path, Path]:
        """The files of a certificate for these hosts and of its key."""
        issued = self._authority.issue_cert(*hosts, key_type=trustme.KeyType.ECDSA)
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        key.chmod(0o600)
        return certificate, key

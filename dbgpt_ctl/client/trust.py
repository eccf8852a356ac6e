"""Which certificates a client trusts. It imports no httpx: completion has no time for that."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.files import MIB, read_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbgpt_ctl.settings.addresses import Address

_LARGEST_FILE = 4 * MIB
"""A bundle of all public authorities has 0.3 MiB."""


def ssl_context(addresses: Sequence[Address], ca_file: str | None = None) -> ssl.SSLContext:
    """Trusts the certificates in the PEM file, and without one the system's (SSL_CERT_FILE and SSL_CERT_DIR count).

    The file is read also where no address is https: a mistake in it shows at once. Without a file and without an https
    address no certificate is read, and none is trusted: reading the system's adds 3.5 % to the CPU time of `ctl models
    list`. Raises UsageError, which names the file.
    """
    if ca_file is not None:
        return _trusting(ca_file)
    if any(address.is_https for address in addresses):
        return ssl.create_default_context()
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _trusting(path: str) -> ssl.SSLContext:
    """A regular file only: several clients of one command read it, and a pipe can be read once."""
    try:
        # Of a bundle the text between the certificates may be in any language; the certificates are ASCII.
        text = read_file(path, _LARGEST_FILE, regular=True).decode("ascii", errors="ignore")
        context = ssl.create_default_context(cadata=text or "empty")
    except FileNotFoundError:
        raise UsageError(f"ca_file {path}: no such file") from None
    except ssl.SSLError:  # an OSError too, whose text is OpenSSL's
        raise UsageError(f"ca_file {path}: holds no certificates to trust: it has to be a PEM file of them") from None
    except OSError as error:
        raise UsageError(f"ca_file {path}: cannot be read: {error.strerror}") from None
    # As in Python 3.13 and in curl: a certificate of the file is trusted by itself, it need not be a root.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context

"""A MySQL server that wants the password of its clients. It keeps every byte that it gets, decrypted."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

TLS = 0x0800
_CAPABILITIES = 0x01 | 0x08 | 0x0200 | 0x2000 | 0x8000 | 0x080000 | 0x200000  # protocol 4.1, authentication by plug-ins
_SALT = b"abcdefghijklmnopqrst"
_PROMPT = b"\x05Password: "
_NAMED_KEY = b"\x01"


@dataclass
class Conversation:
    """One client. `send` and `receive` are whole packets of the protocol."""

    sock: socket.socket
    got: list[bytes]
    sequence: int = 0

    def send(self, payload: bytes) -> None:
        self.sock.sendall(struct.pack("<I", len(payload))[:3] + bytes([self.sequence]) + payload)
        self.sequence = (self.sequence + 1) % 256

    def receive(self) -> bytes:
        """Raises EOFError when the client is gone."""
        head = self._exactly(4)
        payload = self._exactly(int.from_bytes(head[:3], "little"))
        self.sequence = (head[3] + 1) % 256
        self.got.append(payload)
        return payload

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.sock.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data


@dataclass
class HostileMySQL:
    """What a client finds at `port`. `greeted` is the login that the greeting names, `asked` the one that it asks for
    then; `context` a certificate, with which TLS is offered.

    `behaviour` replaces all of that.
    """

    port: int = 0
    greeted: str = "mysql_native_password"
    asked: str | None = "mysql_clear_password"
    context: ssl.SSLContext | None = None
    behaviour: Callable[[Conversation], None] | None = None
    got: list[bytes] = field(default_factory=list)
    asks: int = 0
    """How many clients were asked for their password."""
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    def learned(self, secret: str) -> bool:
        """Whether the secret is in what clients sent: as it is, or encrypted for this server's key."""
        wanted = secret.encode()
        return any(wanted in data or wanted in self._decrypted(data) for data in self.got)

    def talk(self, sock: socket.socket) -> None:
        talk = Conversation(sock, self.got)
        if self.behaviour is not None:
            self.behaviour(talk)
            return
        talk.send(self._greeting())
        first = talk.receive()
        if self.context is not None and struct.unpack("<I", first[:4])[0] & TLS:
            with self.context.wrap_socket(sock, server_side=True) as talk.sock:
                talk.receive()
                self._ask(talk)
        else:
            self._ask(talk)

    def _ask(self, talk: Conversation) -> None:
        """Asks for the password until the client is gone."""
        self.asks += 1
        if self.asked is not None:
            talk.send(b"\xfe" + self.asked.encode() + b"\0" + (_PROMPT if self.asked == "dialog" else _SALT + b"\0"))
        while True:
            got = talk.receive()
            if got in (b"\x01", b"\x02"):  # the client wants a key to encrypt its password for
                talk.send(_NAMED_KEY + self._public_key())
            elif self.asked == "caching_sha2_password" and len(got) == hashes.SHA256.digest_size:
                talk.send(b"\x01\x04")  # the hash is not enough: the whole password, please
            else:
                talk.send(b"\xff" + struct.pack("<H", 1045) + b"#28000Access denied")

    def _greeting(self) -> bytes:
        capabilities = _CAPABILITIES | (TLS if self.context else 0)
        low, high = struct.pack("<HH", capabilities & 0xFFFF, capabilities >> 16)[:2], capabilities >> 16
        return (
            b"\x0a8.0.36\0"
            + struct.pack("<I", 7)
            + _SALT[:8]
            + b"\0"
            + low
            + struct.pack("<BHHB", 45, 2, high, len(_SALT) + 1)
            + bytes(10)
            + _SALT[8:]
            + b"\0"
            + self.greeted.encode()
            + b"\0"
        )

    def _public_key(self) -> bytes:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.key.public_key().public_bytes(serialization.Encoding.PEM, form)

    def _decrypted(self, data: bytes) -> bytes:
        sha1 = hashes.SHA1()
        oaep = padding.OAEP(padding.MGF1(sha1), sha1, None)
        try:
            mixed = self.key.decrypt(data, oaep)
        except ValueError:
            return b""
        return bytes(byte ^ _SALT[at % len(_SALT)] for at, byte in enumerate(mixed))


@contextmanager
def hostile_mysql(server: HostileMySQL) -> Iterator[HostileMySQL]:
    """Listens on a free port of loopback until the end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server.port = listener.getsockname()[1]
        open_socks: list[socket.socket] = []

        def serve(sock: socket.socket) -> None:
            with sock, suppress(OSError, EOFError):
                server.talk(sock)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    sock, _ = listener.accept()
                    open_socks.append(sock)
                    threading.Thread(target=serve, args=(sock,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for sock in open_socks:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

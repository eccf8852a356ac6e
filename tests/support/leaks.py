"""Finds a secret, in every spelling in which it may have been written down, in all that a run leaves behind."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WINDOW = 16
"""So many characters of a secret in a row are a leak: 96 of its 256 random bits."""


def spellings(secret: str) -> set[bytes]:
    """What is searched for: every window of the secret, as it is, in hexadecimal digits, percent-encoded throughout
    (a token has no character that must be), and in Base64 of any text that holds it.
    """
    raw = secret.encode()
    found = {raw[start : start + WINDOW] for start in range(max(1, len(raw) - WINDOW + 1))}
    found |= {piece.hex().encode() for piece in list(found)}
    found |= {"".join(f"%{byte:02{case}}" for byte in raw).encode() for case in "xX"}
    for before in range(3):  # the place of the first byte within a group of three
        padded = bytes(before) + raw
        for encode in (b64encode, urlsafe_b64encode):
            whole = encode(padded).rstrip(b"=")
            inner = whole[4 if before else 0 : len(padded) // 3 * 4]  # without the groups that other bytes share
            found |= {inner[start : start + 2 * WINDOW] for start in range(max(1, len(inner) - 2 * WINDOW + 1))}
    return found


@dataclass
class Left:
    """What a run has left behind, by what it is. Threads may add to it."""

    entries: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def texts(self) -> dict[str, bytes]:
        """All that was added under each name."""
        texts: dict[str, bytes] = {}
        for what, text in self.entries:
            texts[what] = texts.get(what, b"") + b"\n" + text
        return texts

    def add(self, what: str, content: str | bytes) -> None:
        data = content.encode(errors="surrogateescape") if isinstance(content, str) else content
        self.entries.append((what, data))

    def add_files(self, folder: Path) -> None:
        """Every file below it, and its name."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.add(f"file {path.relative_to(folder)}", str(path).encode() + b"\n" + path.read_bytes())

    def leaks(self, secrets: dict[str, str]) -> Iterator[str]:
        """A line for each secret in each text that holds it, with what stands before it."""
        texts = self.texts
        for name, secret in secrets.items():
            wanted = spellings(secret)
            for what, text in texts.items():
                place = min((at for at in map(text.find, wanted) if at >= 0), default=-1)
                if place >= 0:
                    yield f"{name} in {what}: ...{text[max(0, place - 200) : place + 80]!r}"

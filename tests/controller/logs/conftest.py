from __future__ import annotations

from tests.hostile.conftest import serve

__all__ = ["serve"]

"""Suggestions for unknown words."""

from __future__ import annotations

from dbgpt_ctl.spelling import nearest


def test_nearest_ignores_case() -> None:
    assert nearest("QWEN", ["qwen", "bge"]) == "qwen"
    assert nearest("zzz", ["qwen", "bge"]) is None

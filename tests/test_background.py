"""A task that runs as long as a block lasts."""

from __future__ import annotations

import asyncio

import pytest

from dbgpt_ctl.background import background_task


def names() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks()}


def test_it_runs_until_the_block_is_left() -> None:
    async def scenario() -> None:
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - both blocks are the subject
            async with background_task(asyncio.sleep(3600), "of a block"):
                assert "of a block" in names()
                raise ZeroDivisionError
        assert "of a block" not in names()

    asyncio.run(scenario())


def test_its_error_does_not_end_the_block() -> None:
    async def fail() -> None:
        raise ValueError

    async def scenario() -> str:
        async with background_task(fail(), "fails"):
            while "fails" in names():
                await asyncio.sleep(0)
            return "served on"

    assert asyncio.run(scenario()) == "served on"


def test_who_waits_for_its_end_can_be_cancelled() -> None:
    """A cancellation from outside goes on, and is not taken for that of the task."""

    async def scenario() -> bool:
        async def serve() -> None:
            async with background_task(asyncio.sleep(3600), "of a block"):
                await asyncio.sleep(3600)

        serving = asyncio.create_task(serve())
        await asyncio.sleep(0)
        serving.cancel()
        await asyncio.wait([serving])
        return serving.cancelled() and "of a block" not in names()

    assert asyncio.run(scenario())

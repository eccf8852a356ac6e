"""A worker and an API server of DB-GPT with two controllers over a replicated database: of both one is killed under
chats.
"""

from __future__ import annotations

from contextlib import contextmanager
from time import sleep
from typing import TYPE_CHECKING

import pytest

from tests.chaos.controllers import controllers
from tests.support.chats import Chats
from tests.support.dbgpt_cluster import start_api_server, start_worker
from tests.support.dbgpt_openai import MODEL
from tests.support.dbgpt_process import get, until
from tests.support.group_replication import replication_group
from tests.support.mysql_server import missing_programs as missing_mysql
from tests.support.postgresql_server import missing_programs as missing_postgresql
from tests.support.streaming_replication import primary_and_standby

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.interop.conftest import NewLab
    from tests.support.database_server import DatabaseServer
    from tests.support.dbgpt import Release
    from tests.support.dbgpt_openai import FakeOpenAI

    Replicated = tuple[Sequence[DatabaseServer], Callable[[], None]]

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

BEFORE = 20
"""Chats before each death."""
AFTER_SECS = 12.0
"""How long chats go on after each: longer than the 5 s between two health checks of DB-GPT, and than an election."""


@contextmanager
def mysql() -> Iterator[Replicated]:
    """Its servers, and what kills the primary."""
    with replication_group(3) as members:
        yield members, members[0].kill


@contextmanager
def postgresql() -> Iterator[Replicated]:
    with primary_and_standby() as (primary, standby):

        def kill() -> None:
            primary.kill()
            standby.promote()

        yield (primary, standby), kill


@pytest.mark.parametrize(
    ("replicated", "missing"),
    [
        pytest.param(mysql, missing_mysql(), id="mysql"),
        pytest.param(postgresql, missing_postgresql(), id="postgresql"),
    ],
)
def test_a_controller_and_a_primary_are_killed(  # noqa: PLR0917 - fixtures
    newest: Release,
    new_lab: NewLab,
    openai: FakeOpenAI,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    replicated: Callable[[], AbstractContextManager[Replicated]],
    missing: str | None,
) -> None:
    """DB-GPT's clients use a dead controller until their next health check, and each chat needs a list."""
    if missing:
        pytest.skip(missing)
    options = ("--shutdown-grace-secs", "0", "--heartbeat-timeout-secs", "10", "--heartbeat-interval-secs", "1")
    chats = Chats()
    with (
        replicated() as (servers, kill),
        controllers(tmp_path, servers, 2, *options) as pair,
        new_lab("servers-killed") as lab,
    ):
        addresses = ",".join(controller.url for controller in pair)
        worker = start_worker(lab, newest, addresses, openai.base)
        process, api = start_api_server(lab, newest, addresses)
        until("worker in the lists", lambda: listed(pair[0].url) == [worker.model], worker.process, process)
        until("model of the API server", lambda: MODEL in str(get(f"{api}/models")), process)
        chats.put_into_service(api)
        with chats.running():
            chats.wait_for_more(BEFORE)
            kill()
            sleep(AFTER_SECS)
            chats.wait_for_those_in_progress()
            number, failed = chats.number, list(chats.failed)
            pair[0].kill()
            sleep(AFTER_SECS)
        assert listed(pair[1].url) == [worker.model]
    record_property("figure", f"{number} chats around the death of the primary, {len(failed)} failed")
    later = f"{chats.number - number} chats around that of a controller, {len(chats.failed) - len(failed)} failed"
    record_property("figure", later)
    assert not failed, "lists came from memory"
    assert chats.answered > BEFORE


def listed(url: str) -> list[str]:
    instances = get(f"{url}/api/controller/models", healthy_only="true") or []
    return [f"{each['model_name']}/{each['host']}:{each['port']}" for each in instances if "@llm" in each["model_name"]]

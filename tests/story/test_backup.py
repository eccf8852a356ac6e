"""docs/backup.md: its commands save and restore each kind of registry, and afterwards it is as the page says."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest

from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.registry.database.tables.schema import TABLE_NAMES
from tests.chaos.controllers import controllers
from tests.chaos.load import Load, Watcher, Worker
from tests.chaos.wire import Instance, Wire
from tests.support.database_server import private_server
from tests.support.day2 import DEADLINE_SECS, database_variables, reader, service, until
from tests.support.document_runs import Names, follow, sections
from tests.support.documents import Command
from tests.support.mariadb import MariaDBServer, missing_programs
from tests.support.process import ROOT, ctl, start

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dbgpt_ctl.client.results import Inventory

DOCUMENT = ROOT / "docs" / "backup.md"
DATABASE = "dbgpt"
MODEL = "steady@llm"
TIMEOUT_SECS, INTERVAL_SECS = 10, 0.5
OPTIONS = ("--heartbeat-timeout-secs", str(TIMEOUT_SECS), "--heartbeat-interval-secs", "1")
STEADY, NEW, DRAINED, UNDRAINED, DEAD, GONE = (Instance(MODEL, port) for port in range(8001, 8007))
"""What happens to each between the backup and the restore."""

pytestmark = pytest.mark.slow


def by_port(inventory: Inventory) -> dict[int, Any]:
    return {instance.port: instance for instance in inventory.instances}


def unhealthy(inventory: Inventory) -> set[int]:
    return {instance.port for instance in inventory.instances if instance.state is InstanceState.UNHEALTHY}


@pytest.fixture
def mariadb_for_backup() -> Iterator[MariaDBServer]:
    if missing := missing_programs():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    with private_server(MariaDBServer) as server:
        server.execute("CREATE USER admin@'%' IDENTIFIED BY 'of the test'")
        server.execute("GRANT ALL PRIVILEGES ON *.* TO admin@'%' WITH GRANT OPTION")
        server.execute("CREATE USER backup@'%' IDENTIFIED BY 'of the test'")
        server.execute(f"GRANT SELECT ON {DATABASE}.* TO backup@'%'")
        yield server


def log_in(home: Path, server: MariaDBServer, user: str) -> None:
    """As `~/.my.cnf` of the page."""
    file = home / ".my.cnf"
    file.write_text(f"[client]\nhost={server.host}\nport={server.port}\nuser={user}\npassword=of the test\n")
    file.chmod(0o600)


@pytest.mark.timeout(180)
def test_a_mariadb_is_lost_and_restored_under_running_controllers(
    mariadb_for_backup: MariaDBServer, tmp_path: Path
) -> None:
    server = mariadb_for_backup
    take, lock, restore, renumber, unlock, check = sections(DOCUMENT)["MariaDB and MySQL"]
    with ExitStack() as stack:
        pair = stack.enter_context(controllers(tmp_path, [server], 2, *OPTIONS, database=DATABASE))
        urls = [controller.url for controller in pair]
        somebody = reader(tmp_path, *urls, **database_variables(server))
        load = stack.enter_context(Load())
        workers = {instance: Worker(instance, urls, INTERVAL_SECS) for instance in (STEADY, DRAINED, UNDRAINED)}
        for worker in workers.values():
            load.run(worker.beat)
        with Wire(urls[0]) as wire:
            assert wire.register(DEAD).is_acknowledged
            assert wire.register(GONE).is_acknowledged
        until("five instances", urls[0], lambda inventory: len(inventory.instances) == 5)
        ctl("models", "drain", f"steady/{UNDRAINED.host}:{UNDRAINED.port}", "--reason", "new disk", "-a", urls[0])

        follower = stack.enter_context(start("events", "--follow", "-o", "json", "-a", urls[1]))
        stack.callback(follower.terminate)
        assert follower.stdout
        assert "absent" in follower.stdout.readline()

        log_in(tmp_path, server, "backup")
        follow(somebody, take, Names({}))

        newcomer = Worker(NEW, urls, INTERVAL_SECS)
        load.run(newcomer.beat)
        ctl("models", "drain", f"steady/{DRAINED.host}:{DRAINED.port}", "-a", urls[0])
        ctl("models", "undrain", f"steady/{UNDRAINED.host}:{UNDRAINED.port}", "-a", urls[0])
        ctl("models", "deregister", f"steady/{GONE.host}:{GONE.port}", "-a", urls[0])
        stream = server.execute("SELECT stream FROM ctl_stream", DATABASE)
        watcher = Watcher(urls[0], MODEL)
        load.run(watcher.watch)
        until("the newcomer", urls[1], lambda inventory: NEW.port in by_port(inventory))
        until("a dead worker", urls[1], lambda inventory: unhealthy(inventory) == {DEAD.port})

        log_in(tmp_path, server, "admin")
        follow(somebody, lock, Names({}))
        for url in urls:
            until("stale", url, lambda inventory: inventory.stale_since is not None)
        somebody.follow([Command(f"mariadb -e 'DROP DATABASE {DATABASE}; CREATE DATABASE {DATABASE}'", "")])
        for block in (restore, renumber, unlock):
            follow(somebody, block, Names({}))
        for url in urls:
            until("read again", url, lambda inventory: inventory.stale_since is None)
        # What the page says of each instance, while states are held ...
        until("held", urls[0], lambda inventory: by_port(inventory)[DEAD.port].held)
        with ControllerClient(urls[0]) as client:
            listed = by_port(client.inventory())
        assert listed[STEADY.port].routable
        assert listed[DRAINED.port].drain is None
        assert listed[UNDRAINED.port].drain is not None
        assert listed[UNDRAINED.port].drain.reason == "new disk"
        until("held", urls[0], lambda inventory: by_port(inventory)[GONE.port].held)
        until("the newcomer is back", urls[0], lambda inventory: NEW.port in by_port(inventory))
        # ... and afterwards.
        until("the dead are unhealthy", urls[1], lambda inventory: unhealthy(inventory) == {DEAD.port, GONE.port})
        with ControllerClient(urls[1]) as client:
            routable = {instance.port for instance in client.inventory().instances if instance.routable}
        assert routable == {STEADY.port, NEW.port, DRAINED.port}
        follow(somebody, check, Names({}))
        load.end()
        follower.terminate()
        out, err = follower.communicate()
    assert server.execute("SELECT stream FROM ctl_stream", DATABASE) != stream
    assert "some events may be missing here" in err
    numbers = [json.loads(line)["id"] for line in out.splitlines()]
    assert max(numbers) in numbers[: numbers.index(1)], "the numbers begin again"
    assert numbers[numbers.index(1) :] == [*range(1, len(numbers[numbers.index(1) :]) + 1)]
    assert not watcher.failures, watcher.failures[:5]
    assert watcher.stale > 0


SQLITE = ("--registry", "database", "--registry-db-type", "sqlite", "--registry-db-name", "ctl.db")


def test_a_file_is_copied_while_it_is_in_use_and_restored(tmp_path: Path) -> None:
    copy, restore = sections(DOCUMENT)["SQLite"]
    with service(tmp_path, *SQLITE) as one:
        somebody = reader(tmp_path, one.url)
        ctl("models", "register", "qwen3/10.0.0.4:8001", "qwen3/10.0.0.5:8001", "-a", one.url)
        ctl("models", "drain", "qwen3/10.0.0.4:8001", "--reason", "new disk", "-a", one.url)
        follow(somebody, copy, Names({}))
        ctl("models", "undrain", "qwen3/10.0.0.4:8001", "-a", one.url)
        ctl("models", "register", "qwen3/10.0.0.6:8001", "-a", one.url)
        stream = stream_of(one.url)
        follow(somebody, restore, Names({}), one.instead)
        drained = ctl("models", "list", "--state", "drained", "-o", "name", "-a", one.url)
        listed = ctl("models", "list", "-o", "name", "-a", one.url)
        assert stream_of(one.url) != stream
    assert drained.lines == ["qwen3@llm/10.0.0.4:8001"]
    assert len(listed.lines) == 2


def stream_of(url: str) -> str:
    with urlopen(f"{url}/api/v1/events") as answer:
        return str(json.load(answer)["stream"])


def test_a_copy_that_is_damaged_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ctl.db").write_text("no database " * 100)
    with pytest.raises(AssertionError, match="not a database"):
        follow(reader(tmp_path, "http://127.0.0.1:9"), sections(DOCUMENT)["SQLite"][0], Names({}))


def test_a_token_that_was_revoked_after_the_copy_is_valid_again(tmp_path: Path) -> None:
    copy, restore = sections(DOCUMENT)["Tokens file"]
    tokens = str(tmp_path / "tokens.toml")
    anna, ben = (
        f"{name}:{ctl('token', 'create', name, '--role', 'operator', '-q', '--tokens-file', tokens).out.strip()}"
        for name in ("anna", "ben")
    )
    with service(tmp_path, "--tokens-file", tokens, "--auth", "enforce") as one:
        somebody = reader(tmp_path, one.url, CTL_TOKEN=anna)
        follow(somebody, copy, Names({}))
        ctl("token", "revoke", "ben", "--tokens-file", tokens)
        until_answered(one.url, ben, 7)
        follow(somebody, restore, Names({}))
        until_answered(one.url, ben, 0)


def until_answered(url: str, token: str, code: int) -> None:
    """Waits until `ctl` with this token ends with `code`."""
    deadline = monotonic() + DEADLINE_SECS
    while (done := ctl("models", "list", "-a", url, env={"CTL_TOKEN": token}, expect=None)).code != code:
        assert monotonic() < deadline, done


@pytest.mark.timeout(120)
def test_the_readable_list_is_that_of_the_controller(tmp_path: Path) -> None:
    with service(tmp_path) as one:
        ctl("models", "register", "qwen3/10.0.0.4:8001", "-a", one.url)
        (block,) = sections(DOCUMENT)["A readable list: ctl export"]
        follow(reader(tmp_path, one.url), block, Names({}))


def test_the_dump_has_every_table() -> None:
    (take, *_) = sections(DOCUMENT)["MariaDB and MySQL"]
    words = take.commands()[0].line.split()
    assert [word for word in words if word.startswith("ctl_")] == sorted(TABLE_NAMES)

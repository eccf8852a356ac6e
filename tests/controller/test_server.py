"""`ctl serve` as a process: how it starts, what keeps it from starting, how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import resource
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dbgpt_ctl.controller.server import OWN_DESCRIPTORS, connection_limit, listening_socket
from dbgpt_ctl.errors import CannotListen
from dbgpt_ctl.settings.schema import MIN_CONNECTIONS, ControllerSettings
from tests.support.ports import free_port
from tests.support.process import CTL, ctl, environment, start
from tests.support.tls import authority

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.database_server import PrivateDatabase
    from tests.support.tls import Authority


pytestmark = pytest.mark.slow

TIMEOUT_SECS = 30.0
OK = b"HTTP/1.1 200 OK\r\n"
GOOD = {"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001}
DATABASE = ("--registry", "database", "--shutdown-grace-secs", "0")
"""Without the grace, which has its own tests: no client here has to change to another controller."""


class Served:
    """A running `ctl serve` and the lines of its standard error so far."""

    def __init__(self, process: subprocess.Popen[str], port: int, tls: Authority | None = None) -> None:
        """`tls`: it listens on that port with TLS, and on no other."""
        self.process = process
        self.tls = tls
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{port}"
        self.lines: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def wait_for_line(self, text: str) -> str:
        """The first line of its standard error with `text` in it; fails when it ends without."""
        if found := next((line for line in self.lines if text in line), None):
            return found
        deadline = time.monotonic() + TIMEOUT_SECS
        while (line := self._lines.get(timeout=max(0.1, deadline - time.monotonic()))) is not None:
            self.lines.append(line)
            if text in line:
                return line
        raise AssertionError(f"it ended without a line with {text!r}: {self.lines}")

    def errors(self) -> list[str]:
        """Its lines of errors, once it has ended."""
        while (line := self._lines.get(timeout=TIMEOUT_SECS)) is not None:
            self.lines.append(line)
        return [line for line in self.lines if " ERROR " in line or line.startswith("Traceback")]

    def health(self) -> httpx.Response:
        verify = True if self.tls is None else self.tls.trusting()
        return httpx.get(f"{self.url}/api/health", trust_env=False, verify=verify)

    def register(self) -> httpx.Response:
        verify = True if self.tls is None else self.tls.trusting()
        return httpx.post(f"{self.url}/api/controller/models", json=GOOD, trust_env=False, verify=verify)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        code = self.process.wait(TIMEOUT_SECS)
        self._reader.join()
        return code

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)


@pytest.fixture(params=["http", "https"])
def tls(request: pytest.FixtureRequest, tmp_path: Path) -> Authority | None:
    """For tests that hold with and without TLS."""
    return authority(tmp_path / "tls") if request.param == "https" else None


def port_flags(port: int, tls: Authority | None) -> list[str]:
    return ["--port", str(port)] if tls is None else ["--no-http", "--tls-port", str(port), *tls.flags]


@contextmanager
def serving(*arguments: str, tls: Authority | None = None, **environ: str) -> Iterator[Served]:
    port = free_port()
    with start("serve", *port_flags(port, tls), *arguments, env=environ) as process:
        served = Served(process, port, tls)
        try:
            served.wait_for_line("listening on")
            yield served
        finally:
            if process.poll() is None:
                served.end(signal.SIGKILL)


@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGINT, -signal.SIGINT)])
def test_it_ends_in_good_order(how: signal.Signals, code: int) -> None:
    with serving() as served:
        assert served.health().content == b'{"status":"ok"}'
        assert served.end(how) == code


def test_a_busy_port_is_one_line_that_names_the_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = ctl("serve", "--port", str(port), expect=1)
    lines = [line for line in done.err.splitlines() if "loopback only" not in line]
    assert len(lines) == 1, done.err
    assert lines[0].startswith(f"ctl: port {port} on 127.0.0.1 is in use by ")
    assert f"(process {os.getpid()})" in lines[0]
    assert done.out == ""


def test_a_host_that_is_not_of_this_machine_is_one_line() -> None:
    done = ctl("serve", "--host", "192.0.2.1", expect=1)
    assert "192.0.2.1" in done.err
    assert "Traceback" not in done.err


def test_a_log_file_takes_the_log_and_folders_are_made(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "controller.log"
    port = free_port()
    with start("serve", "--port", str(port), "--log-file", str(log)) as process:
        deadline = time.monotonic() + TIMEOUT_SECS
        while not (log.exists() and "listening on" in log.read_text()):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        httpx.post(f"http://127.0.0.1:{port}/api/controller/models", json=GOOD, trust_env=False)
        process.terminate()
        _, err = process.communicate(timeout=TIMEOUT_SECS)
    assert "registered" not in err
    assert "INFO qwen@llm/10.0.0.4:8001 registered by 127.0.0.1" in log.read_text()


def test_a_log_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = ctl("serve", "--log-file", str(tmp_path / "file" / "log"), expect=2)
    assert "log file" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_a_file_of_certificates_that_cannot_be_used_is_one_line(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "ca.pem"
    if text:
        path.write_text(text)
    where = ("--registry-db-host", "127.0.0.1", "--registry-db-user", "ctl", "--registry-db-ssl-ca", str(path))
    password = {"CONTROLLER_REGISTRY_DB_PASSWORD": "secret"}
    done = ctl("serve", "--port", str(free_port()), "--registry", "database", *where, expect=2, env=password)
    (line,) = [line for line in done.err.splitlines() if "loopback" not in line]
    assert line.startswith(f"ctl: registry_db_ssl_ca {path} cannot be used: ")


def test_a_registry_in_sqlite_outlives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "ctl.db"
    arguments = ("--registry-db-type", "sqlite", "--registry-db-name", str(path), *DATABASE)
    with serving(*arguments) as served:
        assert httpx.post(f"{served.url}/api/controller/models", json=GOOD, trust_env=False).content == b"true"
        served.end(signal.SIGKILL)
    with serving(*arguments) as served:
        (listed,) = json.loads(ctl("models", "list", "-o", "json", "--address", served.url).out)
        assert listed["model_name"] == "qwen@llm"
        assert served.end() == 0


def test_a_newer_schema_is_one_line_and_exit_1(tmp_path: Path) -> None:
    path = tmp_path / "ctl.db"
    arguments = ("--registry-db-type", "sqlite", "--registry-db-name", str(path), *DATABASE)
    with serving(*arguments) as served:
        served.end()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE ctl_schema SET version = 99, readable_by = 99")
    database.close()
    done = ctl("serve", "--port", str(free_port()), *arguments, expect=1)
    (line,) = [line for line in done.err.splitlines() if "loopback" not in line]
    assert line.startswith("ctl: ")
    assert "version 99" in line


def mysql_arguments(mariadb: PrivateDatabase) -> list[str]:
    server = mariadb.server
    where = ["--registry-db-host", server.host, "--registry-db-port", str(server.port)]
    return [*DATABASE, "--registry-db-name", mariadb.name, "--registry-db-user", server.user, *where]


def test_a_registry_in_mariadb(mariadb: PrivateDatabase) -> None:
    password = mariadb.server.password
    with serving(*mysql_arguments(mariadb), CONTROLLER_REGISTRY_DB_PASSWORD=password) as served:
        ctl("models", "register", "qwen/10.0.0.4:8001", "--address", served.url)
        assert ctl("models", "list", "-o", "name", "--address", served.url).out == "qwen@llm/10.0.0.4:8001\n"
        assert served.end() == 0


def test_a_wrong_password_is_one_line_and_exit_1(mariadb: PrivateDatabase) -> None:
    password = {"CONTROLLER_REGISTRY_DB_PASSWORD": "wrong-secret"}
    done = ctl("serve", "--port", str(free_port()), *mysql_arguments(mariadb), expect=1, env=password)
    (line,) = [line for line in done.err.splitlines() if "loopback" not in line]
    assert mariadb.server.user in line
    assert "wrong-secret" not in done.err
    assert "Traceback" not in done.err


def test_a_database_that_is_down_is_waited_for(mariadb: PrivateDatabase) -> None:
    where, password = f"127.0.0.1:{mariadb.server.port}", mariadb.server.password
    mariadb.server.stop()
    try:
        with serving(*mysql_arguments(mariadb), CONTROLLER_REGISTRY_DB_PASSWORD=password) as served:
            assert where in served.wait_for_line("waiting for the registry")
            reply = served.health()
            assert (reply.status_code, reply.json()["code"]) == (503, "registry_unavailable")
            assert where in reply.json()["detail"]
            assert password not in reply.text
            mariadb.server.start()
            served.wait_for_line("the registry is back")
            assert served.health().status_code == 200
            assert served.end() == 0
    finally:
        if mariadb.server.process is None:
            mariadb.server.start()


def test_it_leaves_with_grace(tls: Authority | None) -> None:
    """Health is 503 from SIGTERM on; requests are served until the grace is over, here by a second SIGTERM."""
    with serving("--shutdown-grace-secs", "600", tls=tls) as served:
        served.process.send_signal(signal.SIGTERM)
        assert "docker stop -t" in served.wait_for_line("leaving")
        assert (served.health().status_code, served.health().json()["detail"]) == (503, "this controller is leaving")
        assert served.register().content == b"true"
        assert served.end() == 0


def test_ctrl_c_while_it_leaves_ends_it_now() -> None:
    with serving("--shutdown-grace-secs", "600") as served:
        served.process.send_signal(signal.SIGTERM)
        served.wait_for_line("leaving")
        assert served.end(signal.SIGINT) == -signal.SIGINT


SQLITE = ("--registry", "database", "--registry-db-type", "sqlite", "--registry-db-name")


def test_ctrl_c_twice_is_no_error(tmp_path: Path) -> None:
    """The second one does not wait for requests; the registry is closed all the same."""
    path = tmp_path / "ctl.db"
    with serving(*SQLITE, str(path)) as served, connected(served):
        httpx.post(f"{served.url}/api/controller/models", json=GOOD, trust_env=False)
        served.process.send_signal(signal.SIGTERM)
        assert served.end(signal.SIGINT) in {0, -signal.SIGINT}
        assert served.errors() == []
        assert not path.with_name("ctl.db-wal").exists()


def test_the_grace_ends_by_itself() -> None:
    with serving("--shutdown-grace-secs", "0.2") as served:
        assert served.end() == 0
        assert any("leaving" in line for line in served.lines) or served.wait_for_line("leaving")


def test_what_sqlite_acknowledged_outlives_kill_9(tmp_path: Path) -> None:
    path = str(tmp_path / "ctl.db")
    with serving(*SQLITE, path) as served:
        httpx.post(f"{served.url}/api/controller/models", json=GOOD, trust_env=False)
        served.end(signal.SIGKILL)
    with serving(*SQLITE, path) as served:
        (listed,) = json.loads(ctl("models", "list", "--healthy-only", "-o", "json", "--address", served.url).out)
        assert listed["model_name"] == "qwen@llm"
        assert served.end() == 0


def connected(served: Served) -> socket.socket:
    _, _, port = served.url.rpartition(":")
    connection = socket.create_connection(("127.0.0.1", int(port)), timeout=TIMEOUT_SECS)
    if served.tls is None:
        return connection
    return served.tls.trusting().wrap_socket(connection, server_hostname="127.0.0.1")


def closed_with(connection: socket.socket) -> bytes:
    """What the other side sends until it closes the connection; times out if it does not."""
    received = bytearray()
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except (ConnectionError, ssl.SSLEOFError):
        pass
    return bytes(received)


def test_a_burst_of_connections_waits_for_a_busy_controller() -> None:
    """More than uvicorn lets wait by itself, as when all workers of a cluster start again. None is refused."""
    most = int(Path("/proc/sys/net/core/somaxconn").read_text())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(3000, most, hard - 500)
    with serving() as served, contextlib.ExitStack() as ends:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 500), hard))
        ends.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        served.process.send_signal(signal.SIGSTOP)
        try:
            # The system completes these connections. It would not answer those for which it has no room.
            connections = [ends.enter_context(connected(served)) for _ in range(count)]
            for connection in connections:
                connection.sendall(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        finally:
            served.process.send_signal(signal.SIGCONT)
        assert [connection for connection in connections if not closed_with(connection).startswith(OK)] == []


HEAD = b"POST /api/controller/models HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize("start_of_head", [b"GET /api/controller/models?model_name=", b"GET / HTTP/1.1\r\nX-Long: "])
def test_a_head_without_end_is_refused(start_of_head: bytes, tls: Authority | None) -> None:
    """Uvicorn would collect it without end."""
    with serving(tls=tls) as served:
        with connected(served) as connection:
            connection.sendall(start_of_head)
            try:
                for _ in range(64):
                    connection.sendall(b"a" * 65536)
            except (ConnectionError, ssl.SSLError):
                return
            assert closed_with(connection).startswith(b"HTTP/1.1 400 ")
        assert served.health().status_code == 200


def test_a_caller_that_leaves_amid_its_body_is_no_error(tls: Authority | None) -> None:
    with serving(tls=tls) as served:
        with connected(served) as connection:
            connection.sendall(HEAD + b'Content-Length: 100\r\n\r\n{"model_name"')
        assert served.health().status_code == 200
        assert served.end() == 0
        assert served.errors() == []


def test_half_a_request_does_not_hold_up_the_end(tls: Authority | None) -> None:
    with serving(tls=tls) as served, connected(served) as connection:
        connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n")
        assert served.health().status_code == 200
        assert served.end() == 0
        assert closed_with(connection) == b""
        assert served.errors() == []


def test_the_log_has_the_address_of_the_caller_not_what_it_claims() -> None:
    with serving() as served:
        claims = {b"X-Forwarded-For": b"10.9.9.9 \x9b31m"}
        httpx.post(f"{served.url}/api/controller/models", json=GOOD, headers=claims, trust_env=False)
        assert served.wait_for_line("registered").endswith("qwen@llm/10.0.0.4:8001 registered by 127.0.0.1")


@pytest.mark.parametrize(
    ("settings", "descriptors", "limit"),
    [
        ({}, 65536, 65536 - OWN_DESCRIPTORS),
        ({"max_connections": 500}, 65536, 500),
        ({"max_connections": 5000}, 1024, 1024 - OWN_DESCRIPTORS),
        ({"registry_type": "database"}, 1024, 1024 - OWN_DESCRIPTORS - 15),
        ({}, 64, MIN_CONNECTIONS),
    ],
)
def test_connections_leave_descriptors_for_files_and_the_database(
    settings: dict[str, Any], descriptors: int, limit: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert connection_limit(ControllerSettings(**settings), descriptors) == limit
    assert ("ulimit -n" in caplog.text) == (settings == {"max_connections": 5000})


@contextmanager
def serving_as(*command: str, tls: Authority | None = None) -> Iterator[Served]:
    port = free_port()
    arguments = [*command, "serve", *port_flags(port, tls)]
    with subprocess.Popen(arguments, env=environment({}), stderr=subprocess.PIPE, encoding="utf-8", cwd="/") as process:
        served = Served(process, port, tls)
        try:
            served.wait_for_line("listening on")
            yield served
        finally:
            served.end(signal.SIGKILL)


def test_more_connections_than_the_soft_limit_of_descriptors(tls: Authority | None) -> None:
    """A usual soft limit is 1024, the hard one far above."""
    limited = ("sh", "-c", 'ulimit -S -n 64; exec "$@"', "sh", *CTL)
    with serving_as(*limited, tls=tls) as served, contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(connected(served))
        assert served.health().status_code == 200


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HT", HEAD + b"Content-Length: 100\r\n\r\n{"], ids=["none", "head", "body"]
)
def test_a_request_that_does_not_come_is_not_waited_for(sent: bytes, tls: Authority | None) -> None:
    quick = (
        "import dbgpt_ctl.controller.http.protocol as p; p.MAX_REQUEST_SECS = 0.1\n"
        "from dbgpt_ctl.__main__ import main; main()"
    )
    with serving_as(sys.executable, "-c", quick, tls=tls) as served, connected(served) as connection:
        connection.sendall(sent)
        assert closed_with(connection) == b""
        assert served.health().status_code == 200


def test_there_is_no_grace_without_a_registry_that_is_ready(mariadb: PrivateDatabase) -> None:
    mysql = [*mysql_arguments(mariadb), "--registry-db-host", f"127.0.0.1:{free_port()}"]
    with serving(*mysql, CONTROLLER_REGISTRY_DB_PASSWORD=mariadb.server.password) as served:
        assert served.health().status_code == 503
        assert served.end() == 0
        assert not any("leaving" in line for line in served.lines)


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("localhost", None)])
def test_it_listens_on_the_first_address_of_the_host(host: str, family: socket.AddressFamily | None) -> None:
    with listening_socket(host, 0) as sock:
        assert family is None or sock.family is family
        with socket.create_connection(sock.getsockname()[:2], timeout=10):
            pass


def test_a_busy_port_names_the_process() -> None:
    with listening_socket("127.0.0.1", 0) as sock, pytest.raises(CannotListen, match=r"in use by .+ \(process \d+\)"):
        listening_socket("127.0.0.1", sock.getsockname()[1])


def test_a_host_that_is_no_address_of_this_machine() -> None:
    with pytest.raises(CannotListen, match=r"cannot listen on 192\.0\.2\.1 port 0"):
        listening_socket("192.0.2.1", 0)

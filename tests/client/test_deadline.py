"""The deadline of the blocking client, and the name lookup within it."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack
from time import monotonic
from typing import TYPE_CHECKING, Any

import httpcore
import pytest

from dbgpt_ctl.client.deadline import Deadline, DeadlineBackend
from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.errors import ControllerUnreachable
from dbgpt_ctl.failure_causes import FailureCause
from tests.client.servers import LIST_REPLY, behaving, black_hole, closed_port, read_request, reply, working

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.client.clients import MakeCalls


@pytest.fixture
def resolves(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What a name is looked up to: its addresses, or an Event until which the lookup hangs."""
    names: dict[str, Any] = {}
    real = socket.getaddrinfo

    def look_up(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        answer = names.get(str(host))
        if isinstance(answer, threading.Event):
            answer.wait()
        elif isinstance(answer, Exception):
            raise answer
        elif answer is not None:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answer]
        return real("127.0.0.1" if isinstance(answer, threading.Event) else host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield names
    for answer in names.values():
        if isinstance(answer, threading.Event):
            answer.set()


def test_without_a_call_there_is_no_deadline() -> None:
    deadline = Deadline()
    assert deadline.left(None, httpcore.ReadTimeout) is None
    assert deadline.left(2.0, httpcore.ReadTimeout) == 2.0
    with deadline.after(1.0):
        assert 0 < (deadline.left(2.0, httpcore.ReadTimeout) or 0) <= 1.0
        assert deadline.left(0.5, httpcore.ReadTimeout) == 0.5
    assert deadline.left(2.0, httpcore.ReadTimeout) == 2.0


def test_at_the_deadline_no_wait_begins() -> None:
    deadline = Deadline()
    with deadline.after(0.0), pytest.raises(httpcore.WriteTimeout):
        deadline.left(2.0, httpcore.WriteTimeout)


def test_each_thread_has_its_own_deadline() -> None:
    deadline, seen = Deadline(), []
    with deadline.after(1.0):
        thread = threading.Thread(target=lambda: seen.append(deadline.left(None, httpcore.ReadTimeout)))
        thread.start()
        thread.join()
    assert seen == [None]


class Refusing(httpcore.NetworkBackend):
    """Makes no connection, and notes to what and for how many seconds it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def connect_tcp(self, host: str, _port: int, timeout: float | None = None, *_: Any) -> httpcore.NetworkStream:
        self.asked.append((host, round(timeout or 0)))
        raise httpcore.ConnectTimeout(host)


def test_each_address_of_a_name_gets_a_share(resolves: dict[str, Any]) -> None:
    """The first one, whose host is down, does not use up the time of the second one."""
    resolves["two.test"] = ["192.0.2.1", "127.0.0.1"]
    inner, deadline = Refusing(), Deadline()
    with deadline.after(8.0), pytest.raises(httpcore.ConnectTimeout, match=r"127\.0\.0\.1"):
        DeadlineBackend(inner, deadline).connect_tcp("two.test", 80, 4.0)
    assert inner.asked == [("192.0.2.1", 2), ("127.0.0.1", 4)]


def test_a_name_with_one_address_and_an_address_are_left_to_the_system(resolves: dict[str, Any]) -> None:
    """Its zone is in the name only, as in fe80::1%eth0."""
    resolves["fe80::1%one"] = ["fe80::1"]
    inner, deadline = Refusing(), Deadline()
    for host in ("fe80::1%one", "::1", "127.0.0.1"):
        with deadline.after(8.0), pytest.raises(httpcore.ConnectTimeout):
            DeadlineBackend(inner, deadline).connect_tcp(host, 80, 4.0)
    assert [host for host, _ in inner.asked] == ["fe80::1%one", "::1", "127.0.0.1"]


def test_a_lookup_that_hangs_ends_with_the_call(resolves: dict[str, Any], make_calls: MakeCalls) -> None:
    resolves["hangs.test"] = threading.Event()
    with working() as here:
        began = monotonic()
        listed, alone = (
            *make_calls(f"http://hangs.test:1,{here.url}", lambda client: client.list(), timeout=1.0),
            *make_calls("http://hangs.test:1", lambda client: client.list(), timeout=0.5),
        )
        resolves["hangs.test"].set()
        assert monotonic() - began < 15
    assert len(listed.objects) == 1
    assert type(alone) is ControllerUnreachable


def test_a_name_that_cannot_be_one_is_not_known(resolves: dict[str, Any]) -> None:
    resolves["odd.test"] = UnicodeError("label too long")
    with ControllerClient("http://odd.test:1") as client, pytest.raises(ControllerUnreachable) as caught:
        client.list()
    assert caught.value.cause is FailureCause.NAME_LOOKUP


def trickled(connection: socket.socket, _number: int) -> None:
    """A header every 20 ms, without an end."""
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    connection.settimeout(0.02)
    while True:
        try:
            if not connection.recv(1):
                return
        except TimeoutError:
            connection.sendall(b"X-Slow: 1\r\n")


@pytest.mark.parametrize("verb", ["list", "health", "status", "watch"])
def test_headers_that_come_one_by_one_are_cut_off_at_the_timeout(verb: str) -> None:
    with behaving(trickled) as url, ControllerClient(url, timeout=0.5) as client:
        began = monotonic()
        if verb == "health":
            assert client.health()[0].cause is FailureCause.ANSWER_TIMEOUT
        else:
            with pytest.raises(ControllerUnreachable) as caught:
                _ = [*client.watch()] if verb == "watch" else getattr(client, verb)()
            assert caught.value.cause is FailureCause.ANSWER_TIMEOUT
        assert monotonic() - began < 5


@pytest.mark.parametrize("slow", ["trickled", "silent", "gone"])
def test_the_next_controller_answers_in_time(slow: str, make_calls: MakeCalls) -> None:
    with ExitStack() as stack:
        away = {
            "trickled": lambda: stack.enter_context(behaving(trickled)),
            "silent": lambda: stack.enter_context(black_hole()),
            "gone": closed_port,
        }[slow]()
        here = stack.enter_context(working())
        (listed,) = make_calls(f"{away},{here.url}", lambda client: client.list(), timeout=1.0)
    assert len(listed.objects) == 1


def test_a_connection_that_is_kept_has_the_deadline_of_each_call() -> None:
    def behave(connection: socket.socket, _number: int) -> None:
        while read_request(connection):
            connection.sendall(reply(LIST_REPLY))

    with behaving(behave) as url, ControllerClient(url, timeout=5) as client:
        assert [len(client.list().objects) for _ in range(3)] == [1, 1, 1]

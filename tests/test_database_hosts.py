from __future__ import annotations

import pytest

from dbgpt_ctl.database_hosts import AVOIDED_SECS, DatabaseHost, DatabaseHosts, parse_hosts


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("db1", [("db1", 3306)]),
        ("db1, db2:3307 ,[::1]:3308", [("db1", 3306), ("db2", 3307), ("::1", 3308)]),
        ("[::1]", [("::1", 3306)]),
        ("fe80::1", [("fe80::1", 3306)]),
        ("10.0.0.7:3306", [("10.0.0.7", 3306)]),
    ],
)
def test_what_a_list_means(text: str, hosts: list[tuple[str, int]]) -> None:
    assert parse_hosts(text, 3306) == tuple(DatabaseHost(*host) for host in hosts)


@pytest.mark.parametrize(
    "text", ["", "db1,", "db1:", "db1:0", "db1:65536", "db1:x", "[::1", "[::1]3306", "a b", "u@db1", "db1/x"]
)
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(ValueError, match=r"host|port|ADDRESS"):
        parse_hosts(text, 3306)


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_one_that_failed_comes_last_for_a_while() -> None:
    time = Time()
    hosts = DatabaseHosts(parse_hosts("a,b,c", 3306), time)
    a, b, c = hosts.all
    assert hosts.in_order() == [a, b, c]
    hosts.failed(a)
    assert hosts.in_order() == [b, c, a]
    time.now += 1
    hosts.failed(b)
    assert hosts.in_order() == [c, a, b]
    time.now += AVOIDED_SECS - 1
    assert hosts.in_order() == [a, c, b]
    hosts.worked(b)
    assert hosts.in_order() == [a, b, c]


def test_it_is_named_as_it_is_written() -> None:
    assert str(DatabaseHosts(parse_hosts("db1,[::1]:3308", 3306), Time())) == "db1:3306,[::1]:3308"


def test_the_current_one_is_left_for_one_that_stands_before_it_once_that_may_be_back() -> None:
    time = Time()
    hosts = DatabaseHosts(parse_hosts("a,b,c", 3306), time)
    a, b, _ = hosts.all
    assert hosts.better() is None
    hosts.worked(a)
    assert hosts.better() is None
    hosts.failed(a)
    hosts.worked(b)
    assert hosts.better() is None
    time.now += AVOIDED_SECS
    assert hosts.better() == a
    hosts.failed(a)
    assert hosts.better() is None
    time.now += AVOIDED_SECS
    hosts.worked(a)
    assert (hosts.current, hosts.better()) == (a, None)

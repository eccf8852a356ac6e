from __future__ import annotations

import pytest

from dbgpt_ctl.databases import DatabaseHost, parse_hosts


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

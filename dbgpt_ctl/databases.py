"""The databases that settings can name: their types, and their hosts. It imports nothing of a database."""

from __future__ import annotations

from typing import NamedTuple


class DatabaseType(NamedTuple):
    """A kind of database. Its name is a value of `registry_db_type` and one of the `names` of its dialect."""

    driver: str
    """The name of dialect and driver in a URL of SQLAlchemy."""
    products: tuple[str, ...]
    """The servers that it may be, as status and metrics name them."""
    required_settings: frozenset[str]
    """Settings without a default that is of use."""
    default_port: int | None
    """Of a server; None: `registry_db_name` is the path of a file, and there are no hosts, users and passwords."""

    @property
    def is_file(self) -> bool:
        return self.default_port is None


_OF_A_SERVER = frozenset({"registry_db_host", "registry_db_user", "registry_db_password"})


DATABASE_TYPES = {
    "mysql": DatabaseType("mysql+pymysql", ("mysql", "mariadb"), _OF_A_SERVER, 3306),
    "postgresql": DatabaseType("postgresql+psycopg", ("postgresql",), _OF_A_SERVER, 5432),
    "sqlite": DatabaseType("sqlite", ("sqlite",), frozenset({"registry_db_name"}), None),
}
"""By the value of `registry_db_type`; a new database needs a line here and a dialect."""
REGISTRIES = ("embedded", *(product for each in DATABASE_TYPES.values() for product in each.products), "remote")
"""What a registry may be, as status and metrics name it."""


class DatabaseHost(NamedTuple):
    """The address of one server."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_hosts(text: str, default_port: int) -> tuple[DatabaseHost, ...]:
    """`db1,db2:3307,[::1]:3308`: a port in the list replaces `default_port`. Raises ValueError with the reason."""
    return tuple(_parse_host(item.strip(), default_port) for item in text.split(","))


def _parse_host(text: str, default_port: int) -> DatabaseHost:
    host, port = text, ""
    if text.startswith("["):
        host, closing, rest = text[1:].partition("]")
        if not closing or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!a} is not [ADDRESS]:PORT")
        port = rest[1:] if rest else ""
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not host or any(mark in host for mark in "/@ []"):
        raise ValueError(f"{text!a} is not a host")
    if not port and not text.endswith(":"):
        return DatabaseHost(host, default_port)
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):  # noqa: PLR2004 - the range of ports
        raise ValueError(f"{text!a} has no port from 1 to 65535")
    return DatabaseHost(host, int(port))

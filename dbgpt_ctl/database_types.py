"""The databases that a registry can use, as far as settings need to know them. It imports nothing of a database."""

from __future__ import annotations

from typing import NamedTuple


class DatabaseType(NamedTuple):
    """A kind of database. Its name is a value of `registry_db_type` and one of the `names` of its dialect."""

    driver: str
    """The name of dialect and driver in a URL of SQLAlchemy."""
    is_file: bool
    """Whether `registry_db_name` is the path of a file, and there are no hosts, users and passwords."""
    required_settings: frozenset[str]
    """Settings without a default that is of use."""


DATABASE_TYPES = {
    "mysql": DatabaseType(
        "mysql+pymysql", False, frozenset({"registry_db_host", "registry_db_user", "registry_db_password"})
    ),
    "sqlite": DatabaseType("sqlite", True, frozenset({"registry_db_name"})),
}
"""By the value of `registry_db_type`; a new database needs a line here and a dialect."""

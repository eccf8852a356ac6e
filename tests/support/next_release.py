"""`ctl` as the next release may be: its schema version adds a table, and a column to each table of this release.

`python -m tests.support.next_release` takes the arguments of `ctl`.
"""

from __future__ import annotations

import sys

from sqlalchemy import Column, Integer, String, Table

from dbgpt_ctl.registry.database.tables import schema

NEXT_RELEASE = [sys.executable, "-m", "tests.support.next_release"]


def add_a_version() -> None:
    """Changes the declarations of this process, before anything else has read them."""
    schema.SCHEMA_VERSION += 1
    for table in schema._METADATA.sorted_tables:
        table.append_column(Column("region", String(32)))
        table.append_column(Column("shard", Integer, nullable=False, server_default="7"))
    Table("ctl_region", schema._METADATA, Column("name", String(32), primary_key=True))


if __name__ == "__main__":
    add_a_version()
    from dbgpt_ctl.__main__ import main

    main()

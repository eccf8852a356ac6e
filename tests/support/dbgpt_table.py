"""The registry of DB-GPT's own controller in MySQL or MariaDB: its table, which it does not create itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.database_server import DatabaseServer

THEIR_TABLE = """
create table dbgpt_cluster_registry_instance (
    id int not null auto_increment primary key,
    model_name varchar(128) not null, host varchar(128) not null, port int not null, weight float default 1.0,
    check_healthy tinyint(1) not null default 1, healthy tinyint(1) not null default 0,
    enabled tinyint(1) not null default 1, prompt_template varchar(128), last_heartbeat datetime,
    user_name varchar(128), sys_code varchar(128), gmt_created datetime, gmt_modified datetime,
    unique key uk_model_instance (model_name, host, port, sys_code)
) engine=InnoDB default charset=utf8mb4
"""
"""Its unique key permits duplicates: `sys_code` is always NULL."""


def create_dbgpt_registry(server: DatabaseServer, database: str, user: str, password: str) -> str:
    """Creates the table in the database. The part of DB-GPT's configuration, in TOML, that names it."""
    server.execute(THEIR_TABLE, database)
    return f"""
[service.model.controller.registry.database]
type = "mysql"
host = "{server.host}"
port = {server.port}
user = "{user}"
password = "{password}"
database = "{database}"
"""

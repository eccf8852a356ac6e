"""A private MySQL server, as `scripts/mysql-install.sh` unpacks it into `.mysql/` of this checkout."""

from __future__ import annotations

import getpass
import os
import subprocess

from tests.support.mariadb import MariaDBServer
from tests.support.process import ROOT

UNPACKED = ROOT / ".mysql" / "root"


def missing_programs() -> str | None:
    """Why there is no server; None when there is one."""
    return None if (UNPACKED / "usr/sbin/mysqld").exists() else "no MySQL server: sh scripts/mysql-install.sh .mysql"


class MySQLServer(MariaDBServer):
    """As MariaDB's, on the libraries that came with it. As root it runs as root."""

    product = "MySQL"

    def install(self) -> None:
        self.temporary.mkdir(parents=True)
        data = f"--datadir={self.folder / 'data'}"
        subprocess.run([*_mysqld(), "--initialize-insecure", data], check=True, capture_output=True)
        self.write_init()

    def command(self) -> list[str]:
        return [*_mysqld(), "--mysqlx=OFF", "--innodb-redo-log-capacity=96M", *self.arguments()]


def _mysqld() -> list[str]:
    usr = UNPACKED / "usr"
    (loader,) = usr.glob("lib*/ld-linux-*")
    libraries = [*map(str, usr.glob("lib/*-linux-gnu")), str(usr / "lib/mysql/private"), str(usr / "lib")]
    return [
        str(loader),
        "--library-path",
        os.pathsep.join(libraries),
        str(usr / "sbin/mysqld"),
        "--no-defaults",
        f"--basedir={usr}",
        f"--lc-messages-dir={usr / 'share/mysql'}",
        f"--character-sets-dir={usr / 'share/mysql/charsets'}",
        f"--plugin-dir={usr / 'lib/mysql/plugin'}",
        "--secure-file-priv=NULL",
        f"--user={getpass.getuser()}",
    ]

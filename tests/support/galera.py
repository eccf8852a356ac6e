"""A Galera cluster on loopback: several private mariadbd that commit together."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

import pymysql

from tests.support.mariadb import MariaDBServer, missing_programs
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_PROVIDERS = ("/usr/lib/galera/libgalera_smm.so", "/usr/lib64/galera-4/libgalera_smm.so")
_PATIENCE_SECS = 60
JOIN_ATTEMPTS = 3
_SYNC_TRIES = 3
_MEMBERSHIP = "evs.keepalive_period=PT0.5S;evs.suspect_timeout=PT2S;evs.inactive_timeout=PT4S;evs.install_timeout=PT4S"
"""How soon the others go on without a node that died: after the suspect timeout."""
_UID = "mysql" if os.geteuid() == 0 else None
"""The scripts that copy a node's data to another refuse to run as root."""


def missing_for_galera() -> str | None:
    """What must be installed before a cluster can be started; None when all is there."""
    if missing := missing_programs():
        return missing
    if _provider() is None:
        return "Galera's library not found: apt-get install galera-4"
    return None if shutil.which("rsync") else "rsync not found: apt-get install rsync"


def _provider() -> str | None:
    return next((each for each in _PROVIDERS if Path(each).exists()), None)


@dataclass
class GaleraNode(MariaDBServer):
    """One server of a cluster. `start` of the first one bootstraps it; later, and the others', joins what is there."""

    name: str = "node"
    base_port: int = 0
    cluster: tuple[int, ...] = ()
    """The base ports of all nodes; empty to bootstrap."""

    @property
    def is_synced(self) -> bool:
        """Whether it serves: it has all that the others have."""
        with contextlib.suppress(pymysql.err.MySQLError, OSError):
            return self.execute("SHOW STATUS LIKE 'wsrep_local_state_comment'") == [
                ("wsrep_local_state_comment", "Synced")
            ]
        return False

    @property
    def size(self) -> int:
        """How many nodes the cluster has, as this one sees it."""
        return int(str(self.execute("SHOW STATUS LIKE 'wsrep_cluster_size'")[0][1]))

    def rejoin(self) -> None:
        """Starts a node that was killed, from the position that its own data is at.

        A node that cannot get its data ends by itself, for example when its donor just then waits for the members that
        it lost. It is started again then, as systemd does it.
        """
        for attempt in range(1, JOIN_ATTEMPTS + 1):
            try:
                self._start_from_own_data()
            except RuntimeError:
                if attempt == JOIN_ATTEMPTS:
                    raise
            else:
                return

    def _start_from_own_data(self) -> None:
        position = self._recovered_position()
        options = self.options
        self.options = [*options, f"--wsrep-start-position={position}"] if position else options
        try:
            self.start()
        finally:
            self.options = options

    def _recovered_position(self) -> str | None:
        """As Debian's service does it: without, a killed node has to be given all data anew."""
        log = self.folder / "recover.log"
        log.write_bytes(b"")
        command = [each for each in self.command() if not each.startswith("--init-file")]
        subprocess.run(
            [*command, "--wsrep-recover", f"--log-error={log}"],
            env={**os.environ, **self.environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE_SECS,
            check=True,
        )
        found = [line for line in log.read_text(errors="replace").splitlines() if "Recovered position:" in line]
        return found[-1].partition("Recovered position:")[2].strip() if found else None

    def answers(self) -> bool:
        return self.is_synced

    def read_latest(self, statement: str, database: str) -> list[tuple[object, ...]]:
        """A node that is still behind after the wait of Galera, which ends as one for a lock does, is asked again."""
        for _ in range(_SYNC_TRIES - 1):
            with contextlib.suppress(pymysql.err.OperationalError):
                return self.execute(f"SET STATEMENT wsrep_sync_wait = 1 FOR {statement}", database)
        return self.execute(f"SET STATEMENT wsrep_sync_wait = 1 FOR {statement}", database)

    def command(self) -> list[str]:
        own = f"127.0.0.1:{self.base_port}"
        provider = [
            f"base_port={self.base_port}",
            f"gmcast.listen_addr=tcp://{own}",
            f"ist.recv_addr=127.0.0.1:{self.base_port + 1}",
            "gcache.size=32M",
            _MEMBERSHIP,
        ]
        peers = ",".join(f"127.0.0.1:{port}" for port in self.cluster if port != self.base_port)
        plain = [each for each in super().command() if not each.startswith("--user=")]
        if self.cluster:  # the user comes with the data of the others
            plain = [each for each in plain if not each.startswith("--init-file")]
        return [
            *plain,
            *([f"--user={_UID}"] if _UID else []),
            "--binlog-format=ROW",
            "--innodb-autoinc-lock-mode=2",
            "--wsrep-on=ON",
            f"--wsrep-provider={_provider()}",
            f"--wsrep-provider-options={';'.join(provider)}",
            "--wsrep-cluster-name=chaos",
            f"--wsrep-cluster-address=gcomm://{peers}",
            f"--wsrep-node-name={self.name}",
            f"--wsrep-node-address={own}",
            "--wsrep-sst-method=rsync",
            f"--wsrep-sst-receive-address=127.0.0.1:{self.base_port + 2}",
        ]


def _free_base_port() -> int:
    """The first of three in a row that are free: for the group, for what a node missed, for all its data."""
    while True:
        base = free_port()
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in (base + 1, base + 2):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return base


@contextlib.contextmanager
def galera_cluster(
    size: int = 3, *, environs: Mapping[int, Mapping[str, str]] | None = None, options: Sequence[str] = ()
) -> Iterator[list[GaleraNode]]:
    """A cluster that runs; `environs` are the variables of single nodes, by their index."""
    ports: list[int] = []
    while len(ports) < size:
        port = _free_base_port()
        if all(abs(port - other) > 2 for other in ports):
            ports.append(port)
    with contextlib.ExitStack() as stack:
        nodes = []
        for index, port in enumerate(ports):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"ctl-galera-{index + 1}-")))
            environ = (environs or {}).get(index, {})
            node = GaleraNode(
                folder, name=f"node{index + 1}", base_port=port, port=free_port(), options=options, environ=environ
            )
            nodes.append(node)
            stack.callback(node.kill)
            _create(node, with_data=index == 0)
            node.cluster = tuple(ports) if index else ()
            node.start()
        nodes[0].cluster = tuple(ports)
        _until_whole(nodes)
        yield nodes


def _create(node: GaleraNode, *, with_data: bool) -> None:
    if with_data:
        node.install()
    else:
        (node.folder / "data").mkdir()
        node.temporary.mkdir()
    if _UID:
        for path in (node.folder, *node.folder.rglob("*")):
            shutil.chown(path, _UID, _UID)


def _until_whole(nodes: Sequence[GaleraNode]) -> None:
    deadline = monotonic() + _PATIENCE_SECS
    while not all(node.is_synced and node.size == len(nodes) for node in nodes):
        if monotonic() > deadline:
            raise RuntimeError(f"the cluster of {len(nodes)} did not come together")
        sleep(0.05)

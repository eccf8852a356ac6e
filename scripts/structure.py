"""Measures how easy it is to find one's way in the package: `python -m scripts.structure [--paths]`.

It counts modules, lines of product, import circles (imports for type checking count), and the files to touch for a
change, as CONTRIBUTING.md names them. With `--paths` it also lists the files of the package in which a function runs
while one request is served: a heartbeat into a MySQL registry, `ctl models list -o json` and `ctl why`. The requests
are real: a MariaDB, a controller and a command in this process. Imports at that time do not count. Of several runs the
smallest set counts, so that a background task does not add to it.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import io
import os
import re
import signal
import sys
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    import uvicorn

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "dbgpt_ctl"
RUNS = 5
HEALTH_SECS = 20
HEARTBEAT = {"model_name": "qwen@llm", "host": "127.0.0.1", "port": 8001}
COMMANDS = ("ctl models list -o json", "ctl why qwen -o json")


def source_files(folder: Path) -> dict[str, Path]:
    """Every module of the package, by its dotted name."""
    return {
        ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((folder / PACKAGE).rglob("*.py"))
    }


def imported_by(path: Path, modules: dict[str, Path]) -> set[str]:
    """The modules that a file imports anywhere: at its top, in functions and for type checking."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in modules else node.module)
    return found & modules.keys()


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or in a loop, each in order of names."""
    reaches = {module: _reachable(graph, module) for module in graph}
    loops = {
        frozenset({module, *(other for other in reaches[module] if module in reaches[other])})
        for module in graph
        if module in reaches[module]
    }
    return sorted(sorted(loop) for loop in loops)


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    todo = list(graph[start])
    while todo:
        module = todo.pop()
        if module not in found:
            found.add(module)
            todo += graph[module]
    return found


class Recorder:
    """Notes the files of the package in which functions run, in every thread, while it is switched on."""

    def __init__(self, folder: Path) -> None:
        self._prefix = str(folder / PACKAGE) + os.sep
        self._files: set[str] | None = None
        threading.setprofile(self._on_call)
        sys.setprofile(self._on_call)

    @contextlib.contextmanager
    def recording(self) -> Iterator[set[str]]:
        """Gives the set that fills while the block runs."""
        files: set[str] = set()
        self._files = files
        try:
            yield files
        finally:
            self._files = None

    def _on_call(self, frame: FrameType, event: str, _argument: object) -> None:
        files = self._files
        if event != "call" or files is None:
            return
        file = frame.f_code.co_filename
        if file.startswith(self._prefix) and not _is_import(frame):
            files.add(file.removeprefix(self._prefix))


def _is_import(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "<module>" and "<frozen" not in frame.f_code.co_filename and frame.f_back:
            caller = frame.f_back.f_code.co_filename
            if caller.startswith("<frozen importlib"):
                return True
        frame = frame.f_back
    return False


def smallest(recorder: Recorder, act: Callable[[], object]) -> list[str]:
    """The smallest set of files of several runs, after one that is not counted."""
    act()
    sets = []
    for _ in range(RUNS):
        with recorder.recording() as files:
            act()
        sets.append(files)
    return min((sorted(files) for files in sets), key=len)


def paths(folder: Path) -> dict[str, list[str]]:
    """The files passed by each request, in order of names."""
    servers = importlib.import_module("tests.support.database_server")
    kind = importlib.import_module("tests.support.mariadb").MariaDBServer
    recorder = Recorder(folder)
    with servers.private_server(kind) as server:
        database = servers.PrivateDatabase(server, "structure")
        database.create()
        return _paths_over(recorder, database.url)


def _paths_over(recorder: Recorder, database_url: Any) -> dict[str, list[str]]:
    with _controller(database_url) as url, httpx.Client(base_url=url, trust_env=False) as client:
        found = {
            "heartbeat to MySQL": smallest(
                recorder, lambda: client.post("/api/controller/heartbeat", json=HEARTBEAT).raise_for_status()
            )
        }
    serve = importlib.import_module("tests.support.process").start
    port = importlib.import_module("tests.support.ports").free_port()
    os.environ["CONTROLLER_ADDRESS"] = url = f"http://127.0.0.1:{port}"
    controller = serve("serve", "--port", str(port))  # a process of its own: its files are not on a command's way
    try:
        _await_health(url)
        httpx.post(f"{url}/api/controller/models", json=HEARTBEAT, trust_env=False).raise_for_status()
        found |= {name: smallest(recorder, partial(_run, name.split())) for name in COMMANDS}
    finally:
        controller.terminate()
        controller.communicate()
    return found


@contextlib.contextmanager
def _controller(database_url: Any) -> Iterator[str]:
    """A controller over that database in a thread, with the server of `ctl serve`; gives its URL."""
    package = importlib.import_module(PACKAGE)
    registry = package.DatabaseModelRegistry(database_url, heartbeat_timeout=timedelta(minutes=1), max_instances=100)
    app = package.create_app(package.ControllerSettings(), registry)
    server = _server(app)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        _await_health(url)
        yield url
    finally:
        server.should_exit = True
        thread.join()


def _server(app: Any) -> uvicorn.Server:
    """The server of `ctl serve`, for a free port."""
    server: uvicorn.Server = importlib.import_module(f"{PACKAGE}.controller.server").create_server(app)
    server.config.port = 0
    return server


def _await_health(url: str) -> None:
    deadline = time.monotonic() + HEALTH_SECS
    with httpx.Client(trust_env=False, timeout=1) as client:
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if client.get(f"{url}/api/health").is_success:
                    return
            time.sleep(0.02)
    raise SystemExit(f"{url} does not become healthy within {HEALTH_SECS} s")


def _run(words: list[str]) -> None:
    """Runs one command in this process, by the entry point of the console script."""
    main = importlib.import_module(f"{PACKAGE}.__main__").main
    sys.argv = words
    on_interrupt = signal.getsignal(signal.SIGINT)  # the entry point replaces it
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            contextlib.suppress(SystemExit),
        ):
            main()
    finally:
        signal.signal(signal.SIGINT, on_interrupt)


@dataclass(frozen=True)
class Change:
    """One kind of change, the files to touch for it, and an example of it that the project has."""

    kind: str
    package: tuple[Path, ...]
    beside: tuple[Path, ...]
    example: str
    shown: int
    """In how many files of the package the example's name stands, as the table says."""

    @property
    def naming(self) -> list[Path]:
        """The files of the package in which the example's name stands as a word of its own."""
        word = re.compile(rf"(?<![\w-]){re.escape(self.example)}(?![\w-])")
        files = (path for ending in ("py", "js", "ts") for path in (ROOT / PACKAGE).rglob(f"*.{ending}"))
        return sorted(path for path in files if word.search(path.read_text()))

    def __str__(self) -> str:
        return self.kind


def changes(folder: Path) -> list[Change]:
    """The rows of the table in CONTRIBUTING.md; none for a checkout without it."""
    _, _, section = (folder / "CONTRIBUTING.md").read_text().partition("## Files to touch")
    lines = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    return [_change(folder, line) for line in lines[1:]]


def _change(folder: Path, line: str) -> Change:
    kind, package, beside, example, shown = (cell.strip() for cell in line.strip("|").split("|"))
    in_package = tuple(folder / PACKAGE / path for path in _paths_in(package))
    in_tests = tuple(folder / path for path in _paths_in(beside))
    return Change(kind, in_package, in_tests, example.strip("`"), int(shown))


def _paths_in(cell: str) -> list[str]:
    """What stands in backticks and looks like a path."""
    return [code for code in re.findall(r"`([^`]+)`", cell) if re.fullmatch(r"\.?[\w./-]+\.\w+", code)]


def main() -> None:
    """Prints the counts of one checkout."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout to look at")
    parser.add_argument("--paths", action="store_true", help="follow requests, too; needs mariadbd")
    options = parser.parse_args()
    root = options.root.resolve()
    sys.path.insert(0, str(root))
    modules = source_files(root)
    graph = {module: imported_by(path, modules) - {module} for module, path in modules.items()}
    loops = circles(graph)
    sys.stdout.write(f"modules: {len(modules)}\n")
    sys.stdout.write(f"lines: {sum(len(path.read_text().splitlines()) for path in modules.values())}\n")
    sys.stdout.write(f"import circles: {len(loops)}\n")
    for loop in loops:
        sys.stdout.write(f"  {', '.join(loop)}\n")
    for change in changes(root):
        counts = f"{len(change.package)}, and {len(change.naming)} name {change.example}"
        sys.stdout.write(f"files of the package to touch for {change}: {counts}\n")
    for name, files in (paths(root) if options.paths else {}).items():
        sys.stdout.write(f"files passed by {name}: {len(files)}\n")
        for file in files:
            sys.stdout.write(f"  {file}\n")


if __name__ == "__main__":
    main()

"""What is sent to a controller, and wrk, which sends it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from benchmarks.report import MeasurementError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CONNECTIONS = 32
MODELS = 10
_TIMEOUT_SECS = 60


def fields(index: int, models: int = MODELS) -> dict[str, Any]:
    """What the worker of instance `index` sends, as DB-GPT's workers do. No such address is ever called."""
    return {
        "model_name": f"m{index % models}@llm",
        "host": f"10.{index // 65536}.{index // 256 % 256}.{index % 256}",
        "port": 8001,
        "weight": 1.0,
        "check_healthy": True,
        "healthy": False,
        "enabled": True,
        "prompt_template": None,
        "last_heartbeat": None,
        "remove_from_registry": False,
    }


_BODY = json.dumps(fields(0)).replace("m0@llm", "m%d@llm").replace("10.0.0.0", "10.%d.%d.%d")
_REQUEST = """
local sent = 0
request = function()
  local i = sent % {instances}
  sent = sent + 1
  local body = string.format('{body}', i % {models}, math.floor(i / 65536), math.floor(i / 256) % 256, i % 256)
  return wrk.format("POST", nil, nil, body)
end
"""
_STOP = """
local answered = 0
response = function()
  answered = answered + 1
  if answered == {after} then wrk.thread:stop() end
end
"""
_DONE = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('RESULT {"requests": %d, "microseconds": %d, "failed": %d, "p99": %d}\\n', summary.requests,
    summary.duration, e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(99)))
end
"""


@dataclass(frozen=True)
class Load:
    """One kind of request. A POST goes round all instances in turn."""

    name: str
    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()

    def script(self, instances: int, *, stop_after: int | None = None) -> str:
        """The Lua for wrk, which then ends after `stop_after` answers, or when its time is up."""
        lines = [f'wrk.method = "{self.method}"', f'wrk.path = "{self.path}"']
        lines += [f'wrk.headers["{name}"] = "{text}"' for name, text in self.headers]
        if self.method == "POST":
            lines.append(_REQUEST.format(instances=instances, models=MODELS, body=_BODY))
        if stop_after is not None:
            lines.append(_STOP.format(after=stop_after))
        return "\n".join([*lines, _DONE])


_JSON = ("Content-Type", "application/json")
HEARTBEAT = Load("heartbeat, kept connections", "POST", "/api/controller/heartbeat", (_JSON,))
HEARTBEAT_NEW = Load(
    "heartbeat, a new connection each", HEARTBEAT.method, HEARTBEAT.path, (_JSON, ("Connection", "close"))
)
REGISTER = Load("register", "POST", "/api/controller/models", (_JSON,))
LIST_ONE = Load("list of one model", "GET", "/api/controller/models?model_name=m1%40llm&healthy_only=true")
LIST_ALL = Load("list of all", "GET", "/api/controller/models")


@dataclass(frozen=True)
class Result:
    """`p99` in milliseconds."""

    per_second: float
    p99: float


def wrk(folder: Path, url: str, load: Load, instances: int, seconds: float) -> Result:
    """Sends for about `seconds`. Raises MeasurementError if any answer was not 2xx or any connection failed."""
    return _run(folder, url, load.script(instances), f"{load.name} at {url}", seconds)


def fill(folder: Path, url: str, instances: int, seconds: float = 900) -> float:
    """Registers all instances, each once. Instances a second."""
    # When so many are answered beyond, none of the first round can still be under way.
    script = REGISTER.script(instances, stop_after=instances + CONNECTIONS)
    return _run(folder, url, script, f"register of {instances} instances at {url}", seconds).per_second


def _run(folder: Path, url: str, script: str, what: str, seconds: float) -> Result:
    file = folder / "load.lua"
    file.write_text(script)
    argv = [
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{max(1, round(seconds))}s",
        f"--timeout={_TIMEOUT_SECS}s",
        "-s",
        file,
        url,
    ]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds + 60, check=False
        )
    except FileNotFoundError:
        raise MeasurementError("wrk is missing: install it (Debian: apt install wrk)") from None
    except subprocess.TimeoutExpired:
        raise MeasurementError(f"{what}: wrk did not end") from None
    _, found, text = done.stdout.partition("RESULT ")
    if done.returncode != 0 or not found:
        raise MeasurementError(f"{what}: wrk failed: {(done.stderr or done.stdout).strip()[-500:]}")
    result = json.loads(text.splitlines()[0])
    if result["failed"] or not result["requests"]:
        raise MeasurementError(f"{what}: {result['failed']} requests failed, {result['requests']} were answered")
    return Result(result["requests"] / result["microseconds"] * 1e6, result["p99"] / 1000)


async def wrk_while_beating(
    folder: Path, url: str, load: Load, instances: int, seconds: float, every: float
) -> tuple[Result, float]:
    """As `wrk`, while each instance beats once in `every` seconds. Also the beats a second that were answered."""
    async with _beating(url, instances, every) as answered:
        started, before = asyncio.get_running_loop().time(), len(answered)
        result = await asyncio.to_thread(wrk, folder, url, load, instances, seconds)
        beats = (len(answered) - before) / (asyncio.get_running_loop().time() - started)
    if any(line.split()[1:2] != [b"200"] for line in answered):
        raise MeasurementError(f"{load.name} at {url}: a heartbeat beside it was not answered 200")
    return result, beats


@contextlib.asynccontextmanager
async def _beating(url: str, instances: int, every: float) -> AsyncIterator[list[bytes]]:
    """The status lines of the beats that go on meanwhile: on time whether or not the last was answered, each on a connection of its own."""
    answered: list[bytes] = []
    stop = asyncio.Event()

    async def pace(group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        started, sent = loop.time(), 0
        while not stop.is_set():
            group.create_task(_beat(url, sent % instances, answered, stop))
            sent += 1
            await asyncio.sleep(started + sent * every / instances - loop.time())

    async with asyncio.TaskGroup() as group:
        group.create_task(pace(group))
        try:
            yield answered
        finally:
            stop.set()


async def _beat(url: str, index: int, answered: list[bytes], stop: asyncio.Event) -> None:
    """One beat; what the connection is refused after `stop` is no error."""
    address = urlsplit(url)
    body = json.dumps(fields(index)).encode()
    try:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        head = f"POST {HEARTBEAT.path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        line = await reader.readline()
        answered.append(line)
        await reader.read()
        writer.close()
        await writer.wait_closed()
    except OSError as error:
        if not stop.is_set():
            answered.append(f"- {error}".encode())

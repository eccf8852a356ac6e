"""The requests that load a controller, and wrk, which sends them."""

from __future__ import annotations

import json
import math
import secrets
import subprocess
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.report import MeasurementError

if TYPE_CHECKING:
    from pathlib import Path

CONNECTIONS = 32
MODELS = 10
_TIMEOUT_SECS = 60
PACED_CONNECTIONS = 1000
"""This many requests may wait for their answers before the next request starts late."""
_SLOWEST = 2.0
"""Answers a second; a slower server counts as hanging."""


def fields(index: int, models: int = MODELS) -> dict[str, Any]:
    """The fields that the worker of instance `index` sends, as DB-GPT's workers do. Nothing calls these addresses."""
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
_NEW_NAME_BODY = json.dumps(fields(0)).replace("m0@llm", "new-%d@llm").replace("10.0.0.0", "RUN-%d")
_REQUEST = """
local sent = 0
request = function()
  local i = sent % {instances}
  sent = sent + 1
  local body = string.format('{body}', i % {models}, math.floor(i / 65536), math.floor(i / 256) % 256, i % 256)
  return wrk.format("POST", nil, nil, body)
end
"""
# Each is the first instance of its model: DB-GPT reads all instances of a model at a register, and would take longer.
# Each script puts another text for RUN.
_NEW_NAME_REQUEST = """
local sent = 0
request = function()
  sent = sent + 1
  return wrk.format("POST", nil, nil, string.format('{body}', sent, sent))
end
"""
_END_BY_TIME = """
done = function(summary, latency, requests)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format('RESULT %d %d %f %f\\n',
    summary.requests, failed, summary.duration / 1e6, latency:percentile(99) / 1e6))
end
"""
_CLOCK = """
local ffi = require("ffi")
ffi.cdef("typedef struct { long sec, usec; } timeval_t; int gettimeofday(timeval_t *, void *);")
local timeval = ffi.new("timeval_t")
local function now()
  ffi.C.gettimeofday(timeval, nil)
  return tonumber(timeval.sec) + tonumber(timeval.usec) / 1e6
end
"""
# wrk cannot stop after a number of requests: it runs until its time is up.
_END_BY_COUNT = """
local answered, failed, first = 0, 0, now()
response = function(status)
  answered = answered + 1
  if status ~= 200 then failed = failed + 1 end
  if answered == {count} then
    io.write(string.format('RESULT %d %d %f\\n', answered, failed, now() - first))
    os.exit(0)
  end
end
"""
_END_OF_PACED = """
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('RESULT %d %d %f %f %f\\n', summary.requests,
    e.connect + e.read + e.write + e.status + e.timeout,
    summary.duration / 1e6, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end
"""
# All connections of a thread share one schedule: a request that is late does not delay those after it.
_PACE = """
local began, due = nil, 0
delay = function()
  began = began or now()
  due = due + 1
  return math.max(0, (began + due / {rate} - now()) * 1000)
end
"""


@dataclass(frozen=True)
class Load:
    """One kind of request. A POST goes to all instances in turn, or with `new_names` each one is of another name that
    was never sent before; this is how many one measurement sends.
    """

    name: str
    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    new_names: int | None = None
    refused: bool = False
    """Whether the server has to refuse each request: then an answer with 2xx is the failure."""
    models: int = MODELS
    """The instances are of so many models, in turn."""

    def script(self, instances: int, *, count: int | None = None) -> str:
        """The Lua script for wrk. It ends after `count` answers, or when its time is up."""
        lines = [f'wrk.method = "{self.method}"', f'wrk.path = "{self.path}"']
        lines += [f'wrk.headers["{name}"] = "{text}"' for name, text in self.headers]
        if self.new_names:
            body = _NEW_NAME_BODY.replace("RUN", secrets.token_hex(4))
            lines.append(_NEW_NAME_REQUEST.format(body=body))
        elif self.method == "POST":
            lines.append(_REQUEST.format(instances=instances, models=self.models, body=_BODY))
        lines += [_END_BY_TIME] if count is None else [_CLOCK, _END_BY_COUNT.format(count=count)]
        return "\n".join(lines)


_JSON = ("Content-Type", "application/json")
HEARTBEAT = Load("heartbeat, kept connections", "POST", "/api/controller/heartbeat", (_JSON,))
HEARTBEAT_NEW = Load("heartbeat, new connection each", "POST", HEARTBEAT.path, (_JSON, ("Connection", "close")))
REGISTER = Load("register, a known name", "POST", "/api/controller/models", (_JSON,))
REGISTER_NEW = Load("register, a new name", "POST", REGISTER.path, (_JSON,), new_names=3000)
LIST_ONE = Load("list of one model", "GET", "/api/controller/models?model_name=m1%40llm&healthy_only=true")
LIST_ALL = Load("list of all", "GET", "/api/controller/models")


class Sent(NamedTuple):
    """The counts of wrk. `p99`: the seconds of the slowest of a hundred requests, NaN where a number was sent."""

    answered: float
    seconds: float
    p99: float = math.nan

    @property
    def per_second(self) -> float:
        return self.answered / self.seconds


def send(folder: Path, url: str, load: Load, instances: int, seconds: float) -> Sent:
    """Sends for about `seconds`. Raises MeasurementError if any answer was not 2xx or any connection failed."""
    return _wrk(folder, url, load, load.script(instances), seconds)


def send_count(
    folder: Path, url: str, load: Load, instances: int, count: int, *, connections: int = CONNECTIONS
) -> Sent:
    """Sends until `count` requests are answered, however long it takes. Raises MeasurementError."""
    seconds = _TIMEOUT_SECS + count / _SLOWEST
    return _wrk(folder, url, load, load.script(instances, count=count), seconds, connections=connections)


class Paced(NamedTuple):
    """The counts of wrk for requests at a fixed rate; times in seconds."""

    answered: int
    failed: int
    seconds: float
    median: float
    p99: float


def send_paced(
    folder: Path,
    url: str,
    load: Load,
    instances: int,
    *,
    rate: int,
    seconds: float,
    connections: int = PACED_CONNECTIONS,
    gives_way: bool = False,
) -> Paced:
    """Sends `rate` requests a second, round all instances in turn. Raises MeasurementError if wrk fails.

    `gives_way`: with the lowest priority, beside other processes of this machine.
    """
    lines = (load.script(instances).removesuffix(_END_BY_TIME), _END_OF_PACED, _CLOCK, _PACE.format(rate=rate))
    before = ("nice", "--adjustment=19") if gives_way else ()
    what = f"{load.name} at {url}"
    _, text = _run_wrk(folder, url, "\n".join(lines), what, seconds, connections=connections, before=before)
    answered, failed, *times = text.split()[:5]
    return Paced(int(answered), int(failed), *map(float, times))


def fill(folder: Path, url: str, instances: int, *, connections: int = CONNECTIONS, models: int = MODELS) -> Sent:
    """Registers all instances, in their order. Raises MeasurementError."""
    # With so many more answers, no request of the first round can still be on its way.
    register = replace(REGISTER, models=models)
    return send_count(folder, url, register, instances, instances + connections, connections=connections)


def _wrk(folder: Path, url: str, load: Load, script: str, seconds: float, *, connections: int = CONNECTIONS) -> Sent:
    what = f"{load.name} at {url}"
    elapsed, text = _run_wrk(folder, url, script, what, seconds, connections=connections)
    answered, failed, timed, *p99 = map(float, text.split()[:4])
    if failed != (answered if load.refused else 0):
        raise MeasurementError(f"{what}: {failed:.0f} requests failed, {answered:.0f} were answered")
    return Sent(answered, timed or elapsed, *p99)


def _run_wrk(
    folder: Path,
    url: str,
    script: str,
    what: str,
    seconds: float,
    *,
    connections: int = CONNECTIONS,
    before: tuple[str, ...] = (),
) -> tuple[float, str]:
    """The seconds that it took, and the text that the script wrote after RESULT. `before`: a command that runs wrk."""
    file = folder / "load.lua"
    file.write_text(script)
    options = ["--threads=1", f"--connections={connections}", f"--timeout={_TIMEOUT_SECS}s"]
    argv = [*before, "wrk", *options, f"--duration={max(1, round(seconds))}s", f"--script={file}", url]
    started = time.perf_counter()
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds + _TIMEOUT_SECS, check=False
        )
    except FileNotFoundError:
        raise MeasurementError("wrk is missing: install it (Debian: apt install wrk)") from None
    except subprocess.TimeoutExpired:
        raise MeasurementError(f"{what}: wrk did not end") from None
    elapsed = time.perf_counter() - started
    _, found, text = done.stdout.partition("RESULT ")
    if done.returncode != 0 or not found:
        raise MeasurementError(f"{what}: wrk failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return elapsed, text

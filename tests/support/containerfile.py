"""The steps of a Containerfile, carried out by bubblewrap: for machines on which buildah does not run.

It knows the instructions and options that deploy/container/Containerfile has, and refuses others.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from tests.support.packages import run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LISTS = {"ENTRYPOINT": "Entrypoint", "CMD": "Cmd"}
_TEXTS = {"USER": "User", "STOPSIGNAL": "StopSignal"}
_ENGINE_ONLY = {"VOLUME", "EXPOSE"}


class UnknownInstruction(AssertionError):
    """A Containerfile has something that is not carried out here."""


@dataclass
class _Stage:
    root: Path
    environment: dict[str, str]
    arguments: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    config: dict[str, Any] = field(default_factory=dict)


@dataclass
class Steps:
    """`base`: a folder with a root file system, in place of the image of FROM. `arguments`: the values of ARG.

    `mounts`: files of this machine by their path, for RUN; a secret is the file at its target.
    """

    context: Path
    base: Path
    arguments: Mapping[str, str]
    mounts: Mapping[str, str]

    def carry_out(self, text: str, folder: Path) -> tuple[Path, dict[str, Any]]:
        """The root file system of the last stage, in `folder`, and the configuration of the image."""
        stages: dict[str, _Stage] = {}
        stage: _Stage | None = None
        for instruction, rest in _instructions(text):
            if instruction == "FROM":
                name = [*rest.split(" AS "), ""][1]
                stage = stages[name] = _Stage(
                    folder / f"stage-{len(stages)}", {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
                )
                run(["cp", "--archive", str(self.base), str(stage.root)])
            elif stage is not None:
                self._step(stages, stage, instruction, rest)
        assert stage is not None
        stage.config["Env"] = [f"{name}={value}" for name, value in stage.environment.items()]
        return stage.root, stage.config

    def _step(self, stages: Mapping[str, _Stage], stage: _Stage, instruction: str, rest: str) -> None:
        if instruction == "ARG":
            name, _, default = rest.partition("=")
            stage.arguments[name] = self.arguments.get(name, default)
        elif instruction == "RUN":
            self._run(stage, rest)
        elif instruction == "COPY":
            self._copy(stages, stage, shlex.split(rest))
        elif instruction == "WORKDIR":
            stage.folder = rest
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        else:
            _configure(stage, instruction, rest)

    def _run(self, stage: _Stage, rest: str) -> None:
        command = re.sub(r"^--mount=type=secret\S* ", "", rest)
        if command.startswith("--"):
            raise UnknownInstruction(command)
        arguments = writable_root(stage.root, self.mounts)
        for name, value in (stage.arguments | stage.environment).items():
            arguments += ["--setenv", name, value]
        run([*arguments, "--chdir", stage.folder, "sh", "-c", command])

    def _copy(self, stages: Mapping[str, _Stage], stage: _Stage, words: Sequence[str]) -> None:
        options = [word for word in words if word.startswith("--")]
        *sources, target = [word for word in words if not word.startswith("--")]
        place = stages[options[0].removeprefix("--from=")].root if options else self.context
        paths = [str(place / source.lstrip("/")) for source in sources]
        destination = str(stage.root / PurePosixPath(stage.folder, target).relative_to("/"))
        flags = [] if target.endswith("/") else ["--no-target-directory"]
        run(["cp", "--archive", *flags, *paths, destination])


def _configure(stage: _Stage, instruction: str, rest: str) -> None:
    """What an instruction says of the image. Raises UnknownInstruction."""
    if instruction in {"ENV", "LABEL"}:
        pairs = [word.partition("=")[::2] for word in shlex.split(rest)]
        values = {name: _expanded(value, stage.arguments | stage.environment) for name, value in pairs}
        (stage.environment if instruction == "ENV" else stage.config.setdefault("Labels", {})).update(values)
    elif instruction == "HEALTHCHECK":
        stage.config["Healthcheck"] = {"Test": ["CMD", *json.loads(rest.partition("CMD ")[2])]}
    elif instruction in _LISTS:
        stage.config[_LISTS[instruction]] = json.loads(rest)
    elif instruction in _TEXTS:
        stage.config[_TEXTS[instruction]] = rest
    elif instruction not in _ENGINE_ONLY:
        raise UnknownInstruction(instruction)


def writable_root(root: Path, mounts: Mapping[str, str]) -> list[str]:
    """The beginning of a command that runs as root in a root file system that it may change, with a network.

    `mounts`: files and folders of this machine by the path that they have there.
    """
    arguments = [
        "bwrap",
        "--bind",
        str(root),
        "/",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--cap-add",
        "ALL",
        "--clearenv",
    ]
    for target, source in mounts.items():
        arguments += ["--ro-bind", source, target]
    return arguments


def _instructions(text: str) -> list[tuple[str, str]]:
    """Each instruction with its arguments, on one line."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    pairs = [line.partition(" ")[::2] for line in joined.splitlines() if line.strip()]
    return [(name, rest.strip()) for name, rest in pairs]


def _expanded(value: str, variables: Mapping[str, str]) -> str:
    return re.sub(r"\$\{?(\w+)\}?", lambda found: variables.get(found[1], ""), value)

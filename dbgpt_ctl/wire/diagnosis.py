"""What is wrong at a controller, with which settings it runs, and which commands help."""

from typing import Annotated, Literal

from dbgpt_ctl.wire.answers import Versioned
from dbgpt_ctl.wire.fields import TIME, Sent, Time, doc


class FindingEvidence(Sent):
    """One line for people. Names in it are escaped, as `ctl` prints them."""

    subject: Annotated[str, doc("The controller, model or instance that it is about; may be empty.", "qwen3@llm")]
    detail: Annotated[str, doc("What was found there.", "no routable instance: 2 unhealthy")]


class DiagnosisFinding(Sent):
    """One cause, with what shows it and the remedy. Names in the texts are escaped, as `ctl` prints them."""

    code: Annotated[
        str, doc("The rule, for programs; stable. docs/troubleshooting.md lists them.", "no-healthy-instance")
    ]
    severity: Annotated[
        Literal["error", "warning", "info"],
        doc(
            "error: requests fail, or will. warning: they may, or something is hidden. info: an operator wanted that.",
            "error",
        ),
    ]
    summary: Annotated[str, doc("What is wrong, in one line.", "1 model has no instance that gets requests")]
    evidence: Annotated[list[FindingEvidence], doc("What shows it; at most 100.")]
    fix: Annotated[str, doc("What to do.", "ctl why qwen3@llm says why")]
    more: Annotated[int, doc("How many further pieces of evidence there are.", 0)]


class Diagnosis(Versioned):
    """What is wrong, as far as this controller knows, also while the registry is away."""

    time: Annotated[Time, doc("The registry's time of the states.", TIME)]
    findings: Annotated[
        list[DiagnosisFinding], doc("Errors first, then warnings, then infos; empty: nothing is wrong.")
    ]


class EffectiveSetting(Sent):
    """One setting of the controller."""

    name: Annotated[str, doc("Its name.", "heartbeat_timeout_secs")]
    variable: Annotated[str, doc("Its variable in the environment.", "CONTROLLER_HEARTBEAT_TIMEOUT_SECS")]
    value: Annotated[bool | int | float | str | None, doc("The value in force, without secrets; null: none.", 60.0)]
    origin: Annotated[str, doc("Where the value comes from.", "flag --heartbeat-timeout-secs")]


class EffectiveSettings(Versioned):
    """With which settings the controller was started."""

    settings: Annotated[list[EffectiveSetting], doc("All of them, in the order of docs/settings.md.")]


class InstanceCommand(Sent):
    """A command of `ctl`."""

    command: Annotated[
        str,
        doc(
            "To paste into a shell: names are quoted.", "ctl -a http://10.0.0.2:8000 models get qwen3@llm/10.0.0.4:8001"
        ),
    ]
    does: Annotated[str, doc("What it does.", "Show all its facts.")]


class Commands(Versioned):
    """What a person can do about the instance with `ctl`."""

    commands: Annotated[list[InstanceCommand], doc("Those for any instance, whatever its state is.")]

"""All rules, in order of likelihood: what is asked first when DB-GPT says that it found no worker instances."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.cli.diagnosis.findings import Severity
from dbgpt_ctl.cli.diagnosis.rules import addresses as of_addresses
from dbgpt_ctl.cli.diagnosis.rules import answers as of_answers
from dbgpt_ctl.cli.diagnosis.rules import controllers as of_controllers
from dbgpt_ctl.cli.diagnosis.rules import instances as of_instances
from dbgpt_ctl.cli.diagnosis.rules import models as of_models

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbgpt_ctl.cli.diagnosis.facts import Facts
    from dbgpt_ctl.cli.diagnosis.findings import Finding, Rule

RULES: tuple[Rule, ...] = (
    of_answers.unreachable,
    of_answers.unavailable,
    of_answers.not_allowed,
    of_answers.failed,
    of_controllers.proxied,
    of_controllers.disagree,
    of_controllers.separate,
    of_controllers.stale,
    of_controllers.held,
    of_models.not_registered,
    of_models.no_healthy,
    of_models.type_typo,
    of_models.twins,
    of_addresses.loopback,
    of_addresses.container,
    of_instances.expired,
    of_addresses.moved,
    of_instances.drained,
    of_instances.deregistered_beating,
    of_instances.deregistered,
    of_addresses.port_closed,
    of_addresses.wrong_service,
    of_addresses.no_answer,
    of_instances.flapping,
    of_instances.drained_service,
    of_controllers.degraded,
    of_controllers.leaving,
    of_controllers.nearly_full,
    of_controllers.short_timeout,
    of_controllers.clock,
    of_controllers.open_secrets,
    of_models.one_host,
    of_controllers.stock,
)


def explain(facts: Facts) -> list[Finding]:
    """Of one model: what may keep requests from it, in the order of `examine`."""
    return _found(facts, [rule for rule in RULES if not rule.cluster_only])


def examine(facts: Facts) -> list[Finding]:
    """Of the whole cluster: errors first, then warnings, then what is only worth knowing; of these the likeliest."""
    return _found(facts, RULES)


def _found(facts: Facts, rules: Sequence[Rule]) -> list[Finding]:
    found = [finding for rule in rules for finding in rule(facts)]
    return sorted(found, key=lambda each: list(Severity).index(each.severity))


def all_rules() -> list[tuple[str, str, str]]:
    """Code, symptom and fix of each rule, for the documentation."""
    return [(each.code, each.symptom, each.fix) for each in RULES]

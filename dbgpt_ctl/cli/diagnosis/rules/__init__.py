"""All rules, in order of likelihood: what to check first when DB-GPT reports that it found no worker instances."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.cli.diagnosis.rules import controllers, instances, models

if TYPE_CHECKING:
    from dbgpt_ctl.cli.diagnosis.facts import Facts, Rule

RULES: tuple[Rule[Facts], ...] = (
    controllers.unreachable,
    controllers.unavailable,
    controllers.not_allowed,
    controllers.failed,
    controllers.proxied,
    controllers.disagree,
    controllers.separate,
    controllers.different,
    controllers.not_ready,
    controllers.stale,
    controllers.held,
    models.not_registered,
    models.no_healthy,
    models.type_typo,
    models.twins,
    instances.loopback,
    instances.container,
    instances.expired,
    instances.moved,
    instances.drained,
    instances.drained_long,
    instances.deregistered_beating,
    instances.deregistered,
    instances.port_closed,
    instances.wrong_service,
    instances.no_answer,
    instances.flapping,
    instances.drained_service,
    controllers.degraded,
    controllers.leaving,
    controllers.nearly_full,
    controllers.short_timeout,
    controllers.clock,
    controllers.open_secrets,
    models.one_host,
    controllers.stock,
)


def all_rules() -> list[tuple[str, str, str]]:
    """Code, symptom and fix of each rule, for the documentation."""
    return [(rule.code, rule.symptom, rule.fix) for rule in RULES]

"""What every registry promises (`ModelRegistry`), held against every kind of it. Time is turned by hand."""

from __future__ import annotations

import unicodedata
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.domain.instance import DrainFacts, InstanceKey, InstanceState
from dbgpt_ctl.errors import RegistryFull, RegistryUnavailable
from dbgpt_ctl.registry.model_counts import COUNTS, CountsByModel
from tests.registry.backends import TIMEOUT, only, sent, states

if TYPE_CHECKING:
    from dbgpt_ctl.registry.contract import ModelRegistry
    from tests.registry.backends import Backend
    from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio

MICROSECOND = timedelta(microseconds=1).total_seconds()
TIMEOUT_SECS = TIMEOUT.total_seconds()
QWEN = "qwen@llm/10.0.0.4:8001"
KEY = sent().key
HEALTHY, UNHEALTHY, DEREGISTERED = InstanceState


@pytest.fixture
async def registry(backend: Backend) -> ModelRegistry:
    return await backend.open()


# --- rule 1: identity ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(("Qwen@llm", "h", 1), ("qwen@llm", "h", 1), id="case of the name"),
        pytest.param(("qwen@LLM", "h", 1), ("qwen@llm", "h", 1), id="case of the type"),
        pytest.param(("q@llm", "Host", 1), ("q@llm", "host", 1), id="case of the host"),
        pytest.param(("café@llm", "h", 1), ("cafe@llm", "h", 1), id="accent"),
        pytest.param(("straße@llm", "h", 1), ("strasse@llm", "h", 1), id="ss and ß"),
        pytest.param(("\u0130@llm", "h", 1), ("i@llm", "h", 1), id="dotted I"),
        pytest.param(("\u00c5@llm", "h", 1), ("\u212b@llm", "h", 1), id="angstrom sign"),
        pytest.param(("１@llm", "h", 1), ("1@llm", "h", 1), id="full width"),
        pytest.param(("あ@llm", "h", 1), ("ア@llm", "h", 1), id="kana"),
        pytest.param(("🙂@llm", "h", 1), ("🙃@llm", "h", 1), id="beyond the BMP"),
        pytest.param(("a b@llm", "h", 1), ("a  b@llm", "h", 1), id="one space or two"),
        pytest.param(("a-b@llm", "h", 1), ("ab@llm", "h", 1), id="ignorable punctuation"),
        pytest.param(("a@llm", "h", 1), ("a@llm2", "h", 1), id="a prefix"),
        pytest.param(("a@llm", "h", 1), ("a@llm", "h", 2), id="port"),
        pytest.param(("a%@llm", "h", 1), ("a_@llm", "h", 1), id="wildcards of LIKE"),
        pytest.param(("a'@llm", "h", 1), ('a"\\@llm', "h", 1), id="quotes"),
        pytest.param(
            (unicodedata.normalize("NFC", "\u00e9@llm"), "h", 1),
            (unicodedata.normalize("NFD", "\u00e9@llm"), "h", 1),
            id="composed and decomposed",
        ),
    ],
)
async def test_twins_are_two_instances(
    registry: ModelRegistry, one: tuple[str, str, int], other: tuple[str, str, int]
) -> None:
    await registry.register(sent(*one, weight=1.0))
    await registry.register(sent(*other, weight=2.0))

    listed = {entry.instance.key: entry.instance.weight for entry in (await registry.list()).entries}
    assert listed == {InstanceKey(*one): 1.0, InstanceKey(*other): 2.0}
    assert [entry.instance.key for entry in (await registry.list(one[0])).entries] == sorted(
        key for key in listed if key.model_name == one[0]
    )
    assert await registry.deregister(InstanceKey(*one))
    fresh = {entry.instance.key: entry.is_healthy for entry in (await registry.list()).entries}
    assert fresh == {InstanceKey(*one): False, InstanceKey(*other): True}


async def test_trailing_space_in_a_query_finds_nothing(registry: ModelRegistry) -> None:
    # A collation that pads would find it. On the wire the controller strips names before they come here.
    await registry.register(sent())
    assert not await registry.deregister(InstanceKey("qwen@llm", "10.0.0.5", 8001))
    assert await states(registry, "qwen@llm") == [(QWEN, "healthy")]
    assert await states(registry, "qwen@ll") == []


async def test_longest_and_widest_values_come_back_as_sent(registry: ModelRegistry) -> None:
    widest = sent("🧠" * 124 + "@llm", "h" * 128, 65535, weight=1.7976931348623157e308, prompt_template="𝔓" * 128)
    await registry.register(widest)
    entry = await only(registry)
    assert entry.instance.key == widest.key
    assert (entry.instance.weight, entry.instance.prompt_template) == (widest.weight, widest.prompt_template)


@pytest.mark.parametrize("weight", [0.1, -2.5, 5e-324, 1 / 3, 123456789.12345679, 0.0])
async def test_weight_comes_back_exactly(registry: ModelRegistry, weight: float) -> None:
    await registry.register(sent(weight=weight))
    assert (await only(registry)).instance.weight == weight


async def test_lists_are_in_order_of_identity(registry: ModelRegistry) -> None:
    keys = [
        ("b@llm", "10.0.0.1", 9),
        ("b@llm", "10.0.0.1", 10),
        ("a@llm", "9.0.0.1", 1),
        ("a@llm", "10.0.0.1", 1),
        ("B@llm", "h", 1),
        ("é@llm", "h", 1),
        ("z@llm", "h", 1),
        ("🙂@llm", "h", 1),
        ("a@text2vec", "h", 1),
        ("a b@llm", "h", 1),
        ("a-b@llm", "h", 1),
    ]
    for key in keys:
        await registry.register(sent(*key))
    expected = sorted(InstanceKey(*key) for key in keys)
    assert [entry.instance.key for entry in (await registry.list()).entries] == expected
    assert [entry.instance.key for entry in (await registry.list("b@llm")).entries] == [
        InstanceKey("b@llm", "10.0.0.1", 9),
        InstanceKey("b@llm", "10.0.0.1", 10),
    ]


async def test_the_counts_are_those_of_the_list(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent(host="old"))
    clock.advance(TIMEOUT_SECS + 1)
    for name, host in (("a@llm", "fresh"), ("b@llm", "gone"), ("b@llm", "removed")):
        await registry.register(sent(name, host))
    await registry.register(sent(host="drained", enabled=False))
    await registry.deregister(sent("b@llm", "gone").key)
    await registry.deregister(sent("b@llm", "removed").key, remove=True)
    await registry.register(sent("b@llm", "unchecked", check_healthy=False))
    await registry.drain(sent("a@llm", "fresh").key)
    clock.advance(1)
    await registry.drain(sent("b@llm", "gone").key)
    counts = await registry.count()
    assert shown(counts) == {
        "qwen@llm": {"unhealthy": 1, "healthy": 1, "drained": 1},
        "a@llm": {"healthy": 1, "drained": 1},
        "b@llm": {"deregistered": 1, "drained": 1, "healthy": 1, "routable": 1, "unchecked": 1},
    }
    since = clock.now()
    assert counts.oldest_drain == {"a@llm": since - timedelta(seconds=1), "b@llm": since}
    listed = CountsByModel()
    await listed.add_all((await registry.list()).entries)
    assert (shown(listed), listed.oldest_drain) == (shown(counts), counts.oldest_drain)


async def test_held_instances_are_counted(backend: Backend, clock: ManualClock) -> None:
    registry = await backend.open(watch_absence=True)
    for host in ("silent", "back"):
        await registry.register(sent(host=host))
    clock.advance(2 * TIMEOUT_SECS)  # no tick in all that time: the registry was away
    await registry.heartbeat(sent(host="back"))
    assert shown(await registry.count()) == {"qwen@llm": {"healthy": 2, "routable": 2, "held": 1}}


def shown(counts: CountsByModel) -> dict[str, dict[str, int]]:
    """The numbers by model, without zeros."""
    return {
        name: {count: number for count, number in zip(COUNTS, row, strict=True) if number}
        for name, row in counts.rows()
    }


async def test_an_unknown_model_lists_nothing(registry: ModelRegistry) -> None:
    await registry.register(sent())
    assert await states(registry, "other@llm") == []


# --- rules 2 and 3: states are derived ----------------------------------------------------------------------------


async def test_a_beat_exactly_the_timeout_old_is_fresh_and_a_microsecond_more_is_not(
    registry: ModelRegistry, clock: ManualClock
) -> None:
    await registry.register(sent())
    clock.advance(TIMEOUT_SECS)
    assert await states(registry) == await states(registry, healthy_only=True) == [(QWEN, "healthy")]
    clock.advance(MICROSECOND)
    assert await states(registry) == [(QWEN, "unhealthy")]
    assert await states(registry, healthy_only=True) == []
    assert await registry.heartbeat(sent())
    assert await states(registry, healthy_only=True) == [(QWEN, "healthy")]


async def test_without_check_healthy_no_beat_gets_old(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent(check_healthy=False))
    clock.advance(1000 * TIMEOUT_SECS)
    assert await states(registry, healthy_only=True) == [(QWEN, "healthy")]


async def test_drained_is_listed_but_not_routable(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent(enabled=False))
    assert await states(registry) == [(QWEN, "healthy,drained")]
    assert await states(registry, healthy_only=True) == await states(registry, "qwen@llm", healthy_only=True) == []
    clock.advance(TIMEOUT_SECS + 1)
    assert await states(registry) == [(QWEN, "unhealthy,drained")]


async def test_healthy_only_is_the_routable_part_of_the_list(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent(host="old"))
    clock.advance(TIMEOUT_SECS + 1)
    await registry.register(sent(host="fresh"))
    await registry.register(sent(host="drained", enabled=False))
    await registry.register(sent(host="gone"))
    await registry.deregister(sent(host="gone").key)
    assert await states(registry, healthy_only=True) == [("qwen@llm/fresh:8001", "healthy")]
    assert await states(registry, "qwen@llm", healthy_only=True) == [("qwen@llm/fresh:8001", "healthy")]
    assert len(await states(registry)) == len(await states(registry, "qwen@llm")) == 4


# --- rule 4: deregistered stays deregistered ----------------------------------------------------------------------


async def test_deregister_answers_false_only_for_what_never_was(registry: ModelRegistry) -> None:
    assert await registry.deregister(KEY) is False
    assert await registry.deregister(KEY, remove=True) is False
    assert await states(registry) == []
    await registry.register(sent())
    assert await registry.deregister(KEY) is True
    assert await registry.deregister(KEY) is True
    assert await registry.deregister(KEY, remove=True) is True
    assert await registry.deregister(KEY, remove=True) is True
    assert await registry.deregister(KEY) is True


async def test_a_late_beat_does_not_revive(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent())
    await registry.deregister(KEY)
    clock.advance(1)
    assert await registry.heartbeat(sent()) is False
    assert await states(registry) == [(QWEN, "deregistered")]
    assert await states(registry, healthy_only=True) == []


async def test_deregistered_without_remove_never_expires(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent())
    await registry.deregister(KEY)
    clock.advance(1000 * TIMEOUT_SECS)
    assert await registry.heartbeat(sent()) is False
    assert len(await states(registry)) == 1


@pytest.mark.parametrize("remove", [False, True])
async def test_only_a_register_revives(registry: ModelRegistry, *, remove: bool) -> None:
    await registry.register(sent())
    await registry.deregister(KEY, remove=remove)
    assert await registry.heartbeat(sent()) is False
    await registry.register(sent())
    assert await states(registry, healthy_only=True) == [(QWEN, "healthy")]
    assert await registry.heartbeat(sent()) is True


async def test_a_removed_one_is_in_no_list_and_refuses_late_beats(registry: ModelRegistry) -> None:
    await registry.register(sent())
    await registry.deregister(KEY, remove=True)
    assert await states(registry) == await states(registry, "qwen@llm") == []
    assert await registry.heartbeat(sent()) is False
    assert await states(registry) == []


async def test_a_tombstone_lasts_one_timeout_after_the_removal(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent())
    await registry.deregister(KEY, remove=True)
    clock.advance(TIMEOUT_SECS)
    assert await registry.deregister(KEY) is True
    clock.advance(MICROSECOND)
    assert await registry.deregister(KEY) is False
    assert await registry.heartbeat(sent()) is True
    assert await states(registry) == [(QWEN, "healthy")]


async def test_a_tombstone_lasts_one_timeout_after_its_last_refused_beat(
    registry: ModelRegistry, clock: ManualClock
) -> None:
    await registry.register(sent())
    await registry.deregister(KEY, remove=True)
    for _ in range(3):
        clock.advance(TIMEOUT_SECS)
        assert await registry.heartbeat(sent()) is False
    clock.advance(TIMEOUT_SECS + MICROSECOND)
    assert await registry.heartbeat(sent()) is True


async def test_removing_what_was_deregistered_long_ago_forgets_it(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent())
    await registry.deregister(KEY)
    clock.advance(TIMEOUT_SECS + 1)
    assert await registry.deregister(KEY, remove=True) is True
    assert await states(registry) == []
    assert await registry.deregister(KEY) is False


async def test_an_unknown_beat_registers_as_sent(registry: ModelRegistry, clock: ManualClock) -> None:
    beat = sent(weight=2.5, enabled=False, check_healthy=False, prompt_template="vicuna")
    assert await registry.heartbeat(beat) is True
    entry = await only(registry)
    facts = entry.instance
    assert (facts.weight, facts.check_healthy, facts.prompt_template) == (2.5, False, "vicuna")
    assert facts.last_heartbeat == clock.now()
    assert (entry.state, entry.drain) == (HEALTHY, DrainFacts())


# --- rule 5: who may change what ----------------------------------------------------------------------------------


async def test_a_beat_changes_nothing_but_the_beat(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent(weight=2.5, prompt_template="vicuna"))
    before = (await only(registry)).instance
    later = clock.advance(1.000001)
    assert await registry.heartbeat(sent(weight=9.0, enabled=False, check_healthy=False, prompt_template=None))
    after = (await only(registry)).instance
    assert after.last_heartbeat == later
    assert (after.weight, after.drain, after.check_healthy, after.prompt_template) == (2.5, None, True, "vicuna")
    assert after.key == before.key


async def test_a_later_register_updates_weight_and_template_only(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent(weight=1.0, enabled=False, check_healthy=False, prompt_template="vicuna"))
    later = clock.advance(1)
    await registry.register(sent(weight=3.0, enabled=True, check_healthy=True, prompt_template=None))
    facts = (await only(registry)).instance
    assert (facts.weight, facts.drain, facts.check_healthy, facts.prompt_template) == (3.0, DrainFacts(), False, None)
    assert facts.last_heartbeat == later


async def test_a_drain_survives_deregister_and_register(registry: ModelRegistry) -> None:
    await registry.register(sent(enabled=False))
    await registry.deregister(KEY)
    await registry.register(sent(enabled=True))
    assert await states(registry) == [(QWEN, "healthy,drained")]


async def test_a_drain_does_not_survive_a_removal(registry: ModelRegistry) -> None:
    await registry.register(sent(enabled=False))
    await registry.deregister(KEY, remove=True)
    await registry.register(sent(enabled=True))
    assert await states(registry) == [(QWEN, "healthy")]


# --- rule 7: one clock --------------------------------------------------------------------------------------------


async def test_a_beat_never_moves_backwards(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent())
    stored = clock.now()
    clock.advance(-5)
    assert await registry.heartbeat(sent())
    assert (await only(registry)).instance.last_heartbeat == stored
    await registry.register(sent())
    assert (await only(registry)).instance.last_heartbeat == stored


async def test_a_beat_far_in_the_future_is_replaced_by_the_next(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent())
    now = clock.advance(-5 - MICROSECOND)
    assert await states(registry) == [(QWEN, "healthy")]
    assert await registry.heartbeat(sent())
    assert (await only(registry)).instance.last_heartbeat == now
    clock.advance(TIMEOUT_SECS + MICROSECOND)
    assert await states(registry) == [(QWEN, "unhealthy")]


async def test_times_keep_their_microseconds(registry: ModelRegistry, clock: ManualClock) -> None:
    for step in (0, MICROSECOND, 0.999999, 1 - 0.999999):
        now = clock.advance(step)
        await registry.heartbeat(sent())
        assert (await only(registry)).instance.last_heartbeat == now
    clock.advance(1 - clock.now().microsecond * MICROSECOND)
    assert clock.now().microsecond == 0
    await registry.heartbeat(sent())
    assert (await only(registry)).instance.last_heartbeat == clock.now()


# --- rule 12: refuse early ----------------------------------------------------------------------------------------


async def test_a_full_registry_refuses_new_ones_and_serves_known_ones(backend: Backend, clock: ManualClock) -> None:
    registry = await backend.open(max_instances=2)
    await registry.register(sent(host="one"))
    assert await registry.heartbeat(sent(host="two"))
    with pytest.raises(RegistryFull, match=r"qwen@llm/three:8001"):
        await registry.register(sent(host="three"))
    with pytest.raises(RegistryFull, match="the 2 that --max-instances"):
        await registry.heartbeat(sent(host="three"))
    assert [reference for reference, _ in await states(registry)] == ["qwen@llm/one:8001", "qwen@llm/two:8001"]

    later = clock.advance(1)
    assert await registry.heartbeat(sent(host="one"))
    await registry.register(sent(host="two", weight=2.0))
    assert [entry.instance.last_heartbeat for entry in (await registry.list()).entries] == [later, later]
    assert await registry.deregister(sent(host="one").key)
    await registry.register(sent(host="one"))
    assert await registry.deregister(sent(host="three").key) is False


async def test_a_tombstone_keeps_its_room_until_it_is_forgotten(backend: Backend, clock: ManualClock) -> None:
    registry = await backend.open(max_instances=1)
    await registry.register(sent(host="one"))
    await registry.deregister(sent(host="one").key, remove=True)
    clock.advance(TIMEOUT_SECS)
    with pytest.raises(RegistryFull):
        await registry.register(sent(host="two"))
    clock.advance(MICROSECOND)
    await registry.register(sent(host="two"))
    with pytest.raises(RegistryFull):
        await registry.register(sent(host="one"))
    assert [reference for reference, _ in await states(registry)] == ["qwen@llm/two:8001"]


async def test_room_is_made_by_whichever_tombstone_is_done_first(backend: Backend, clock: ManualClock) -> None:
    registry = await backend.open(max_instances=2)
    first, second = sent(host="first"), sent(host="second")
    await registry.register(first)
    await registry.register(second)
    await registry.deregister(first.key)
    clock.advance(1)
    await registry.deregister(second.key, remove=True)
    await registry.deregister(first.key, remove=True)  # its time counts from the deregister
    clock.advance(TIMEOUT_SECS - 1 + MICROSECOND)
    await registry.register(sent(host="third"))
    with pytest.raises(RegistryFull):
        await registry.register(sent(host="fourth"))
    assert await registry.deregister(first.key) is False
    assert await registry.deregister(second.key) is True


async def test_a_removed_one_may_come_back_into_its_own_room(backend: Backend, clock: ManualClock) -> None:
    registry = await backend.open(max_instances=1)
    for pause in (0, TIMEOUT_SECS + MICROSECOND):
        await registry.register(sent())
        await registry.deregister(KEY, remove=True)
        clock.advance(pause)
        await registry.register(sent())
        assert await states(registry) == [(QWEN, "healthy")]


# --- the life of a registry ---------------------------------------------------------------------------------------


async def test_a_list_holds_every_acknowledged_write(registry: ModelRegistry) -> None:
    for port in range(1, 20):
        await registry.register(sent(port=port))
        assert len((await registry.list()).entries) == len((await registry.list("qwen@llm")).entries) == port
        assert await registry.deregister(sent(port=port).key)
        assert len((await registry.list(healthy_only=True)).entries) == 0


async def test_health_follows_open_and_close(backend: Backend) -> None:
    registry = await backend.open()
    assert registry.health().ready
    assert registry.health().reason is None
    await registry.close()
    await registry.close()
    assert not registry.health().ready
    assert registry.health().reason


async def test_a_closed_registry_refuses_every_call(backend: Backend) -> None:
    registry = await backend.open()
    await registry.register(sent())
    await registry.close()
    for call in (registry.register(sent()), registry.heartbeat(sent()), registry.deregister(KEY), registry.list()):
        with pytest.raises(RegistryUnavailable, match="closed"):
            await call


async def test_open_twice_changes_nothing(registry: ModelRegistry) -> None:
    await registry.register(sent())
    await registry.open()
    assert await states(registry) == [(QWEN, "healthy")]

"""Statements on `ctl_instance`, and how its rows become facts."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from itertools import chain
from math import inf
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import Boolean, and_, bindparam, case, delete, func, literal_column, or_, select, update

from dbgpt_ctl.domain.fields import MAX_PORT
from dbgpt_ctl.domain.instance import FUTURE_TOLERANCE, HEALTHY, DrainFacts, InstanceKey, InstanceState, ModelInstance
from dbgpt_ctl.registry.database.dialects import DIALECTS
from dbgpt_ctl.registry.database.tables.insertion import insert_all
from dbgpt_ctl.registry.database.tables.schema import INSTANCES, UtcTime
from dbgpt_ctl.registry.database.tables.unreadable import BAD_VALUE, BOOLS, UnreadableRow, read_rows, reason_of
from dbgpt_ctl.registry.model_counts import CountsByModel, Group

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from sqlalchemy import ColumnElement, Connection

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.domain.lifecycle import Evaluation

IDENTITY = tuple(INSTANCES.primary_key)
RegisteredValues = tuple[float, str | None]
"""The values in a register that may differ from the stored ones: the weight and the prompt template."""
_DRAIN = tuple(f"drain_{name}" for name in DrainFacts._fields)
_COLUMNS = (
    *IDENTITY,
    *(INSTANCES.c[name] for name in ModelInstance._fields if name not in {"key", "drain"}),
    INSTANCES.c.drained,
    *(INSTANCES.c[name] for name in _DRAIN),
)
"""By name: a newer release may have added columns to the table."""
_ROWS = select(*_COLUMNS)
_IN_COLUMNS = _ROWS.where(~INSTANCES.c.removed).order_by(*IDENTITY)
_IN_ARRAYS = _IN_COLUMNS.with_only_columns(func.json_array(*_COLUMNS))
_DRAIN_FIELD = ModelInstance._fields.index("drain")
_STATES = {str(state): state for state in InstanceState}
_OF_MODELS = INSTANCES.c.model_name.in_(bindparam("model_names", expanding=True))


def is_one_of(connection: Connection, keys: Collection[InstanceKey]) -> ColumnElement[bool]:
    """The condition that a row's identity is one of `keys`. The database reads only those rows of the primary key."""
    if len(keys) == 1:
        # (a, b, c) IN ((x, y, z)) makes an UPDATE scan, and lock, the whole table.
        return and_(*(column == value for column, value in zip(IDENTITY, *keys, strict=True)))
    return DIALECTS[connection.dialect.name].are_in(IDENTITY, keys)


def is_drained(now: datetime) -> ColumnElement[bool]:
    """The rule `ModelInstance.drain_at` as a condition."""
    until = INSTANCES.c.drain_until
    return and_(INSTANCES.c.drained, or_(until.is_(None), until > now))


def is_silent(evaluation: Evaluation) -> ColumnElement[bool]:
    """The rule by which `lifecycle.state_of` finds an instance unhealthy, as a condition."""
    column = INSTANCES.c
    return and_(
        column.last_heartbeat < evaluation.expires_before, column.deregistered_at.is_(None), column.check_healthy
    )


def count_instances(connection: Connection, evaluation: Evaluation, fresh_from: datetime) -> CountsByModel:
    """The instances by model and state, without rows whose identity `_check` refuses. A heartbeat before `fresh_from`
    would be too old without a hold.
    """
    column, drained, silent = INSTANCES.c, is_drained(evaluation.now), is_silent(evaluation)
    deregistered = column.deregistered_at.is_not(None)
    state = case((deregistered, InstanceState.DEREGISTERED), (silent, InstanceState.UNHEALTHY), else_=HEALTHY)
    held = and_(column.last_heartbeat < fresh_from, column.check_healthy, ~deregistered, ~silent)
    each = select(
        column.model_name,
        state.label("state"),
        case((drained, 1), else_=0).label("is_drained"),
        column.check_healthy,
        case((held, 1), else_=0).label("is_held"),
        case((drained, column.drain_since)).label("since"),
    )
    rows = each.where(~column.removed, column.host != "", column.port.between(1, MAX_PORT)).subquery().c
    by = (rows.model_name, rows.state, rows.is_drained, rows.check_healthy)
    found = select(*by, func.count(), func.sum(rows.is_held), func.min(rows.since, type_=UtcTime())).group_by(*by)
    counts = CountsByModel()
    for name, named_state, is_drained_now, is_checked, number, held_number, since in connection.execute(found):
        if _is_model_name(name):
            group = Group(InstanceState(named_state), bool(is_drained_now), is_checked)
            counts.add(name, group, number, held=int(held_number), oldest_drain=since)
    return counts


def is_drain_over(now: datetime) -> ColumnElement[bool]:
    """Whether the row is stored as drained, until a time that has passed."""
    return and_(INSTANCES.c.drain_until <= now, INSTANCES.c.drained, ~INSTANCES.c.removed)


def time_of(connection: Connection, clock: Clock | None) -> datetime:
    """The clock's time, or without one the database's (rule 7)."""
    if clock is not None:
        return clock.now()
    return connection.execute(select(database_time(connection.dialect.name))).scalar_one()


def database_time(dialect: str) -> ColumnElement[datetime]:
    """The database's time, as an expression."""
    return literal_column(str(DIALECTS[dialect].current_time), UtcTime())


def store_plain_heartbeats(
    connection: Connection,
    keys: Collection[InstanceKey],
    registered: RegisteredValues | None,
    now: datetime | None,
    timeout: timedelta,
) -> Collection[InstanceKey]:
    """Stores a heartbeat of those of `keys` for which no other fact changes by it, and returns these keys.

    Their rows exist, are alive and announced as such, and their last heartbeat is not ahead; with `registered` they
    hold these values. `now` None means the database's time. Runs in or outside of a transaction: a row that another
    controller changed between the two statements so that it fits has just had a heartbeat from there.
    """
    condition, values = _plain_condition(connection, keys, registered, now, timeout)
    dialect = DIALECTS[connection.dialect.name]
    time = dialect.mark if now else dialect.current_time
    times = values[:1] if now else ()  # `now` comes first in the condition, too
    # This runs for every heartbeat of the cluster. To build and compile it as an expression takes twice the time of all
    # the rest.
    stored = connection.exec_driver_sql(
        f"UPDATE ctl_instance SET last_heartbeat = {time} WHERE {condition}",  # noqa: S608 - holds marks only
        (*times, *values),
    ).rowcount
    if stored in (0, len(keys)):
        return keys if stored else ()
    found = connection.exec_driver_sql(
        f"SELECT model_name, host, port FROM ctl_instance WHERE {condition}",  # noqa: S608 - holds marks only
        values,
    )
    return {InstanceKey(*row) for row in found}


def _plain_condition(
    connection: Connection,
    keys: Collection[InstanceKey],
    registered: RegisteredValues | None,
    now: datetime | None,
    timeout: timedelta,
) -> tuple[str, tuple[Any, ...]]:
    """The condition of `store_plain_heartbeats`, and the values for its marks."""
    dialect = DIALECTS[connection.dialect.name]
    mark = dialect.mark
    time, oldest = mark, mark
    values: list[Any] = []
    if now is None:
        time = str(dialect.current_time)
        oldest = dialect.earlier_time.format(timeout // timedelta(microseconds=1))
    else:
        values = _parameters(connection, now, now - timeout)
    condition = (
        f"deregistered_at IS NULL AND last_heartbeat <= {time} AND (last_heartbeat >= {oldest} OR NOT check_healthy) "
        "AND announced_state = 'healthy' AND "
    )
    if registered is not None:
        condition += f"weight = {mark} AND prompt_template {dialect.null_safe_equal} {mark} AND "
        values += registered
    if len(keys) == 1:
        condition += f"model_name = {mark} AND host = {mark} AND port = {mark}"
        return condition, (*values, *chain.from_iterable(keys))
    is_one, of_keys = dialect.rows_in(InstanceKey._fields, keys)
    return condition + is_one, (*values, *of_keys)


def _parameters(connection: Connection, *times: datetime) -> list[Any]:
    """The times as the driver takes them."""
    in_database = INSTANCES.c.last_heartbeat.type.dialect_impl(connection.dialect)
    to_parameter = in_database.bind_processor(connection.dialect)
    return [to_parameter(time) if to_parameter else time for time in times]


def locked_rows(
    connection: Connection, keys: Collection[InstanceKey], unreadable: list[UnreadableRow] | None = None
) -> list[ModelInstance]:
    """The stored ones of `keys`, locked in order of identity, so that two controllers seldom deadlock."""
    query = _ROWS.where(is_one_of(connection, keys)).order_by(*IDENTITY).with_for_update()
    return read_rows(connection, query, _facts, unreadable)


def found_rows(
    connection: Connection, condition: ColumnElement[bool], unreadable: list[UnreadableRow] | None = None
) -> list[ModelInstance]:
    """The rows that meet the condition, tombstones too, not locked. Only `is_one_of` needs no scan of the table.

    Rows that cannot be read are left out, here and in the other functions, and are appended to `unreadable`.
    """
    return read_rows(connection, _ROWS.where(condition), _facts, unreadable)


def listed_rows(
    connection: Connection, model_names: Collection[str] | None, unreadable: list[UnreadableRow] | None = None
) -> list[ModelInstance]:
    """All instances but tombstones, or those of the given models, in order of identity."""
    in_arrays = DIALECTS[connection.dialect.name].reads_arrays
    query = _IN_ARRAYS if in_arrays else _IN_COLUMNS
    if model_names is not None:
        query = query.where(_OF_MODELS).params(model_names=list(model_names))
    if not in_arrays:
        return read_rows(connection, query, _facts, unreadable)
    arrays = connection.execute(query).scalars().all()
    names: dict[str, str] = {}
    try:
        return [_facts_in(array, names) for array in arrays]
    except BAD_VALUE:
        return _readable(arrays, [] if unreadable is None else unreadable)


def _readable(arrays: Iterable[str], unreadable: list[UnreadableRow]) -> list[ModelInstance]:
    names: dict[str, str] = {}
    found: list[ModelInstance] = []
    for array in arrays:
        try:
            found.append(_facts_in(array, names))
        except BAD_VALUE as error:
            unreadable.append(_unreadable(array, error))
    return found


def _unreadable(array: str, error: Exception) -> UnreadableRow:
    values = dict(zip((column.name for column in _COLUMNS), orjson.loads(array), strict=True))
    # A column that must hold a value and a time that is none are the usual faults; other errors say what is wrong.
    for column in _COLUMNS:
        value = values[column.name]
        if value is None and not column.nullable:
            return UnreadableRow(INSTANCES.name, values, reason_of(column.name, value))
        if isinstance(column.type, Boolean) and value not in BOOLS:
            return UnreadableRow(INSTANCES.name, values, reason_of(column.name, value))
        if isinstance(column.type, UtcTime) and not _is_time(value):
            return UnreadableRow(INSTANCES.name, values, reason_of(column.name, value))
    if values["announced_state"] not in _STATES:
        return UnreadableRow(INSTANCES.name, values, reason_of("announced_state", values["announced_state"]))
    return UnreadableRow(INSTANCES.name, values, str(error))


def _is_time(value: Any) -> bool:
    try:
        _time(value)
    except BAD_VALUE:
        return False
    return True


def insert_rows(connection: Connection, instances: Iterable[ModelInstance]) -> None:
    """Inserts new rows. Fails, and with it the transaction, when another controller was first to insert one."""
    insert_all(connection, _COLUMNS, [_values(instance) for instance in instances])


def _values(instance: ModelInstance) -> tuple[Any, ...]:
    """The values of `_COLUMNS`."""
    drain = instance.drain
    facts = (*instance[1:_DRAIN_FIELD], *instance[_DRAIN_FIELD + 1 :])
    return (*instance.key, *facts, drain is not None, *(drain or DrainFacts()))


def _fact_values(instance: ModelInstance) -> dict[str, Any]:
    """The values of all columns but the identity, by name."""
    values = instance._asdict()
    del values["key"]
    drain = values.pop("drain")
    values["drained"] = drain is not None
    values.update(zip(_DRAIN, drain or DrainFacts(), strict=True))
    return values


def update_rows(connection: Connection, pairs: Iterable[tuple[ModelInstance, ModelInstance]]) -> None:
    """Stores the new facts, in each pair the second, of rows that the caller has locked.

    Rows that change in the same way share one statement: upserts take the database ten times as long.
    """
    alike: defaultdict[tuple[tuple[str, Any], ...], list[InstanceKey]] = defaultdict(list)
    for old, new in pairs:
        if new is not old:
            before = _fact_values(old)
            values = tuple((name, value) for name, value in _fact_values(new).items() if value != before[name])
            alike[values].append(new.key)
    for values, keys in alike.items():
        if values:
            connection.execute(update(INSTANCES).where(is_one_of(connection, keys)).values(dict(values)))


def delete_rows(connection: Connection, keys: Collection[InstanceKey]) -> None:
    """Deletes rows that the caller has locked."""
    connection.execute(delete(INSTANCES).where(is_one_of(connection, keys)))


def move_heartbeats_back(connection: Connection, now: datetime, step: timedelta) -> None:
    """Moves heartbeats that are ahead of `now` back by `step`, by which the clock was set back: their ages stay."""
    heartbeat = INSTANCES.c.last_heartbeat
    moved = DIALECTS[connection.dialect.name].moved_back(heartbeat, step)
    connection.execute(update(INSTANCES).where(heartbeat > now + FUTURE_TOLERANCE).values(last_heartbeat=moved))


def count_rows(connection: Connection) -> int:
    """How many rows there are, tombstones included."""
    return connection.execute(select(func.count()).select_from(INSTANCES)).scalar_one()


def _facts(row: Any) -> ModelInstance:
    model_name, host, port, *facts, drained, since, by, reason, until = row
    weight, check_healthy, prompt_template, registered_at, last_heartbeat, deregistered_at, refused_at = facts[:7]
    _check(model_name, host, port)
    if not -inf < weight < inf:
        raise ValueError(reason_of("weight", weight))
    if None in (check_healthy, registered_at, last_heartbeat, drained, *facts[7:]):
        raise ValueError("a column that must hold a value is NULL")
    return ModelInstance(
        InstanceKey(model_name, host, port),
        weight,
        check_healthy,
        prompt_template,
        registered_at,
        last_heartbeat,
        deregistered_at,
        refused_at,
        DrainFacts(since, by, reason, until) if drained else None,
        *facts[7:],
    )


def _check(model_name: str, host: str, port: int) -> None:
    """Raises ValueError or TypeError for an identity that no register can have."""
    if not _is_model_name(model_name):
        raise ValueError(f"{reason_of('model_name', model_name)}, not NAME@TYPE in printable characters")
    if not host:
        raise ValueError(reason_of("host", host))
    if not 0 < port <= MAX_PORT:
        raise ValueError(reason_of("port", port))


def _is_model_name(value: Any) -> bool:
    """Whether a list takes the name: one without an `@` breaks the list of every DB-GPT API server, and a control
    character reaches terminals and metrics.
    """
    if not isinstance(value, str) or not value.isprintable():
        return False
    name, _, kind = value.partition("@")
    return bool(name and kind) and "@" not in kind


def _facts_in(array: str, names: dict[str, str]) -> ModelInstance:
    """`names` are the model names of this list that were checked: many instances share a model's name, and the object
    that holds it.
    """
    model_name, host, port, weight, check_healthy, prompt_template, *facts = orjson.loads(array)
    registered_at, last_heartbeat, deregistered_at, refused_at, announced_state, flaps, removed, *drain = facts
    drained, since, by, reason, until = drain
    if model_name not in names:
        _check(model_name, host, port)
        names[model_name] = model_name
    if not (host and 0 < port <= MAX_PORT and flaps >= 0):
        _check(model_name, host, port)
        raise ValueError(reason_of("flaps", flaps))
    return ModelInstance(
        InstanceKey(names[model_name], host, port),
        float(weight),
        BOOLS[check_healthy],
        prompt_template,
        datetime.fromisoformat(f"{registered_at}+00:00"),
        datetime.fromisoformat(f"{last_heartbeat}+00:00"),
        _time(deregistered_at),
        _time(refused_at),
        DrainFacts(_time(since), by, reason, _time(until)) if BOOLS[drained] else None,
        _STATES[announced_state],
        flaps,
        BOOLS[removed],
    )


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(f"{text}+00:00") if text else None

"""A trace continues through a controller to the one behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.registry.remote import RemoteModelRegistry
from tests.support.server import running_controller
from tests.tracing.keeping import Keeps
from tests.tracing.test_endpoints import CALLER, INSTANCE, MODELS, SAMPLED, TRACE, call

if TYPE_CHECKING:
    from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry

KEEPS = "tests.tracing.keeping:Keeps"


def test_both_controllers_are_in_the_callers_trace(registry: EmbeddedModelRegistry) -> None:
    with (
        running_controller(registry, tracer_storage_cls=KEEPS) as behind,
        running_controller(RemoteModelRegistry(behind), tracer_storage_cls=KEEPS) as front,
    ):
        call(front, ("POST", MODELS, {"json": INSTANCE, "headers": SAMPLED}))
        spans = Keeps.wait_for(4)
    assert {span.context.trace_id for span in spans} == {TRACE}
    children = {span.parent_span_id: span for span in spans}
    at_front = children[CALLER]
    asked_at_front = children[at_front.context.span_id]
    behind_it = children[asked_at_front.context.span_id]
    assert [span.is_server for span in (at_front, asked_at_front, behind_it)] == [True, False, True]
    assert children[behind_it.context.span_id].operation_name == asked_at_front.operation_name

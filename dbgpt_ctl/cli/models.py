"""`ctl models`: list, register, deregister and heartbeat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dbgpt_ctl.cli import beating, listing
from dbgpt_ctl.cli.connect import Address, EnvFile, RequestTimeout, connect
from dbgpt_ctl.cli.duration import parse_duration
from dbgpt_ctl.cli.funnel import Command, Group
from dbgpt_ctl.cli.output import Format
from dbgpt_ctl.cli.references import parse_targets
from dbgpt_ctl.cli.results import Outcome, ResultFormat, for_each
from dbgpt_ctl.errors import ControllerRefused, NotFound
from dbgpt_ctl.instance import InstanceKey, Registration, parse_prompt_template, parse_weight

app = typer.Typer(cls=Group, help="See and change which model instances are registered.", no_args_is_help=True)

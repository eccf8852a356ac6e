"""The `ctl` command. A command checks its arguments, makes a client, calls it and passes the answer to `output`."""

from __future__ import annotations

from typing import Annotated

import typer

from dbgpt_ctl.cli.framework.lazy import application

__all__ = ["app"]


def _show_version(ctx: typer.Context, given: bool) -> None:  # noqa: FBT001 - Typer calls it
    if given:
        ctx.command.main(["version"])


def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of `ctl` itself."""


MODELS = application(
    "List and change the registered model instances.",
    {
        "list": "commands.models.list:list_",
        "get": "commands.models.get:get",
        "register": "commands.models.register:register",
        "deregister": "commands.models.deregister:deregister",
        "ping": "commands.models.ping:ping",
        "heartbeat": "commands.models.heartbeat:heartbeat",
        "drain": "commands.models.drain:drain",
        "undrain": "commands.models.undrain:undrain",
        "prune": "commands.models.prune:prune",
    },
    "ctl models list",
    "ctl models --context prod list --state unhealthy",
    callback=lambda: None,
)
CONTEXT = application(
    "Name clusters and choose one. They are in ~/.config/dbgpt-ctl/config.toml.",
    {
        "list": "commands.context:list_",
        "use": "commands.context:use",
        "set": "commands.context:set_",
        "delete": "commands.context:delete",
        "show": "commands.context:show",
    },
    "ctl context set prod -a http://ctl-1:8000,http://ctl-2:8000",
    "ctl context use prod",
)
DB = application(
    "Check or upgrade the database of a registry.",
    {
        "check": "commands.db.check:check",
        "upgrade": "commands.db.upgrade:upgrade",
    },
    "ctl db check --registry-db-host db1 --registry-db-user ctl",
)
TOKEN = application(
    "Make, list and end tokens. They are in a local file that controllers read.",
    {
        "create": "commands.token.create:create",
        "list": "commands.token.list:list_",
        "rotate": "commands.token.rotate:rotate",
        "revoke": "commands.token.revoke:revoke",
    },
    "ctl token create gpu-east --role worker --hosts 10.1.0.0/16",
    "ctl token list",
)
AUTH = application(
    "Set whether controllers check tokens, and see who lacks one.",
    {
        "mode": "commands.auth.mode:mode",
        "status": "commands.auth.status:status",
    },
    "ctl auth mode log",
    "ctl auth status",
)
app = application(
    "The model controller of a DB-GPT cluster, and the tool to operate it.",
    {
        "serve": "commands.serve:serve",
        "export": "commands.export:export",
        "apply": "commands.apply:apply",
        "diff": "commands.diff:diff",
        "status": "commands.status:status",
        "console": "commands.console:console",
        "events": "commands.events:events",
        "health": "commands.health:health",
        "wait": "commands.wait:wait",
        "assert": "commands.assert_:assert_",
        "why": "commands.why:why",
        "doctor": "commands.doctor:doctor",
        "completion": "commands.completion:completion",
        "help": "commands.help:help_",
        "version": "commands.version:version",
        "models": MODELS,
        "context": CONTEXT,
        "token": TOKEN,
        "auth": AUTH,
        "db": DB,
    },
    "ctl serve",
    "ctl status",
    "ctl -a http://ctl-1:8000 -a http://ctl-2:8000 models list",
    "ctl help models drain",
    callback=_root,
    name="ctl",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

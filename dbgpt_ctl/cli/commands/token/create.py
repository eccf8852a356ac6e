"""`ctl token create`: a new token, whose hash goes into the file."""

from __future__ import annotations

from typing import Annotated

import typer

from dbgpt_ctl.auth.tokens import Role
from dbgpt_ctl.cli.commands.token import SecretOutput, TokensPath, expiry, path_of, patterns, print_secret
from dbgpt_ctl.cli.completion import candidates
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import argument, choice
from dbgpt_ctl.cli.framework.session import Session, takes_session
from dbgpt_ctl.cli.output.stdout import OutputFormat

_LIMITS = "--models and --hosts limit it"


@explained(
    "ctl token create gpu-east --role worker --hosts 10.1.0.0/16",
    "ctl token create qwen --role worker --models 'qwen*@llm' --max-instances 40",
    "ctl token create api-servers --role reader --expires 90d",
    "ctl token create alice --role operator -o json",
)
@takes_session
def create(
    name: Annotated[str, argument("NAME", candidates.nothing, "The name of the new token; events show it.")],
    *,
    role: Annotated[Role, typer.Option("--role", help="What it may do.", **choice(Role, Role))],
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--models",
            metavar="GLOB",
            autocompletion=candidates.models,
            help="Only models whose NAME@TYPE matches; * is any text, ? any character. Repeat it or use commas.",
        ),
    ] = None,
    hosts: Annotated[
        list[str] | None,
        typer.Option(
            "--hosts",
            metavar="CIDR|GLOB",
            autocompletion=candidates.hosts,
            help="Only instances on these hosts: 10.1.0.0/16 for addresses, *.gpu.internal for names. Repeat it or use "
            "commas.",
        ),
    ] = None,
    max_instances: Annotated[
        int | None, typer.Option("--max-instances", metavar="N", min=1, help="Most instances that it may register.")
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="TIME", help="How long it is valid, as in 90d.  [default: it never expires]"),
    ] = None,
    tokens_file: TokensPath = None,
    output: SecretOutput = OutputFormat.TEXT,
    session: Session,
) -> None:
    """Make a token and print it, once.

    The token is the one line on stdout. The file gets its hash, and is created if it is missing. No controller is
    asked: each one that reads the file accepts the token within a second or so. A name whose token is revoked may be
    used again.

    A reader lists, watches and reads events: an API server. A worker also registers instances. An operator also
    drains, prunes and applies. metrics reads /metrics and nothing else: Prometheus.
    """
    import secrets

    from dbgpt_ctl.auth import tokens
    from dbgpt_ctl.auth.editing import create_token

    secret = tokens.new_token(secrets.token_bytes)
    token = tokens.Token(
        name=name,
        role=role,
        sha256=(tokens.sha256_of(secret),),
        models=patterns(models),
        hosts=patterns(hosts),
        max_instances=max_instances,
        expires=expiry(expires, session.clock),
    )
    path = path_of(tokens_file, session.env_file)
    edit = create_token(path, token)
    print_secret(session, name, edit, secret, path=path, output=output)
    if role is Role.WORKER:
        if not models and not hosts:
            session.say(f"warning: {name} may register any model on any host: {_LIMITS}")
        session.say("DB-GPT writes this address into its log: use the token for nothing else, and rotate it")
    if edit.before.mode is None and not edit.before.tokens:
        session.say(f"start the controllers with --tokens-file {path}; then ctl auth mode log begins the rollout")

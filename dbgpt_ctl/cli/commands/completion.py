"""`ctl completion`."""

from __future__ import annotations

from typing import Annotated

import typer

from dbgpt_ctl.cli.completion.scripts import SCRIPTS
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import choice
from dbgpt_ctl.cli.output.stdout import print_lines

Shell = Annotated[str, typer.Argument(help="The shell.", **choice(SCRIPTS))]


@explained(
    "ctl completion bash",
    "source <(ctl completion bash)",
)
def completion(shell: Shell) -> None:
    """Print the script for completion with TAB in bash, zsh or fish.

    It completes commands, options and their values. Names of models and instances come from the controller; when it
    does not answer within 0.3 s, none are offered.

    \b
    To have it in every shell, run once:
      bash   ctl completion bash > ~/.local/share/bash-completion/completions/ctl
             (without the package bash-completion, add this to ~/.bashrc:
             source <(ctl completion bash))
      zsh    ctl completion zsh > ~/.zfunc/_ctl
             (and add this to ~/.zshrc:
             fpath+=~/.zfunc; autoload -Uz compinit; compinit)
      fish   ctl completion fish > ~/.config/fish/completions/ctl.fish
    """
    print_lines(SCRIPTS[shell].splitlines())

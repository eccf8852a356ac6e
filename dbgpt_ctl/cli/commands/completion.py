"""`ctl completion`: prints the script that makes TAB work in a shell."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from dbgpt_ctl.cli.output.stdout import print_lines


class Shell(StrEnum):
    """The shells that there are scripts for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


def completion(shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh, fish or powershell.")]) -> None:
    """Print the script that completes ctl at TAB, in bash, zsh, fish or PowerShell.

    It completes commands, options and their values, and asks the controller for the models and instances that there
    are: at most 0.3 s, and without a word when it does not answer.

    \b
    To have it in every shell, run once:
      bash   ctl completion bash > ~/.local/share/bash-completion/completions/ctl
             (without the package bash-completion, put into ~/.bashrc:
             source <(ctl completion bash))
      zsh    ctl completion zsh > ~/.zfunc/_ctl
             (and in ~/.zshrc: fpath+=~/.zfunc; autoload -Uz compinit; compinit)
      fish   ctl completion fish > ~/.config/fish/completions/ctl.fish
      PowerShell, in $PROFILE:
             ctl completion powershell | Out-String | Invoke-Expression
    """
    from dbgpt_ctl.cli.completion.scripts import SCRIPTS

    print_lines(SCRIPTS[shell].splitlines())

"""Which registered hosts mean the machine of the caller."""

from __future__ import annotations

from dbgpt_ctl.domain.hosts import is_loopback, is_this_machine


def means_caller(host: str, controller_host: str) -> bool:
    """Whether a call to a registered host would reach the machine of the caller, while the worker is on another one.

    A loopback address is that of the machine on which the controller is, or on which the worker is. Unless the
    controller is called by one too, that is not the machine of the caller.
    """
    return is_this_machine(host) and not is_loopback(controller_host)

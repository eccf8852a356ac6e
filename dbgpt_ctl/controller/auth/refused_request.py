"""One request that enforce mode refuses, as it is counted and shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dbgpt_ctl.controller.http.request import header_map
from dbgpt_ctl.controller.http.source import source_of
from dbgpt_ctl.settings.masking import mask_tokens

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from dbgpt_ctl.auth.reasons import Reason
    from dbgpt_ctl.domain.instance import InstanceKey

MAX_SHOWN_CHARS = 100
MAX_KEPT = 300
"""Of each text, in bytes or characters. It is more than what is shown, so that a token is not cut before it is seen."""


class RefusedRequest(NamedTuple):
    """What is counted together. All texts are as they were sent.

    `label`: the user name of Basic; None without one, and where it is or may be the token itself. `token`: the name of
    a known token. `action`: method and path. `instance`: the one that the request names, where it was read so far.
    """

    reason: Reason
    source: str | None
    user_agent: bytes
    label: str | None
    token: str | None
    action: str
    instance: InstanceKey | None = None

    @classmethod
    def of(
        cls,
        reason: Reason,
        scope: MutableMapping[str, Any],
        *,
        label: str | None = None,
        token: str | None = None,
        instance: InstanceKey | None = None,
    ) -> RefusedRequest:
        """What is counted of the request with this scope; texts are cut to MAX_KEPT."""
        path = scope["path"]
        return cls(
            reason,
            source_of(scope),
            header_map(scope).get(b"user-agent", b"")[:MAX_KEPT],
            None if label is None else label[:MAX_KEPT],
            token,
            f"{scope['method']} {path[1:] if path.startswith('//') else path}"[:MAX_KEPT],
            instance,
        )

    @property
    def shown_user_agent(self) -> str:
        """In escaped ASCII, masked and cut."""
        return shown(self.user_agent.decode("latin-1"))

    @property
    def shown_label(self) -> str | None:
        """In escaped ASCII, masked and cut."""
        return None if self.label is None else shown(self.label)

    @property
    def shown_action(self) -> str:
        """In escaped ASCII, masked and cut."""
        return shown(self.action)


def shown(text: str) -> str:
    r"""A stranger's text: without what may be a token, on one line of ASCII with escapes as `\x1b`, and cut."""
    return mask_tokens(text).encode("unicode_escape").decode("ascii")[:MAX_SHOWN_CHARS]

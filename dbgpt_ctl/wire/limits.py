"""The bounds of what a request may say."""

from dbgpt_ctl.domain.fields import MAX_DRAIN_DAYS

MAX_AGE_SECS = 100 * 365.25 * 86_400
"""More than the age of any instance; a longer time would reach back beyond the year 1."""
MAX_DRAIN_SECS = MAX_DRAIN_DAYS * 86_400
MAX_EVENT_ID = 2**63 - 1
MAX_LIMIT = 10_000
DEFAULT_LIMIT = 1000
MAX_TOKEN_CHARS = 256
"""Of what is sent to sign in."""

"""What commands print with `-o json`, as types.

mypy checks the commands by them, and docs/schemas is made of them (`scripts/schemas.py`). No command imports them while
it runs, so they cost nothing there.
"""

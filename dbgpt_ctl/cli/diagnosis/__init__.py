"""One diagnosis for `why`, `doctor`, `status`, the warnings of lists and `db check`.

The rules of `ctl db check` stand in cli/commands/db/check.py: their facts are those of a database.
"""

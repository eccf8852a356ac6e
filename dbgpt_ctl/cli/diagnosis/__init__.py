"""One diagnosis for `why`, `doctor`, `status`, the warnings of lists and `db check`.

facts      the data: what was observed, what a rule concludes from it, and what a rule is
collect    calls the controllers and looks at this machine
probe      probes the addresses of workers
rules      all rules over the facts of a cluster, in order of likelihood; each is a pure function
report     prints findings

The rules of `ctl db check` stand in cli/commands/db/check.py: their facts are those of a database.
"""

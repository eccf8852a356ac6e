"""Why a model gets no requests: `gather` facts, let the rules find causes in them, `report` these.

facts      what was gathered: frozen, no I/O
findings   what a rule finds, and what a rule is
rules      all rules, in order of likelihood; each a pure function of the facts
gather     asks the controllers and looks at this machine
probe      knocks at the addresses of workers
report     prints
"""

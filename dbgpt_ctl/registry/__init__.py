"""Where instances are kept: one contract, and its back-ends in memory, in a database and behind another controller."""

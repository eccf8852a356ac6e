"""`ctl auth`: the check of every request."""

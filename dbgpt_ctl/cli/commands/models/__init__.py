"""The verbs of `ctl models`."""

"""Files of instances for `ctl apply` and `ctl diff`: reading, checking, and the plan of changes."""

"""Files of instances for `ctl apply` and `ctl diff`: read, checked, compared with the registry, and applied."""

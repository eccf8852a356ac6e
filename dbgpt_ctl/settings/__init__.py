"""Every setting of `ctl`: its declaration, where its value comes from, and how it is shown."""

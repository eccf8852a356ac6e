"""Completion with TAB: the scripts of the shells, the protocol between script and `ctl`, and the candidates."""

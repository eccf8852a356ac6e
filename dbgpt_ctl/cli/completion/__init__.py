"""Completion at TAB: the scripts of the shells, what they ask, and the candidates."""

"""Follows changes until Ctrl-C, and shows them as lines or as a live table."""

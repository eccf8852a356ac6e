"""Prints data on standard output and messages on standard error."""

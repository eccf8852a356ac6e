"""The model controller of a DB-GPT cluster, and the command line tool to operate it."""

__version__ = "0.1.0"

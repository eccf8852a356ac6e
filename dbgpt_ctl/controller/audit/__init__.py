"""The audit log: who asked for which change, and how it ended."""

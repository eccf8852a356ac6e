"""The check of every request: who calls, whether the caller may, and what is counted of those who may not."""

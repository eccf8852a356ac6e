"""The registry in a database. Several controllers may share one database."""

"""The registry in SQLite, MySQL or MariaDB. Several controllers may share one database."""

"""The SQL statements, one module per table."""

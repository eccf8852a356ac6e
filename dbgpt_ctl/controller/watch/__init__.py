"""The watch of changes: one reader of the registry's events (`feed`), and one `subscriber` for each connection."""

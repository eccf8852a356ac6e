"""The watch of changes: one reader of the events, its subscribers, and server-sent events."""

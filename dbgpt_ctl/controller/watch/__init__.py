"""The watch of changes as server-sent events.

feed        the one reader of the registry's events
ring        the newest messages, shared by all subscribers
subscriber  one watch: a position in the ring
sse         the messages, and the response that sends them
"""

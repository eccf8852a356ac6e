"""The controller: DB-GPT's HTTP API in front of any `ModelRegistry`.

main       open a registry from settings, serve it, mount it in another application
app        create_app: a FastAPI application around a `Controller`
wire       DB-GPT's five endpoints
api        what is beyond them, under /api/v1; `asked` parses, `objects` makes the JSON
feed       one reader of the registry's events for all who watch; `watcher` is one of these, `watch` the answer to it
traced     spans around the endpoints
problems   the one place where an error becomes an answer
core       Controller: the registry of the moment, and what runs beside the endpoints
journal    one log line per change of state
"""

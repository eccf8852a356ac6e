"""The controller: DB-GPT's HTTP API in front of any `ModelRegistry`.

main       open a registry from settings, serve it, mount it in another application
app        create_app: a FastAPI application around a `Controller`
wire       DB-GPT's five endpoints
traced     spans around the endpoints
problems   the one place where an error becomes an answer
core       Controller: the registry of the moment, and what runs beside the endpoints
journal    one log line per change of state
"""

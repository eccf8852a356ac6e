"""The controller: DB-GPT's HTTP API in front of any `ModelRegistry`.

bootstrap        settings -> log, registry, application, server; `initialize_controller` for a foreign application
app              the FastAPI application around a `Controller`
controller       `Controller`: the current registry, and the tasks beside the endpoints
state_log        one log line per change of state
request_tracing  spans around the endpoints
api              the endpoints
watch            the watch of changes
http             the server
"""

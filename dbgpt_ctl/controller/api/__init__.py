"""The endpoints.

routes       what a route is; one declaration makes the route of FastAPI and its operation in the OpenAPI document
dbgpt        DB-GPT's five endpoints
v1           the endpoints beyond them, under /api/v1
params       parsing of requests
serializers  JSON of answers
problems     errors as problem details
openapi      the OpenAPI document, made of the models in `schemas`
"""

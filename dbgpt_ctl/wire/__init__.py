"""What is sent over HTTP, as structs: the one description of each object of the API.

The server makes its answers of them, the client reads answers into them, and OpenAPI, docs/api.md and the types of the
console page are derived from them. They are msgspec's, which a program that only lists instances does not import.
"""

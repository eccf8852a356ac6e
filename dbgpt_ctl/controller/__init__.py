"""The controller: DB-GPT's HTTP API in front of any `ModelRegistry`."""

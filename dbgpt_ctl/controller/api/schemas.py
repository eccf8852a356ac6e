"""JSON Schemas of what the endpoints take and give, with a description and an example for each field."""

from __future__ import annotations

from typing import Any

from dbgpt_ctl.domain.fields import MAX_PORT, MAX_TEXT_CHARS

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT_CHARS}
IDENTITY: dict[str, Schema] = {
    "model_name": TEXT
    | {
        "pattern": r"^[^@]*[^@\s][^@]*@[^@]*[^@\s][^@]*$",
        "description": "`NAME@TYPE` with exactly one `@`; TYPE is llm, text2vec, reranker, service or any other. "
        "Spaces around it are stripped, case and accents count.",
        "examples": ["qwen3@llm"],
    },
    "host": TEXT
    | {
        "description": "Host name or address at which the worker is called, without scheme, path or spaces.",
        "examples": ["10.0.0.4"],
    },
    "port": {
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_PORT,
        "description": "Port at which the worker is called. A number as text is taken too.",
        "examples": [8001],
    },
}
SENT: dict[str, Schema] = IDENTITY | {
    "weight": {
        "type": ["number", "null"],
        "default": 1.0,
        "description": "A finite number; null means 1.0. DB-GPT's API servers do not look at it.",
        "examples": [1.0],
    },
    "check_healthy": {
        "type": ["boolean", "null"],
        "default": True,
        "description": "Whether it is unhealthy when its last heartbeat is too old; null means true.",
        "examples": [True],
    },
    "enabled": {
        "type": ["boolean", "null"],
        "default": True,
        "description": "False: drained, in no list of healthy ones. Counts when the instance is new; null means true.",
        "examples": [True],
    },
    "prompt_template": {
        "type": ["string", "null"],
        "maxLength": MAX_TEXT_CHARS,
        "default": None,
        "description": "Name of a prompt template; null and empty mean none.",
        "examples": [None, "vicuna_v1.1"],
    },
}
REGISTRATION: Schema = {
    "title": "Registration",
    "description": "What a worker says of itself. The other keys that DB-GPT's workers send are ignored.",
    "type": "object",
    "required": list(IDENTITY),
    "properties": SENT,
    "examples": [{"model_name": "qwen3@llm", "host": "10.0.0.4", "port": 8001, "weight": 1.0}],
}
INSTANCE: Schema = {
    "title": "Instance",
    "description": "Exactly these nine keys: one more would crash DB-GPT's clients.",
    "type": "object",
    "properties": SENT
    | {
        "weight": {"type": "number", "description": "As registered.", "examples": [1.0]},
        "check_healthy": {
            "type": "boolean",
            "description": "Whether it is unhealthy when its last heartbeat is too old.",
            "examples": [True],
        },
        "enabled": {"type": "boolean", "description": "False: drained by an operator.", "examples": [True]},
        "healthy": {
            "type": "boolean",
            "description": "Whether its last heartbeat is fresh and it is not deregistered.",
            "examples": [True],
        },
        "last_heartbeat": {
            "type": "string",
            "format": "date-time",
            "description": "When it last registered or beat, in UTC.",
            "examples": ["2026-01-02T03:04:05.678901+00:00"],
        },
    },
    "additionalProperties": False,
}
INSTANCE["required"] = list(INSTANCE["properties"])
HEALTH: Schema = {
    "title": "Health",
    "type": "object",
    "required": ["status"],
    "properties": {
        "status": {"const": "ok", "description": "Lists can be answered.", "examples": ["ok"]},
        "reason": {
            "type": "string",
            "description": "What is not as it should be: the database is away, or states are held.",
            "examples": ["database db1:3306/dbgpt: Connection refused; lists are as of 2026-01-02T03:04:05+00:00"],
        },
    },
    "additionalProperties": False,
}
PROBLEM: Schema = {
    "title": "Problem",
    "description": "Problem details (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {
            "const": "about:blank",
            "description": "Always this; `code` tells the kind.",
            "examples": ["about:blank"],
        },
        "title": {"type": "string", "description": "The kind, for people.", "examples": ["Invalid instance"]},
        "status": {"type": "integer", "description": "The HTTP status.", "examples": [422]},
        "detail": {
            "type": "string",
            "description": "One line: what is wrong, with what value, and what to do.",
            "examples": ["port is missing"],
        },
        "code": {"type": "string", "description": "The kind, for programs; stable.", "examples": ["invalid_instance"]},
        "field": {"type": "string", "description": "The field or parameter that is wrong.", "examples": ["port"]},
        "instance_key": {
            "type": "object",
            "description": "The identity that is not known.",
            "properties": IDENTITY,
            "examples": [{"model_name": "qwen3@llm", "host": "10.0.0.4", "port": 8001}],
        },
    },
}

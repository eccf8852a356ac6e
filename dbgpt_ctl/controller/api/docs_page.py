"""/docs: the OpenAPI document as one page of HTML, for an operator who has a browser and no internet.

FastAPI's own /docs and /redoc load scripts from a CDN: they are blank in a closed network, and elsewhere foreign code
runs with the controller's origin and may change everything. Packages that serve Swagger UI's scripts from here
(fastapi-offline, swagger-ui-bundle) add megabytes of JavaScript that has to be kept current. This page has no script.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any

import orjson
from fastapi.responses import HTMLResponse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI, Request

PATHS = ("/docs", "/redoc")
"""Both show the same page; the second is where FastAPI has another one."""
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "code,pre{font:13px/1.4 ui-monospace,monospace}pre{background:#f4f4f4;padding:.6rem;overflow-x:auto}"
    "summary{cursor:pointer;padding:.3rem 0}summary b{display:inline-block;min-width:4.5rem}"
    "details{border-bottom:1px solid #ddd}details>*:not(summary){margin-left:1.2rem}"
    "table{border-collapse:collapse}td,th{text-align:left;vertical-align:top;padding:.15rem 1rem .15rem 0}"
)
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
JSON, PROBLEM = "application/json", "application/problem+json"


def add_docs_page(app: FastAPI) -> None:
    """Serves the page at PATHS. It is made at the first request, when all routes are there."""
    page = cache(lambda: render(app.openapi()))

    async def docs(request: Request) -> HTMLResponse:  # noqa: ARG001 - the signature of an endpoint
        return HTMLResponse(page(), headers=HEADERS)

    for path in PATHS:
        app.add_route(path, docs, include_in_schema=False)


def render(document: dict[str, Any]) -> str:
    """The page of an OpenAPI document."""
    info = document["info"]
    title = f"{escape(info['title'])} {escape(info['version'])}"
    operations = "".join(
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body><h1>{title}</h1>'
        f"<p>{escape(info.get('description', ''))} For programs: <a href='openapi.json'>openapi.json</a>.</p>"
        f"{_schemes(document.get('components', {}).get('securitySchemes', {}))}{operations}</body></html>"
    )


def _schemes(schemes: dict[str, Any]) -> str:
    """How a token is sent."""
    lines = "".join(
        f"<li><b>{escape(name)}</b>: {_text(scheme['description'])}</li>" for name, scheme in schemes.items()
    )
    return f"<p>Where authentication is on, a request needs a token:</p><ul>{lines}</ul>" if lines else ""


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parts = [f"<p>{_text(operation.get('description', ''))}{_role(operation.get('security'))}</p>"]
    if parameters := operation.get("parameters"):
        rows = [(each["name"], each["required"], each["schema"], each["description"]) for each in parameters]
        parts.append(f"<h4>Parameters</h4>{_table(rows)}")
    if body := operation.get("requestBody"):
        schema = body["content"][JSON]["schema"]
        required = schema.get("required", ())
        rows = [
            (name, name in required, field, field.get("description", ""))
            for name, field in schema["properties"].items()
        ]
        parts.append(f"<h4>Body</h4>{_table(rows)}{_example(schema['examples'][0])}")
    parts.append(f"<h4>Answers</h4>{''.join(_answers(operation['responses']))}")
    summary = f"<b>{method.upper()}</b> <code>{escape(path)}</code>"
    return f"<details><summary>{summary}</summary>{''.join(parts)}</details>"


def _role(security: list[dict[str, list[str]]] | None) -> str:
    """The least role that an operation needs, which is the same in each scheme."""
    if security is None:
        return ""
    roles = {role for scheme in security for of_scheme in scheme.values() for role in of_scheme}
    needs = " or ".join(f"<code>{escape(role)}</code>" for role in sorted(roles))
    return f" Role: {needs or 'none, everyone may call it'}."


def _table(rows: list[tuple[str, bool, dict[str, Any], str]]) -> str:
    lines = [
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_type(schema))}</td>"
        f"<td>{'required' if required else 'optional'}</td><td>{_text(text)}</td></tr>"
        for name, required, schema, text in rows
    ]
    return f"<table>{''.join(lines)}</table>"


def _type(schema: dict[str, Any]) -> str:
    """The types of a value, or the values where they are listed."""
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    return str(schema.get("type", "any"))


def _answers(responses: dict[str, Any]) -> Iterator[str]:
    for status, response in responses.items():
        yield f"<p><b>{escape(status)}</b> {_text(response['description'])}</p>"
        for media_type, content in response.get("content", {}).items():
            if media_type != PROBLEM and "example" in content:
                yield _example(content["example"])


def _text(text: str) -> str:
    """Prose, in which backquotes mark code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _example(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    return f"<pre>{escape(text)}</pre>"

"""The page of the API loads nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.controller.api.docs_page import PATHS, render

if TYPE_CHECKING:
    import httpx


@pytest.mark.parametrize("path", PATHS)
def test_the_page_is_whole_without_any_other_request(http: httpx.Client, path: str) -> None:
    page = http.get(path)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    tags = re.findall("<[^>]*>", page.text)
    assert not [tag for tag in tags if re.search(r"//|^<(script|link|img|iframe|form|object)|\bon\w+=", tag)]
    assert not re.search(r"@import|url\(", page.text)
    assert re.findall(r"\b(?:src|href)=\S+?>", page.text) == ["href='openapi.json'>"]
    (style,) = re.findall("<style>(.*?)</style>", page.text)
    policy = page.headers["content-security-policy"]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert http.head(path).headers["content-length"] == str(len(page.content))


def test_every_operation_is_on_the_page(http: httpx.Client) -> None:
    page, document = http.get("/docs").text, http.get("/openapi.json").json()
    shown = re.findall(r"<summary><b>(\w+)</b> <code>(.*?)</code></summary>", page)
    assert shown == [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]


def test_what_the_document_holds_is_no_markup() -> None:
    operation = {"description": "<script>`a<b`", "responses": {"200": {"description": "<img>"}}}
    page = render({"info": {"title": "<b>", "version": "1"}, "paths": {"/<i>": {"get": operation}}})
    assert "&lt;script&gt;<code>a&lt;b</code>" in page
    assert not re.search("<script|<img|<i>|<h1><b>", page)

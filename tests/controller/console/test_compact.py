from __future__ import annotations

import re

import pytest

from dbgpt_ctl.controller.console import assets
from dbgpt_ctl.controller.console.compact import compact_module, compact_styles

MODULES = [name for name in assets.names() if name.endswith(".js")]
COMMENT = re.compile(r"^\s*/\*.*?\*/$|/\*\* @.*?\*/|(?:^|(?<=[;{] )|(?<=, ))//[^\n]*$", re.DOTALL | re.MULTILINE)


def without_spaces(text: str) -> str:
    return re.sub(r"\s", "", text)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_sent_whole_but_for_comments_and_spaces(name: str) -> None:
    source = (assets.FOLDER / name).read_text(encoding="utf-8")
    sent = bytes(assets.answer(name, {}).body).decode()
    assert without_spaces(sent) == without_spaces(COMMENT.sub("", source))
    assert "/**" not in sent
    assert not re.search(r"^ | $", sent, re.MULTILINE)


@pytest.mark.parametrize(
    ("source", "sent"),
    [
        ("const a = 1;\n", "const a=1;"),
        ("return typeof x in y", "return typeof x in y"),
        ("a + +b - -c + d", "a+ +b- -c+d"),
        ('f("a , b", "//", "/* c */")', 'f("a , b","//","/* c */")'),
        ('f("\\" , ", a )', 'f("\\" , ",a)'),
        ("`a , b`", "`a , b`"),
        ("`a , ${ b , c } , d`", "`a , ${b,c} , d`"),
        ("`a ${ { b : `c , ${ d } , e` } } , f` + g", "`a ${{b:`c , ${d} , e`}} , f`+g"),
        ("`\\` , \\${ a } $ b`", "`\\` , \\${ a } $ b`"),
        ("const a = /[/ ,] , \\/ /gu ;", "const a=/[/ ,] , \\/ /gu;"),
        ("f(/a , b/)", "f(/a , b/)"),
        ("a / b / c", "a/b/c"),
        ("(a) / b / c", "(a)/b/c"),
        ("a[0] / b / c", "a[0]/b/c"),
        ("/** @type {A} */ (b).c", "(b).c"),
        ("a(); // why\nb()", "a();\nb()"),
        ("/**\n * A.\n */\nexport class A {\n  #b = 1;\n\n  c() {}\n}", "export class A{#b=1;\nc(){}}"),
    ],
)
def test_spaces_that_mean_something_stay(source: str, sent: str) -> None:
    assert compact_module(source) == sent


def test_styles_lose_comments_and_spaces_after_signs() -> None:
    source = "/* A. */\n.a > :is(b, c) :hover {\n  margin: 0 1px; /* B. */\n  width: calc(1px + 2px);\n}\n"
    assert compact_styles(source).strip() == ".a > :is(b,c) :hover{margin:0 1px;width:calc(1px + 2px);}"

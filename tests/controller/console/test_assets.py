from __future__ import annotations

import gzip
import re
import subprocess
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.controller.console import assets

if TYPE_CHECKING:
    from pathlib import Path

NAMES = assets.names()
COMMENT = re.compile(r"^\s*/\*.*?\*/$|/\*\* @.*?\*/|(?:^|(?<=[;{] )|(?<=, ))//[^\n]*$", re.DOTALL | re.MULTILINE)
TEMPLATE = re.compile(r"`(?:[^`\\]|\\.)*`")


def test_the_page_and_its_parts_are_there() -> None:
    assert {"index.html", "main.js", "style.css", "icon.svg", "views/overview.js"} <= set(NAMES)


def test_each_file_of_the_folder_has_a_media_type_or_holds_types_alone() -> None:
    files = {path.relative_to(assets.FOLDER).as_posix() for path in assets.FOLDER.rglob("*") if path.is_file()}
    assert files - set(NAMES) == {"types.d.ts", "wire.d.ts"}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_sent_compressed_where_the_browser_can_read_it(name: str) -> None:
    plain = assets.answer(name, {})
    assert plain.status_code == HTTPStatus.OK
    assert "content-encoding" not in plain.headers
    compressed = assets.answer(name, {"accept-encoding": "br, gzip"})
    assert compressed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(bytes(compressed.body)) == plain.body
    assert len(compressed.body) < len(plain.body)


def without_spaces(text: str) -> str:
    return re.sub(r"\s", "", text)


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".js")])
def test_a_module_is_sent_whole_but_for_comments_and_spaces(name: str) -> None:
    sent = bytes(assets.answer(name, {}).body).decode()
    source = (assets.FOLDER / name).read_text(encoding="utf-8")
    assert without_spaces(sent) == without_spaces(COMMENT.sub("", source))
    assert "/**" not in sent


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".js")])
def test_no_template_is_in_another_one(name: str) -> None:
    """The minifier takes the second backquote for the end of the first template, and spaces in the rest would go."""
    source = COMMENT.sub("", (assets.FOLDER / name).read_text(encoding="utf-8"))
    sent = bytes(assets.answer(name, {}).body).decode()
    for template in TEMPLATE.findall(source):
        assert template.count("{") == template.count("}"), template
        assert template in sent


def test_every_answer_has_the_headers_that_keep_foreign_code_out() -> None:
    etag = assets.answer("main.js", {}).headers["etag"]
    for answer in (assets.answer("index.html", {}), assets.answer("main.js", {"if-none-match": etag})):
        assert "require-trusted-types-for 'script'" in answer.headers["content-security-policy"]
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_all_files_are_of_one_release_while_the_package_is_replaced(tmp_path: Path) -> None:
    script = "import sys, pathlib\nfrom dbgpt_ctl.controller.console import assets\n"
    script += "assets.FOLDER = pathlib.Path(sys.argv[1])\nnames = assets.names()\n"
    script += "[(assets.FOLDER / name).unlink() for name in names]\n(assets.FOLDER / 'later.js').touch()\n"
    script += "print(names, assets.names(), assets.answer('main.js', {}).body)"
    (tmp_path / "main.js").write_text("one()")
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "('main.js',) ('main.js',) b'one()'\n"


def test_a_browser_that_has_the_file_gets_no_body() -> None:
    etag = assets.answer("main.js", {}).headers["etag"]
    answer = assets.answer("main.js", {"if-none-match": f'W/"old", {etag}'})
    assert (answer.status_code, answer.body) == (HTTPStatus.NOT_MODIFIED, b"")
    assert answer.headers["etag"] == etag
    assert assets.answer("main.js", {"if-none-match": '"old"'}).status_code == HTTPStatus.OK

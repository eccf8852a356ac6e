"""The programs that check the files of deploy/, and the image that two suites run."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from tests.support.image import build_image
from tests.support.private_network import missing_rights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.image import Image

_PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
"""The programs of the virtual environment come first."""


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Gives the path of a program, such as `hadolint`. A missing one skips the test, and in CI it fails."""

    def find(name: str) -> str:
        found = shutil.which(name, path=_PATH)
        if found is None and os.environ.get("CI"):
            pytest.fail(f"{name} is missing: `make deploy` installs it")
        if found is None:
            pytest.skip(f"{name} is missing: `make deploy` says how to install it")
        return found

    return find


@pytest.fixture(scope="session")
def image(program: Callable[[str], str]) -> Iterator[Image]:
    """The image of deploy/container, for all tests: it takes a minute or two, and a gigabyte until their end."""
    problem = missing_rights()
    if problem and os.environ.get("CI"):
        pytest.fail(problem)
    if problem:
        pytest.skip(problem)
    with TemporaryDirectory() as folder:
        yield build_image(Path(folder), program)

"""Prints pip constraints that pin each dependency of the package to the lowest version that pyproject.toml allows.

Indirect dependencies are not pinned. tests/test_package.py installs with these constraints.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


def constraints(pyproject: str) -> list[str]:
    """A line `NAME==VERSION` per dependency in the text of a pyproject.toml. Of the extras it takes `postgresql`, whose
    driver is subclassed.

    Raises ValueError for a dependency without a lower bound.
    """
    project = tomllib.loads(pyproject)["project"]
    lines = [*project["dependencies"], *project.get("optional-dependencies", {}).get("postgresql", ())]
    return [_lowest(Requirement(line)) for line in lines]


def _lowest(requirement: Requirement) -> str:
    bounds = [each.version for each in requirement.specifier if each.operator in {">=", "==", "~="}]
    if len(bounds) != 1:
        raise ValueError(f"{requirement} needs exactly one lower bound")
    return f"{requirement.name}=={bounds[0]}"


if __name__ == "__main__":
    print("\n".join(constraints(PYPROJECT.read_text())))  # noqa: T201 - what it is for

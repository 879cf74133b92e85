"""Every dependency has its reason on record, and nothing on record is gone."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[3]


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~ ]", requirement)[0] for requirement in requirements}


def recorded(heading: str) -> set[str]:
    text = (ROOT / "docs/decisions/0002-dependencies.md").read_text()
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"(?m)^\| ([a-z][a-z0-9-]*) \|", section)) - {"package"}


def test_each_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert recorded("To run") == names(project["dependencies"])
    assert recorded("To develop") == names(project["optional-dependencies"]["dev"])
    assert recorded("To fuzz") == names(project["optional-dependencies"]["fuzz"])

"""The pinned versions can be installed on every Python that the project says it supports."""

import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
SUPPORTED = ("3.10.13", "3.11.7", "3.12.1", "3.13.0")
PINS = [
    match.groups(default="")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if (match := re.match(r"([\w.-]+)==([^\s;]+)\s*(?:;\s*(.*))?$", line))
]


def test_the_lowest_python_is_the_one_of_the_project():
    assert 'requires-python = ">=3.10"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert len(PINS) > 100


@pytest.mark.parametrize("python", SUPPORTED)
def test_a_pin_holds_only_where_its_package_can_be_installed(python):
    wrong = []
    for name, version, marker in PINS:
        applies = not marker or Marker(marker).evaluate({"python_version": python.rpartition(".")[0], "python_full_version": python})
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # one for another system or another Python
            continue
        needs = package.metadata.get("Requires-Python")
        if applies and package.version == version and needs and python not in SpecifierSet(needs):
            wrong.append(f"{name}=={version} needs Python {needs}")
    assert wrong == []

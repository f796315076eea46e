"""What the documentation names exists: source files, tests, pages, scripts and Make targets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("*/README.md")])
PACKAGES = [path.parent for path in ROOT.glob("*/clmer*/__init__.py")]
"""Folders of the packages."""


def pages() -> list[object]:
    """Return each page but the history, by its path."""
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES if page.name != "CHANGELOG.md"]


def source_exists(name: str) -> bool:
    """Tell whether a source file is there, named from the root, a package, or a folder of one."""
    places = [ROOT, ROOT / "docs", *(package.parent for package in PACKAGES), *PACKAGES]
    folders = [child for package in PACKAGES for child in package.rglob("*") if child.is_dir()]
    return any((place / name).is_file() for place in [*places, *folders])


@pytest.mark.parametrize("page", pages())
def test_every_source_file_that_a_page_names_exists(page: Path) -> None:
    """By any path in backticks or a link that ends with ``.py``; names that stand for others are in capitals."""
    text = page.read_text(encoding="utf-8")
    named = {name for name in re.findall(r"[`(]\.{0,2}/?((?:[\w.]+/)*\w+\.py)[`)]", text) if not name[:-3].isupper()}
    shown = set(re.findall(r"^cat > (\S+\.py)", text, re.MULTILINE)) | set(re.findall(r"save it as `(\S+\.py)`", text))
    assert {name for name in named - shown if not source_exists(name)} == set()


@pytest.mark.parametrize("page", pages())
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    """Links to pages, pictures and files; those to other sites and within a page are not followed."""
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", pages())
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    """Within backticks or code blocks."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:bash|sh|console)?\n(.*?)```", text, re.DOTALL)
    code = "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", text)])
    named = set(re.findall(r"^make ([a-z][a-z-]*)", code, re.MULTILINE))
    assert named <= targets


def test_the_walk_of_a_sample_names_every_package_of_the_path() -> None:
    """The architecture's page has the tree: each folder of the packages stands in it."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = page.split("## The tree")[1].split("\n## ")[0]
    folders = {path.parent.name for package in PACKAGES for path in package.glob("*/__init__.py")}
    assert {folder for folder in folders if f"{folder}/" not in tree} == set()

"""The documents: links lead somewhere, and the README stays short."""

import re
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT
from test_report import markdown_tables

PAGES = sorted(
    page.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "recipes/*/README.md", "fincompress/data/corpus/*.md")
    for page in ROOT.glob(pattern)
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives a page's headings."""
    titles = re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken(page: Path, text: str) -> list[str]:
    """The links of `text`, as if it stood in `page`, that lead to no file of the project or to no heading of it."""
    found = []
    for target in LINK.findall(text):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (ROOT / page).parent / path if path else ROOT / page
        known = linked.exists() and linked.resolve().is_relative_to(ROOT)
        if not known or (anchor and anchor not in anchors(linked.resolve().relative_to(ROOT))):
            found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_to_files_and_headings_that_exist(page):
    assert broken(page, prose(page)) == []


def test_a_broken_link_would_be_found():
    text = "[a](docs/none.md) [b](README.md#none) [c](docs/results.md#names-of-variants) [d](https://a.b) [e](/)"
    assert broken(Path("README.md"), text) == ["docs/none.md", "README.md#none", "/"]


def test_what_is_linked_is_in_git():
    if not (ROOT / ".git").exists():
        pytest.skip("not a Git checkout")
    links = {
        ((ROOT / page).parent / target.partition("#")[0]).resolve().relative_to(ROOT)
        for page in PAGES
        for target in LINK.findall(prose(page))
        if not re.match(r"\w+:|#", target)
    }
    ignored = subprocess.run(["git", "check-ignore", *map(str, links)], cwd=ROOT, capture_output=True, text=True).stdout
    assert ignored == ""


def test_the_readme_is_short_and_leads_to_every_page():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    (table,) = (table for table in markdown_tables(text) if table[0][0] == "variant")
    assert len(table[0]) <= 7 and len(table) - 1 <= 8
    linked = {target.partition("#")[0] for target in LINK.findall(text)}
    assert {str(page) for page in PAGES if page.parent == Path("docs")} <= linked

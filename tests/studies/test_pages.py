"""The commands that pages under docs/results print: each parses, and asks for what params.yaml has."""

import re
import shlex
import sys
from importlib import import_module

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

from fincompress.core.params import checked_params

PAGES = sorted((ROOT / "docs/results").glob("*.md"))
COMMAND = re.compile(r"(?:python -m|dvc|fincompress|make) [^`\n]*")


def commands(text: str) -> list[list[str]]:
    """The commands of a page, as words; one that goes on in the next line counts as one."""
    return [shlex.split(command, comments=True) for command in COMMAND.findall(text.replace("\\\n", ""))]


PRINTED = [(page, words) for page in PAGES for words in commands(page.read_text(encoding="utf-8"))]
STUDIES = [(page, words) for page, words in PRINTED if words[:2] == ["python", "-m"]]
EXPERIMENTS = [(page, words) for page, words in PRINTED if words[:3] == ["dvc", "exp", "run"]]


def named(printed: list) -> list[str]:
    return [f"{page.stem}: {' '.join(words[:5])}" for page, words in printed]


def test_every_printed_command_is_checked_here():
    assert len(STUDIES) >= 4 and len(EXPERIMENTS) >= 2
    assert [words for _, words in PRINTED if (words not in [w for _, w in STUDIES + EXPERIMENTS])] == []


@pytest.mark.parametrize(("page", "words"), STUDIES, ids=named(STUDIES))
def test_a_study_takes_the_options_that_its_page_prints_and_writes_that_page(page, words, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [*words[2:], "--dry-run"])
    import_module(words[2]).main()
    said = capsys.readouterr().out
    assert said.startswith("would ") and f"docs/results/{page.stem}." in said, "which file it writes"


@pytest.mark.parametrize(("page", "words"), EXPERIMENTS, ids=named(EXPERIMENTS))
def test_an_experiment_sets_keys_that_there_are_to_values_that_fit(page, words, tmp_path):
    yaml = YAML()
    content = yaml.load(ROOT / "params.yaml")
    for key, value in (word.split("=", 1) for word in words if "=" in word):
        *sections, name = key.split(".")
        place = content
        for section in sections:
            place = place[section]
        assert name in place, key
        place[name] = YAML(typ="safe").load(value)
    with (tmp_path / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(content, file)
    checked_params(tmp_path / "params.yaml")

"""README and docs: what they link to is there, what they tell to type exists, and their code is code."""

import ast
import json
import re
import subprocess
from pathlib import Path

import pytest

from perennial.connections import read_connection
from perennial.spec import Source

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
MAKEFILE = (ROOT / "Makefile").read_text()
LINK = re.compile(r"\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
AVOIDED = re.compile(r"\b(anew|mend(s|ed|ing)?|amidst|for ever|told|been asked)\b", re.IGNORECASE)


def name(page):
    return page.relative_to(ROOT).as_posix()


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def blocks(page, language):
    """The code blocks of a language, without their margin."""
    found = [match.groups() for match in BLOCK.finditer(page.read_text())]
    return [re.sub(rf"^{margin}", "", text, flags=re.MULTILINE) for margin, kind, text in found if kind == language]


def shell_lines():
    return [line for page in PAGES for text in blocks(page, "sh") for line in text.splitlines()]


def test_the_readme_is_a_front_door():
    assert len(README.read_text().splitlines()) <= 120


def test_the_map_leads_to_every_page_of_the_manual():
    linked = {link.partition("#")[0] for link in LINK.findall(README.read_text())}
    assert {name(page) for page in PAGES} - {"README.md"} <= linked


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_a_page_links_to_is_there(page):
    for link in LINK.findall(page.read_text()):
        if not link.startswith("http"):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_is_written_in_plain_words(page):
    assert [match.group() for match in AVOIDED.finditer(page.read_text())] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_each_verb_that_is_named_is_one_of_the_makefiles(page):
    named = set(re.findall(r"`make ([a-z-]+)", page.read_text()))
    named |= {verb for text in blocks(page, "sh") for verb in re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)}
    known = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    assert named <= known


def test_each_setting_of_a_verb_is_one_that_its_recipe_reads():
    recipes = dict(re.findall(r"^([a-z-]+):.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE))
    speed = re.search(r"^SPEED .*$", MAKEFILE, re.MULTILINE).group()
    for page in PAGES:
        for verb, settings in re.findall(r"make ([a-z-]+)((?: [A-Z_]+=[^\s`]*)+)", page.read_text()):
            recipe = recipes[verb].replace("$(SPEED)", speed)
            for setting in re.findall(r"([A-Z_]+)=", settings):
                assert f"$({setting})" in recipe or setting == "PORT" or f"({setting})," in recipe, (name(page), verb, setting)


def test_commands_are_words_that_a_shell_reads():
    text = "\n".join(shell_lines())
    assert "make run FLEET=mine" in text
    assert subprocess.run(["/bin/bash", "-n"], input=text, text=True, check=False).returncode == 0


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_is_python_and_json_is_json(page):
    for text in blocks(page, "python"):
        ast.parse(text.replace(", …", "").replace("…", "..."))
    for text in blocks(page, "json"):
        json.loads(text)


def test_the_table_that_is_shown_whole_is_a_spec_without_fault():
    (text, *_) = blocks(ROOT / "docs" / "sources.md", "python")
    scope = {}
    exec(compile(text, "docs/sources.md", "exec"), scope)  # noqa: S102 - the page's own text
    (source,) = [value for value in scope.values() if isinstance(value, Source)]
    assert source.faults() == []


def test_the_connections_that_are_shown_can_be_read():
    (text,) = blocks(ROOT / "docs" / "own-fleet.md", "json")
    for key, value in json.loads(text).items():
        read_connection(key, value if isinstance(value, str) else json.dumps(value))


def test_every_variable_of_ones_own_fleet_is_documented():
    page = (ROOT / "docs" / "own-fleet.md").read_text()
    embedded = "\n".join(file.read_text() for file in (ROOT / "include" / "embedded").glob("*.py"))
    read = set(re.findall(r'environ\.get\("(PERENNIAL_\w+|PORT)"', embedded))
    assert {"PERENNIAL_STATE", "PERENNIAL_CONNECTIONS", "PORT"} <= read
    assert {variable for variable in read if variable not in page} == set()

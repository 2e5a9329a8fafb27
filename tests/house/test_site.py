"""The documentation site has every page and every field, and its links lead where they should."""

import importlib
import json
import re
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from website import api, fields
from website.notebooks import notebook_page
from website.repository import (
    PAGES,
    ROOT,
    files_that_pages_name,
    page_of,
    source_page,
    with_links_of_the_site,
)
from website.yaml_keys import keys_of, title_of

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
GROUPS = ("env", "memory", "learner", "agent", "collection", "trainer", "callbacks", "logger")
FILES = [file for group in GROUPS for file in sorted((ROOT / "configs" / group).glob("*.yaml"))]


class Loader(yaml.SafeLoader):
    """Reads mkdocs.yml, whose function for slugs is not needed here."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def pages_of_the_menu(node: object) -> list[str]:
    if isinstance(node, str):
        return [node]
    children = node if isinstance(node, list) else node.values()
    return [page for one in children for page in pages_of_the_menu(one)]


def test_the_menu_has_all_pages_once() -> None:
    menu = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)["nav"]
    listed = pages_of_the_menu(menu)
    docs = ROOT / "docs"
    written = {place.relative_to(docs).as_posix() for place in docs.rglob("*.md")}
    generated = fields.pages().keys() | api.pages().keys()
    assert sorted(listed) == sorted(written | generated | PAGES.keys())


def test_every_field_has_a_meaning() -> None:
    rows = list(fields.rows())
    assert len(rows) > 250
    assert [name for name, _, _, meaning in rows if not meaning] == []


def test_values_and_defaults_are_those_of_the_settings() -> None:
    shown: dict[str, tuple[str, str]] = {}
    for name, values, default, _ in fields.rows():
        shown.setdefault(name, (values, default))  # of agent=default and the like, which come first
    assert shown["learner.clip_epsilon"] == ("number ≥ 0", "0.2")
    assert shown["learner.learning_rate"][0] == "number ≥ 0"
    assert shown["learner.gae_lambda"][0] == "number 0 to 1"
    assert shown["learner.target_kl"] == ("number ≥ 0 or `null`", "null")
    assert shown["agent.belief.form"] == ("`none` or `moments` or `samples`", "none")
    assert shown["agent.inputs"][1] == (
        "[observation, previous_action, previous_reward, previous_done]"
    )
    assert shown["trainer.precision"] == ("text", "32-true")


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}={file.stem}")
def test_all_keys_of_a_file_are_found(file: Path) -> None:
    def names(node: object, prefix: str = "") -> list[str]:
        if not isinstance(node, dict) or not node:
            return [prefix.removesuffix(".")]
        return [one for key in node for one in names(node[key], f"{prefix}{key}.")]

    content = OmegaConf.to_container(OmegaConf.load(file))
    content.pop("defaults", None)
    found = [key.name for key in keys_of(file) if key.value]
    # Mappings in braces are one value.
    assert {name for name in names(content) if name} >= {
        one for one in found if not any(name.startswith(f"{one}.") for name in names(content))
    }
    assert all(
        any(f"{name}.".startswith(f"{one}.") for one in found) for name in names(content) if name
    )


def test_comments_belong_to_their_keys(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(
        "# @package _global_\n# What it is,\n# in two lines.\ndefaults: [other]\n"
        'first: "a # b"  # not a comment within quotes\n'
        "second: [1, 2]  # begins here\n                # and goes on\n"
        "# of the third\nthird:\n  inner: {a: 1}\n  last: x  # said\n",
        encoding="utf-8",
    )
    assert title_of(file) == "What it is, in two lines."
    assert [tuple(vars(key).values()) for key in keys_of(file)] == [
        ("first", '"a # b"', "not a comment within quotes"),
        ("second", "[1, 2]", "begins here and goes on"),
        ("third", "", ""),
        ("third.inner", "{a: 1}", ""),
        ("third.last", "x", "said"),
    ]


@pytest.mark.parametrize(
    ("page", "link", "shown"),
    [
        ("index.md", "docs/idea.md", "idea.md"),
        ("index.md", "results/README.md#memories", "results_tables.md#memories"),
        ("index.md", "configs", "fields/run.md"),
        ("idea.md", "../results/README.md", "results_tables.md"),
        ("idea.md", "../README.md#task-families", "index.md#task-families"),
        ("environments/two_step.md", "../gymnasium.md", "../gymnasium.md"),
        ("environments/two_step.md", "../../results/worlds.png", "../source/results/worlds.png"),
        ("results_tables.md", "mab.png", "source/results/mab.png"),
        ("own_tasks.md", "../train.py", "source/train.py.md"),
        ("idea.md", "https://arxiv.org/abs/1611.02779", "https://arxiv.org/abs/1611.02779"),
    ],
)
def test_links_lead_to_the_page_of_the_site(page: str, link: str, shown: str) -> None:
    text = "[a]({0}) `[b]({0})` ![c]({0})\n```\n[d]({0})\n```\n"
    changed = with_links_of_the_site(text.format(link), page)
    assert changed == f"[a]({shown}) `[b]({link})` ![c]({shown})\n```\n[d]({link})\n```\n"


def test_pictures_in_html_are_found() -> None:
    text = '<img width="9" src="docs/images/trial.svg" alt="a trial">'
    assert with_links_of_the_site(text, "index.md") == text.replace("docs/", "")


def test_a_link_to_nothing_is_an_error() -> None:
    with pytest.raises(FileNotFoundError, match=r"docs/nothing\.md"):
        with_links_of_the_site("[a](nothing.md)", "idea.md")


def test_a_file_is_shown_as_it_is() -> None:
    place = "tests/house/own_parts/leaky.py"
    assert page_of(place) == f"source/{place}.md"
    text = (ROOT / place).read_text(encoding="utf-8")
    assert f"````python\n{text}````" in source_page(place)
    folder = source_page("tests/house/own_parts")
    assert text in folder
    assert folder.count("\n## ") == 6


def test_notebooks_are_shown_as_pages(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": "# Title\n[b](#2-B,-and-C) [d](../docs/idea.md)"},
        code_cell("print(1)\n2", {"text": "1\n"}, {"data": {"text/plain": "2"}}),
        code_cell("%%writefile mine/a.yaml\nenv: {}"),
        code_cell("draw()", {"data": {"image/png": "QUJD\n"}}, {"data": {"text/markdown": "*m*"}}),
    ]
    place = tmp_path / "one.ipynb"
    place.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    assert notebook_page(place) == (
        "# Title\n[b](#2-b-and-c) [d](../docs/idea.md)\n\n"
        "```python\nprint(1)\n2\n```\n\n```text\n1\n```\n\n```text\n2\n```\n\n"
        "`mine/a.yaml`:\n\n```yaml\nenv: {}\n```\n\n"
        '```python\ndraw()\n```\n\n<img src="data:image/png;base64,QUJD" '
        'alt="output of this cell">\n\n*m*\n'
    )


def code_cell(source: str, *outputs: dict) -> dict:
    return {"cell_type": "code", "source": source, "outputs": list(outputs)}


@pytest.mark.parametrize(
    "place", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem
)
def test_links_of_notebooks_lead_to_the_page_of_the_site(place: Path) -> None:
    path = place.relative_to(ROOT).as_posix()
    page = page_of(path)
    text = source_page(path)
    changed = with_links_of_the_site(text, page)
    assert "](../../" in changed
    assert ".ipynb)" not in changed
    for name, file in files_that_pages_name({page: text}).items():
        assert (ROOT / file).exists()
        assert name.startswith("source/")


@pytest.mark.parametrize("name", [name for _, _, names in api.PAGES.values() for name in names])
def test_what_the_api_shows_is_there(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    shown = getattr(importlib.import_module(module), attribute, None)
    assert (shown or importlib.import_module(name)).__doc__


def test_what_the_readme_counts() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    families = {file.stem for file in (ROOT / "configs" / "env").glob("*.yaml")} - {"gymnasium"}
    memories = list((ROOT / "configs" / "memory").glob("*.yaml"))
    assert f"[{len(families)} families](docs/environments.md)" in text
    assert f"[{len(memories)} memories](docs/memories.md); PPO, TRPO, A2C, R2D2, " in text
    assert len(list((ROOT / "configs" / "learner").glob("*.yaml"))) == 7
    assert re.search(r"R2D2 with PPO, VariBAD, meta-gradients", text)

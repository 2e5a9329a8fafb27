"""Files, tests, links and commands in the documentation exist."""

import re

import pytest
from hydra import compose, initialize_config_dir

from rl2_lightning.config import register_schemas
from tests.builders import LEARNERS, MEMORIES, known
from tests.families.catalogue import NAMES as FAMILY_NAMES
from tests.families.catalogue import read_family
from tests.house.pages import CHANGES, PAGES, ROOT, commands_of

# Fields whose values only exist on the user's machine.
OF_THE_USER = re.compile(r"--config-dir|searchpath|^-|\$|=\.\.\.")
FAMILIES = {name: read_family(name)[0] for name in FAMILY_NAMES if name != "corridor"}


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def anchors_of(name: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", text_of(name), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def part_with(field: str) -> list[str]:
    """The choice of a family, memory or learner that has the field, if it is of such a group."""
    group, name, *_ = field.split(".")
    kinds = {"env": FAMILIES, "memory": MEMORIES, "learner": LEARNERS}.get(group, {})
    having = [choice for choice, kind in kinds.items() if known({name: None}, kind)]
    default = {"env": "bernoulli_bandit", "memory": "gru", "learner": "ppo"}.get(group)
    return [f"{group}={having[0]}"] if having and default not in having else []


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(name)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        place = (ROOT / name).parent / path if path else ROOT / name
        assert place.exists(), target
        if anchor:
            assert anchor in anchors_of(place.resolve().relative_to(ROOT).as_posix()), target


@pytest.mark.parametrize("name", PAGES)
def test_commands_compose(name: str) -> None:
    register_schemas()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        for words in (command.overrides for command in commands_of(name)):
            if words is not None and not any(OF_THE_USER.search(word) for word in words):
                compose("train", ["output_dir=.", *words], return_hydra_config=True)


@pytest.mark.parametrize("name", sorted({*PAGES} - {CHANGES}))
def test_fields_are_fields(name: str) -> None:
    groups = "env|trial|collection|evaluation|agent|memory|learner|trainer|callbacks|logger"
    register_schemas()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        for text in re.findall(rf"`((?:{groups})\.[\w.]+=[^`\s]+)`", text_of(name)):
            if text.endswith("…"):
                continue
            field = text.partition("=")[0]
            compose("train", ["output_dir=.", *part_with(field), text])


def test_tests_that_the_design_names_are_there() -> None:
    path, found = "", 0
    for file, test in re.findall(
        r"`(tests/[\w/]+\.py)?(?:::(test_\w+))?`", text_of("docs/design.md")
    ):
        path = file or path
        if file:
            assert (ROOT / file).is_file(), file
        if test:
            assert f"def {test}(" in text_of(path), f"{path}::{test}"
            found += 1
    assert found > 25


def test_files_that_the_design_names_are_there() -> None:
    rooms = re.findall(r"^\| `([\w./]+)` \| (.*) \|$", text_of("docs/design.md"), re.MULTILINE)
    checked = 0
    for room, said in rooms:
        for file in re.findall(r"`([\w/]+(?:\.py|/))`", said):
            assert (ROOT / room / file).exists(), f"{room}{file}"
            checked += 1
    assert checked > 60


def test_every_module_of_a_room_is_named_in_the_design() -> None:
    told = text_of("docs/design.md")
    for room in ("agents", "data", "learners", "evaluation"):
        for file in (ROOT / "rl2_lightning" / room).glob("*.py"):
            assert file.name == "__init__.py" or f"`{file.name}`" in told, file
    for file in [*ROOT.glob("callbacks/*.py"), *ROOT.glob("rl2_lightning/*.py")]:
        assert file.name == "__init__.py" or f"`{file.name}`" in told, file


def test_every_room_of_the_layers_is_named() -> None:
    layers = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("layers = [")[2]
    told = text_of("docs/design.md")
    for name in re.findall(r"\w+", layers.split("]")[0]):
        assert re.search(rf"\b{name}\b", told), name

"""The pages of the reference that list each field of the configuration with its meaning.

What a field is good for is said by the comment behind it in `configs/`, or else by the docstring of
the class that it belongs to; types and ranges are those of the dataclasses that check them.
"""

import inspect
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from rl2_lightning.agents.settings import AgentSettings
from rl2_lightning.config import (
    CollectionConfig,
    EvaluationConfig,
    TrainConfig,
    TrainerConfig,
    TrialConfig,
)
from website.repository import ROOT
from website.yaml_keys import Key, keys_of, title_of

CONFIGS = ROOT / "configs"
TARGET = "_target_"
LARGEST = 1e29  # a bound that only keeps a number within the range of float32
HEAD = "| field | value | default | meaning |\n|---|---|---|---|\n"
SECTION = re.compile(r"^(?:Args|Attributes):\n(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
ENTRY = re.compile(
    r"^    \*{0,2}(\w+)(?: \([^)]*\))?:\s*(.*?)(?=^    \S|\Z)", re.MULTILINE | re.DOTALL
)

# What each group sets, and the file that a run takes if none is named.
GROUPS: Mapping[str, str] = {
    "env": "The family of tasks, with the length of its trials and a budget that suit it. "
    "[All families](../environments.md) describes the tasks.",
    "memory": "What carries information from step to step. [Memories](../memories.md) compares "
    "them.",
    "learner": "How an agent is trained. [Running](../running.md#choosing-the-learner-and-its-"
    "critic) says which to take.",
    "agent": "What the agent sees, and its layers before and after the memory.",
}
OF_THE_RUN: Mapping[str, type[Any]] = {
    "trial": TrialConfig,
    "evaluation": EvaluationConfig,
    "collection": CollectionConfig,
    "trainer": TrainerConfig,
}


def pages() -> dict[str, str]:
    """The Markdown of each page, by its path in the site."""
    found = {f"fields/{group}.md": _group_page(group) for group in GROUPS}
    found["fields/run.md"] = _run_page()
    found["fields/callbacks.md"] = _plugins_page()
    found["fields/experiment.md"] = _experiments_page()
    return found


def rows() -> Iterator[tuple[str, str, str, str]]:
    """Each field of each group: its full name, values, default and meaning."""
    for group in GROUPS:
        for file in _files(group):
            yield from _rows_of(group, file)
    yield from _rows_of_the_run()
    for group in ("callbacks", "logger"):
        for file in _files(group):
            yield from _plugin_rows(group, file)


def _files(group: str) -> list[Path]:
    return sorted((CONFIGS / group).glob("*.yaml"), key=lambda one: (one.stem != "default", one))


def _group_page(group: str) -> str:
    parts = [f"# {group}\n\n{GROUPS[group]}\n"]
    for file in _files(group):
        table = HEAD + "".join(_line(row) for row in _rows_of(group, file))
        beside = [f"`{key.name}={key.value}`" for key in keys_of(file) if _is_of_the_run(key)]
        parts.append(f"## {group}={file.stem}\n\n{title_of(file)}\n\n{table}")
        if beside:
            parts.append(f"The file also sets {', '.join(beside)}.\n")
    return "\n".join(parts)


def _is_of_the_run(key: Key) -> bool:
    return bool(key.value) and key.name.partition(".")[0] in OF_THE_RUN


def _rows_of(group: str, file: Path) -> Iterator[tuple[str, str, str, str]]:
    """The rows of a file that describes an object, whose fields may stand below the group."""
    keys = keys_of(file)
    targets = [key.value for key in keys if key.name.endswith(TARGET)]
    schema = import_target(targets[0]).Settings if targets else AgentSettings
    for key in keys:
        path = key.name.removeprefix(f"{group}.")
        if path not in (group, *OF_THE_RUN) and not _is_of_the_run(key) and TARGET not in path:
            yield _row(f"{group}.{path}", key, schema, path)


def _rows_of_the_run() -> Iterator[tuple[str, str, str, str]]:
    files = [CONFIGS / "train.yaml"]
    keys = [key for file in files for key in keys_of(file)]
    for group in ("collection", "trainer"):
        of_group = keys_of(CONFIGS / group / "default.yaml")
        keys += [Key(f"{group}.{one.name}", one.value, one.comment) for one in of_group]
    for key in keys:
        if key.name not in OF_THE_RUN:
            group, _, rest = key.name.partition(".")
            yield _row(key.name, key, OF_THE_RUN.get(group, TrainConfig), rest or key.name)


def _run_page() -> str:
    parts = [
        "# The run\n\nThe fields of `configs/train.yaml`, of `configs/collection` and of "
        "`configs/trainer`. Any of them can be set on the command line: "
        "`python train.py seed=2 trainer.precision=bf16-mixed`. `???` is set by the family.\n"
    ]
    all_rows = list(_rows_of_the_run())
    titles = {"": "The run itself", **{group: f"{group}" for group in OF_THE_RUN}}
    for group, title in titles.items():
        chosen = [row for row in all_rows if row[0].rpartition(".")[0].partition(".")[0] == group]
        parts.append(f"## {title}\n\n{HEAD}{''.join(map(_line, chosen))}")
    return "\n".join(parts)


def _plugins_page() -> str:
    parts = [
        "# callbacks, logger\n\nCallbacks and loggers of Lightning. Any other one can be added, "
        "see [loggers and callbacks](../reading_logs.md#loggers-and-callbacks); "
        "`callbacks.trial_film=null` switches one off.\n"
    ]
    for group in ("callbacks", "logger"):
        for file in _files(group):
            table = HEAD + "".join(_line(row) for row in _plugin_rows(group, file))
            said = title_of(file)
            parts.append(f"## {group}={file.stem}\n\n{said}\n\n{table if keys_of(file) else ''}")
    return "\n".join(parts)


def _plugin_rows(group: str, file: Path) -> Iterator[tuple[str, str, str, str]]:
    """A row for each object of a file, and for each of its arguments."""
    keys = keys_of(file)
    targets = {
        key.name.rpartition(".")[0]: import_target(key.value) for key in keys if TARGET in key.name
    }
    for key in keys:
        if key.name in targets:
            kind = targets[key.name]
            meaning = key.comment or _first_sentence(inspect.getdoc(kind) or "")
            yield f"{group}.{key.name}", kind.__name__, "", _sentence(meaning)
        elif TARGET not in key.name:
            kind = targets[key.name.partition(".")[0]]
            said = described(kind).get(key.name.rpartition(".")[2], "")
            yield (
                f"{group}.{key.name}",
                "",
                key.value,
                _sentence(key.comment or _first_sentence(said)),
            )


def _experiments_page() -> str:
    parts = ["# experiment, tuned, sweep, debug\n"]
    for group, said in (
        ("experiment", "Tuned settings for a family of tasks. An experiment names the family."),
        (
            "tuned",
            "Settings for one combination of family, memory, learner and experiment, which names "
            "the file. They are taken by themselves; `tuned=none` leaves them out.",
        ),
        ("sweep", "Several runs of one command; see [Tune](../tuning.md)."),
        ("debug", "A quick look whether everything works."),
    ):
        table = "| choice | what it is |\n|---|---|\n" + "".join(
            f"| `{group}={file.stem}` | {_cell(title_of(file))} |\n" for file in _files(group)
        )
        parts.append(f"## {group}\n\n{said}\n\n{table}")
    return "\n".join(parts)


def _row(name: str, key: Key, schema: type[Any], path: str) -> tuple[str, str, str, str]:
    values, meaning = _declared(schema, path)
    return name, values, key.value, _sentence(key.comment or meaning)


def _declared(schema: type[Any], path: str) -> tuple[str, str]:
    """What a dataclass says of a field: its values, and its meaning."""
    first, _, rest = path.partition(".")
    known = {one.name: one for one in fields(schema)}
    if first not in known:
        return "", ""
    hint = typing.get_type_hints(schema)[first]
    if is_dataclass(hint):
        if rest:
            return _declared(typing.cast(type[Any], hint), rest)
        return "", described(schema).get(first, "")
    return _values(hint, known[first].metadata), described(schema).get(first, "")


def _values(hint: Any, rule: Mapping[str, Any]) -> str:
    """The values that a field accepts, in words."""
    if "choices" in rule:
        return " or ".join(f"`{one}`" for one in rule["choices"])
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    options = typing.get_args(hint) if is_union else (hint,)
    words = {bool: "`true` or `false`", int: "whole number", float: "number", str: "text"}
    said = [words.get(one, _container(one)) for one in options if one is not type(None)]
    low, high = rule.get("low"), rule.get("high", float("inf"))
    is_open = high >= LARGEST
    bounds = "" if low is None else f" ≥ {low:g}" if is_open else f" {low:g} to {high:g}"
    of_numbers = " of numbers" if bounds and "list" in said else ""
    null = " or `null`" if type(None) in options else ""
    return f"{' or '.join(one for one in said if one)}{of_numbers}{bounds}{null}"


def _container(hint: Any) -> str:
    origin = typing.get_origin(hint)
    return {list: "list", dict: "mapping"}.get(origin, "")


def import_target(name: str) -> Any:
    """The class that a `_target_` names."""
    module, _, kind = name.rpartition(".")
    return getattr(import_module(module), kind)


def described(kind: type[Any]) -> dict[str, str]:
    """What the docstrings of a class and of those that it extends say of its fields."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        for section in SECTION.findall(inspect.cleandoc(one.__doc__ or "")):
            for name, text in ENTRY.findall(section):
                found[name] = " ".join(text.split())
    return found


def _first_sentence(text: str) -> str:
    """The first sentence of a docstring, also of one in reStructuredText."""
    sentence = re.split(r"(?<=\.)\s", " ".join(text.split()), maxsplit=1)[0]
    return sentence.replace("``", "`")


def _sentence(text: str) -> str:
    """A text with a capital letter, unless it begins with the name of a file or with a value."""
    text = re.sub(r"^(true|false|null)(?=:)", r"`\1`", " ".join(text.split()))
    is_name = re.match(r"\w*[._]\w", text) is not None
    return (
        (text[:1] if is_name else text[:1].upper())
        + text[1:]
        + "." * (text[-1:].isalnum() or text[-1:] in ")`'")
    )


def _line(row: tuple[str, str, str, str]) -> str:
    name, values, default, meaning = row
    shown = f"`{default}`" if default else ""
    return f"| `{name}` | {_cell(values)} | {_cell(shown)} | {_cell(meaning)} |\n"


def _cell(text: str) -> str:
    """A text as the content of a table's cell."""
    return (
        re.sub(r"(?<!`)\$\{[^}]*\}(?!`)", r"`\g<0>`", text).replace("|", r"\|").replace("<", "&lt;")
    )

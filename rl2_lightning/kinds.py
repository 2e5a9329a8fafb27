"""Kinds of memories, learners and families: the subclasses of a base that are known here."""

import importlib
import pkgutil
import sys
from pathlib import Path
from typing import TypeVar

Base = TypeVar("Base")


def known_kinds(base: type[Base]) -> list[type[Base]]:
    """All subclasses of a class: those that come with its package, and those imported elsewhere.

    Args:
        base: in a module beside which the package keeps its kinds.
    """
    package = base.__module__.rpartition(".")[0]
    folder = Path(str(sys.modules[base.__module__].__file__)).parent
    for module in pkgutil.iter_modules([str(folder)]):
        importlib.import_module(f"{package}.{module.name}")
    classes = [base]
    for one in classes:
        classes += [kind for kind in one.__subclasses__() if kind not in classes]
    return classes[1:]

"""Kinds of memories, learners and families: the known subclasses of a base class."""

import importlib
import pkgutil
import sys
from pathlib import Path
from typing import TypeVar

Base = TypeVar("Base")


def known_kinds(base: type[Base]) -> list[type[Base]]:
    """All subclasses of a class: those in its package, and those imported from elsewhere.

    Args:
        base: the base class; the other modules of its package define the kinds.
    """
    package = base.__module__.rpartition(".")[0]
    folder = Path(str(sys.modules[base.__module__].__file__)).parent
    for module in pkgutil.iter_modules([str(folder)]):
        importlib.import_module(f"{package}.{module.name}")
    classes = [base]
    for one in classes:
        classes += [kind for kind in one.__subclasses__() if kind not in classes]
    return classes[1:]

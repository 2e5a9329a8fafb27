"""Read the arguments of a command that composes no configuration: `name=value`, in any order."""

from collections.abc import Mapping, Sequence

from rl2_lightning.errors import UserError

REQUIRED = object()  # in place of a default
CONFIG_DIR = ("--config-dir", "-cd")  # flags of a folder with the user's own configuration
TRUST = "trust_targets"  # the field with modules that files of such a folder may name


def read_arguments(texts: Sequence[str], known: Mapping[str, object]) -> dict[str, str]:
    """The values of a command's arguments by name.

    Args:
        texts: the arguments.
        known: their names, each with its default, or `REQUIRED`.

    Raises:
        UserError: one is unknown, given twice, or missing.
    """
    given: dict[str, str] = {}
    names = ", ".join(known)
    for text in texts:
        name, is_given, value = text.partition("=")
        if not is_given or name not in known:
            raise UserError(f"unknown argument {text}: known are {names}, each as name=value")
        if name in given:
            raise UserError(f"{name} is given twice: give it once")
        given[name] = value
    for name, default in known.items():
        if name not in given and default is REQUIRED:
            raise UserError(f"{name} is missing: write {name}=...")
    return {name: given.get(name, str(default)) for name, default in known.items()}


def without_config_dir(texts: Sequence[str]) -> list[str]:
    """The arguments of a command without `--config-dir folder` and `trust_targets=[...]`."""
    arguments = iter(texts)
    kept = []
    for text in arguments:
        if text in CONFIG_DIR:
            next(arguments, None)
        elif not text.startswith((f"{CONFIG_DIR[0]}=", f"{TRUST}=")):
            kept.append(text)
    return kept

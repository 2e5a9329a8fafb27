"""Cache arrays that are slow to compute in the user's cache directory."""

import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

logger = logging.getLogger(__name__)


def cache_directory() -> Path:
    """Return `$XDG_CACHE_HOME/rl2_lightning`, by default `~/.cache/rl2_lightning`."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "rl2_lightning"


def cached_array(
    name: str, shape: tuple[int, ...], compute: Callable[[], npt.NDArray[np.generic]]
) -> npt.NDArray[np.generic]:
    """Read an array from the cache, or compute and store it.

    A file that cannot be read or has another shape counts as absent. If the directory cannot be
    written to, a warning is logged.

    Args:
        name: file name without suffix; it includes everything that the array depends on.
        shape: the shape that the array must have.
        compute: computes the array.

    Returns:
        The array.
    """
    path = cache_directory() / f"{name}.npy"
    try:
        array: npt.NDArray[np.generic] = np.load(path, allow_pickle=False)
        if array.shape == shape:
            return array
    except (OSError, ValueError, EOFError):
        pass
    array = compute()
    try:
        _write_atomically(path, array)
    except OSError as error:
        logger.warning("could not cache %s (%s): it will be computed again", path, error)
    return array


def _write_atomically(path: Path, array: npt.NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Use a unique name until complete: another process may read or write the same table.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".partial")
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.save(file, array)
        partial.replace(path)
    except BaseException:
        partial.unlink()
        raise

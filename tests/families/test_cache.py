"""The cache returns what was computed, and tolerates any content of the disk."""

import logging

import numpy as np
import pytest

from rl2_lightning.families.cache import cached_array


def compute() -> np.ndarray:
    return np.arange(6).reshape(2, 3)


def refuse() -> np.ndarray:
    raise AssertionError("computed again")


def test_an_array_is_computed_once(empty_cache):
    assert np.array_equal(cached_array("table", (2, 3), compute), compute())
    assert np.array_equal(cached_array("table", (2, 3), refuse), compute())
    assert [path.name for path in empty_cache.iterdir()] == ["table.npy"]


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_a_broken_file_is_computed_again(empty_cache, content):
    empty_cache.mkdir()
    (empty_cache / "table.npy").write_bytes(content)
    assert np.array_equal(cached_array("table", (2, 3), compute), compute())
    assert np.array_equal(cached_array("table", (2, 3), refuse), compute())


def test_a_truncated_file_is_computed_again(empty_cache):
    cached_array("table", (2, 3), compute)
    path = empty_cache / "table.npy"
    path.write_bytes(path.read_bytes()[:-4])
    assert np.array_equal(cached_array("table", (2, 3), compute), compute())


def test_another_shape_is_computed_again(empty_cache):
    cached_array("table", (3,), lambda: np.zeros(3))
    assert np.array_equal(cached_array("table", (2, 3), compute), compute())


def test_a_failed_computation_leaves_nothing(empty_cache):
    with pytest.raises(AssertionError, match="computed again"):
        cached_array("table", (2, 3), refuse)
    assert not empty_cache.exists()


def test_a_directory_that_cannot_be_written_costs_a_warning(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(cached_array("table", (2, 3), compute), compute())
    assert "could not cache" in caplog.text

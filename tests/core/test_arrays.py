"""Arrays come back as they were written; what could hold code does not come back at all."""

from pathlib import Path

import numpy as np
import pytest

from gemwright.core.arrays import map_array, read_array, read_arrays


@pytest.mark.parametrize("array", [np.arange(7, dtype=np.uint16), np.zeros(0, np.uint32), np.ones((2, 3))])
def test_arrays_come_back(array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", array)
    np.savez(tmp_path / "all.npz", one=array, other=array + 1)
    found = read_arrays(tmp_path / "all.npz")
    with (tmp_path / "one.npy").open("rb") as stream:
        for same in (map_array(tmp_path / "one.npy"), read_array(stream), found["one"], found["other"] - 1):
            assert same.dtype == array.dtype
            np.testing.assert_array_equal(same, array)


def test_a_mapped_array_is_not_copied(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.arange(1000))
    assert isinstance(map_array(tmp_path / "one.npy"), np.memmap)


def test_objects_are_refused(tmp_path: Path) -> None:
    objects = np.array([{}, "x" * 200], object)
    np.save(tmp_path / "one.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "all.npz", one=objects)
    with pytest.raises(ValueError, match=r"[Oo]bject"):
        map_array(tmp_path / "one.npy")
    with pytest.raises(ValueError, match=r"[Oo]bject"):
        read_arrays(tmp_path / "all.npz")


def test_a_damaged_file_is_no_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", one=np.arange(9))
    whole = (tmp_path / "all.npz").read_bytes()
    (tmp_path / "all.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"all\.npz: expected an \.npz file"):
        read_arrays(tmp_path / "all.npz")

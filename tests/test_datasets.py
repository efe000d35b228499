"""Reading idx files: what is in them, and what is wrong with them."""

import gzip
import struct

import numpy as np
import pytest

from fastnn import datasets

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx(array: np.ndarray) -> bytes:
    code = CODES[array.dtype.str[1:]]
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture
def directory(tmp_path):
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 30), ("t10k", 10)):
        (tmp_path / f"{prefix}-images-idx3-ubyte").write_bytes(
            idx(rng.integers(0, 256, (count, 4, 5)).astype(np.uint8))
        )
        labels = idx((np.arange(count) % 3).astype(np.uint8))
        (tmp_path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    return tmp_path


@pytest.mark.parametrize("dtype", CODES)
def test_round_trip(tmp_path, dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    (tmp_path / "a").write_bytes(idx(array))
    read = datasets.read_idx(tmp_path / "a")
    assert read.dtype == array.dtype
    assert np.array_equal(read, array)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:3], "begins with"),
        (lambda data: b"\x01" + data[1:], "begins with"),
        (lambda data: data[:2] + b"\x07" + data[3:], "begins with"),
        (lambda data: data[:9], "ends within its header"),
        (lambda data: data[:-1], "expected"),
        (lambda data: data + b"\0", "expected"),
        (lambda data: data[:4] + b"\xff" * 12 + data[16:], "expected"),
        (lambda data: gzip.compress(data)[:-9], "damaged"),
    ],
)
def test_damaged_file(tmp_path, damage, message):
    path = tmp_path / "bad"
    path.write_bytes(damage(idx(np.zeros((2, 3, 4), np.uint8))))
    with pytest.raises(ValueError, match=message) as error:
        datasets.read_idx(path)
    assert "bad" in str(error.value)


def test_directory_gzipped_or_not(directory):
    images = datasets.find(str(directory))
    assert images.x.shape == (30, 4, 5)
    assert images.x.dtype == np.uint8
    assert images.y_test.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert images.classes == ("0", "1", "2")


def test_missing_file(directory):
    (directory / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match="t10k-labels-idx1-ubyte"):
        datasets.find(str(directory))


def test_labels_that_do_not_match(directory):
    (directory / "train-labels-idx1-ubyte.gz").write_bytes(idx(np.zeros(29, np.uint8)))
    with pytest.raises(ValueError, match="expected"):
        datasets.find(str(directory))


def test_digits_are_split_the_same_way_each_time():
    pytest.importorskip("sklearn")
    first, second = datasets.find("digits"), datasets.find("digits")
    assert len(first.x) == 1437
    assert len(first.x_test) == 360
    assert np.array_equal(first.x_test, second.x_test)

"""Real images to learn from, found on this machine: nothing is downloaded."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastnn.errors import missing_extra

Array = np.ndarray
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist
FASHION_CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
_IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_SPLITS = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


class Images(NamedTuple):
    """Images (n, height, width) and labels (n,) to train on and to test with, and what the classes are called."""

    name: str
    x: Array
    y: Array
    x_test: Array
    y_test: Array
    classes: tuple[str, ...]


def read_idx(path: str | Path) -> Array:
    """The array in an idx file (the format of MNIST, gzipped or not): LeCun, Cortes & Burges 1998.

    Two zero bytes, a type, the number of dimensions, each dimension as a big-endian uint32, the values.
    ValueError naming the file where it is not that; OSError where it cannot be read.
    """
    path = Path(path)
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path} is not an idx file: its gzip stream is damaged ({error})") from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _IDX_DTYPES:
        raise ValueError(f"{path} is not an idx file: it begins with {data[:4].hex(' ')}")
    dtype, dimensions = np.dtype(_IDX_DTYPES[data[2]]), data[3]
    start = 4 + 4 * dimensions
    if len(data) < start:
        raise ValueError(f"{path} is not an idx file: it ends within its header")
    shape = struct.unpack(f">{dimensions}I", data[4:start])
    expected = start + dtype.itemsize * int(np.prod(shape, dtype=object))
    if len(data) != expected:
        raise ValueError(f"{path} has {len(data)} bytes, expected {expected} for shape {shape}")
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def _idx_file(directory: Path, stem: str) -> Path:
    for name in (stem, stem + ".gz"):
        if (directory / name).is_file():
            return directory / name
    raise FileNotFoundError(f"{directory} has no {stem} or {stem}.gz")


def idx_images(directory: str | Path) -> Images:
    """The four idx files of MNIST, Fashion-MNIST and their like in a directory, gzipped or not."""
    directory = Path(directory)
    parts: list[Array] = []
    for images, labels in _SPLITS.values():
        pixels, truth = read_idx(_idx_file(directory, images)), read_idx(_idx_file(directory, labels))
        if pixels.ndim != 3 or truth.shape != pixels.shape[:1]:
            raise ValueError(f"{directory} has images {pixels.shape}, labels {truth.shape}, expected (n, h, w), (n,)")
        if truth.dtype.kind not in "iu" or not len(truth) or truth.min() < 0 or truth.max() >= len(truth):
            raise ValueError(
                f"{labels} in {directory} has other labels than whole numbers from 0, fewer than the images"
            )
        parts += [pixels, truth.astype(np.int64)]
    fashion = "fashion" in directory.name.lower()
    count = int(max(parts[1].max(), parts[3].max())) + 1
    classes = FASHION_CLASSES if fashion else tuple(str(label) for label in range(count))
    x, y, x_test, y_test = parts
    return Images("Fashion-MNIST" if fashion else directory.name, x, y, x_test, y_test, classes)


def digits() -> Images:
    """The 1,797 images of 8 x 8 pixels that scikit-learn carries, a fifth of them held out for the test.

    ImportError naming the extra [sklearn] where that is missing.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise missing_extra("scikit-learn", "the digits data set", "sklearn") from error
    data = load_digits()
    images, labels = data.images.astype(np.float32), data.target.astype(np.int64)
    x, x_test, y, y_test = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=0)
    return Images("digits", x, y, x_test, y_test, tuple("0123456789"))


def find(source: str | None = None) -> Images:
    """The images in the directory `source`; "digits"; None: Fashion-MNIST where it is installed, else digits."""
    if source == "digits":
        return digits()
    if source is not None:
        return idx_images(source)
    return idx_images(FASHION_MNIST) if FASHION_MNIST.is_dir() else digits()

"""_members.py reads what zipfile and NumPy read, or leaves it to them: with any byte of a file changed."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from fastnn import _members, files

ARRAYS = {"0.weight": np.arange(12, dtype=np.float32).reshape(3, 4), "a b": np.arange(3.0), "none": np.empty((0, 5))}


@pytest.fixture(params=["written", "seekable"])
def content(request, tmp_path) -> bytes:
    """A zip as `files.write` makes it, and as one makes it who can go back."""
    files.write(tmp_path / "a", {"kind": "test"}, ARRAYS)
    middle = (tmp_path / "a").read_bytes()[len(files.MAGIC) : -32]
    if request.param == "written":
        return middle
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(middle)) as old, zipfile.ZipFile(stream, "w") as new:
        for name in old.namelist():
            new.writestr(zipfile.ZipInfo(name), old.read(name))
    return stream.getvalue()


def of_zipfile(content: bytes) -> list[tuple[str, bytes]] | None:
    """Everything that zipfile reads; None where it refuses a member, or there are bytes that it passes over."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert archive.infolist()[0].header_offset == 0 and not archive.comment
            return [(info.filename, archive.read(info)) for info in archive.infolist()]
    except Exception:
        return None


def found(content: bytes) -> list[tuple[str, bytes]] | None:
    made = _members.members(memoryview(content))
    return None if made is None else [(name, bytes(data)) for name, data in made.items()]


def test_what_write_makes_is_read_here(content):
    expected = of_zipfile(content)
    assert expected is not None and found(content) == expected
    for name, data in expected[1:]:
        array = _members.array(memoryview(data))
        assert array is not None and array.dtype == ARRAYS[name.removesuffix(".npy")].dtype
        assert np.array_equal(array, ARRAYS[name.removesuffix(".npy")])


def test_with_any_byte_changed_it_is_zipfiles_reading_or_none(content):
    read = 0
    for place in range(len(content)):
        for bit in (1, 2, 8, 32, 128):
            changed = bytearray(content)
            changed[place] ^= bit
            made = found(bytes(changed))
            if made is not None:
                assert made == of_zipfile(bytes(changed)), (place, bit)
                read += 1
    assert 0 < read < len(content)  # dates and attributes, which say nothing


def test_with_any_bytes_left_out_or_put_in_it_is_none(content):
    for place in range(len(content) + 1):
        for changed in (content[:place], content[place + 1 :], content[:place] + b"\0" + content[place:]):
            if changed != content:
                made = found(changed)
                assert made is None or made == of_zipfile(changed)
    assert found(content + content) is None and found(b"") is None


@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f8", "<i8", "u1", "?", "<f2"])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (0, 4), (2, 1, 3)])
def test_arrays_are_numpys(shape, dtype):
    expected = np.arange(int(np.prod(shape)), dtype=np.float64).reshape(shape).astype(dtype)
    stream = io.BytesIO()
    np.lib.format.write_array(stream, expected)
    made = _members.array(memoryview(stream.getvalue()))
    assert made is not None and made.dtype == expected.dtype and made.shape == shape
    assert made.tobytes() == expected.tobytes()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_arrays_with_any_byte_changed_are_numpys_or_none():
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.arange(6.0).reshape(2, 3))
    data = stream.getvalue()
    for place in range(len(data)):
        for value in range(256):
            changed = data[:place] + bytes([value]) + data[place + 1 :]
            made = _members.array(memoryview(changed))
            if made is not None:
                expected = np.lib.format.read_array(io.BytesIO(changed), allow_pickle=False)
                assert made.dtype == expected.dtype and made.shape == expected.shape
                assert made.tobytes() == expected.tobytes()


@pytest.mark.parametrize("shape", ["(06,)", "(6)", "6", "(-6,)", "(6,,)", "(,)", "(6, 1" + ", 1" * 40 + ")", "(7,)"])
def test_shapes_that_are_left_to_numpy(shape):
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    head = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    assert _members.array(memoryview(head + bytes(48))) is None


def test_arrays_that_are_read_are_the_readers_own(tmp_path):
    """But for who says that it copies them."""
    files.write(tmp_path / "a", {}, ARRAYS)
    for array in files.read(tmp_path / "a")[1].values():
        assert array.flags.writeable and array.flags.aligned
    found = files.read(tmp_path / "a", views=True)[1]
    assert all(np.array_equal(array, ARRAYS[name]) for name, array in found.items())
    assert not found["0.weight"].flags.writeable

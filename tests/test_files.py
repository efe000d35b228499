"""files.py: whole or not at all, damage is noticed, hostile content is refused without its memory."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import pickle
import signal
import stat
import sys
import threading
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from common import full, run_python

from fastnn import files
from fastnn.errors import ModelFormatError

ARRAYS = {
    "w": np.arange(12, dtype=np.float32).reshape(3, 4),
    "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "step": np.array(7),
    "none": np.empty((0, 5)),
}
HEADER = {"kind": "test", "loss": [0.1, float("inf")], "deep": {"a": [None, True]}}


def sealed(content: bytes) -> bytes:
    """The content with a digest that is right."""
    body = files.MAGIC + content
    return body + hashlib.sha256(body).digest()


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.comment = comment
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def npy(array: np.ndarray, **allowed) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **allowed)
    return stream.getvalue()


def npy_with(text: str) -> bytes:
    """An array whose header is that."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(16)


def encrypted(content: bytes) -> bytes:
    """The same, whose central directory says that the last member is encrypted."""
    changed = bytearray(content)
    changed[content.rindex(b"PK\1\2") + 8] |= 1
    return bytes(changed)


def npy_claiming(shape: str, descr: str = "'<f8'") -> bytes:
    return npy_with(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n")


def test_round_trip(tmp_path):
    files.write(tmp_path / "a", HEADER, ARRAYS)
    header, arrays = files.read(tmp_path / "a")
    assert header == HEADER
    assert arrays.keys() == ARRAYS.keys()
    for name, array in arrays.items():
        assert array.dtype == ARRAYS[name].dtype and array.shape == ARRAYS[name].shape
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_same_content_same_bytes(tmp_path):
    for name in "ab":
        files.write(tmp_path / name, HEADER, ARRAYS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_flipped_bit_is_noticed(tmp_path):
    files.write(tmp_path / "a", {"a": 1}, {"w": np.arange(3.0)})
    data = (tmp_path / "a").read_bytes()
    for position in range(len(data)):
        for bit in (1, 128):
            damaged = bytearray(data)
            damaged[position] ^= bit
            (tmp_path / "b").write_bytes(damaged)
            with pytest.raises(ModelFormatError):
                files.read(tmp_path / "b")


def test_every_truncation_and_extension_is_noticed(tmp_path):
    files.write(tmp_path / "a", {"a": 1}, {"w": np.arange(3.0)})
    data = (tmp_path / "a").read_bytes()
    for damaged in (*(data[:size] for size in range(len(data))), data + b"\0", data + data):
        (tmp_path / "b").write_bytes(damaged)
        with pytest.raises(ModelFormatError):
            files.read(tmp_path / "b")


HOSTILE = {
    "pickle": pickle.dumps(np.arange(3)),
    "not a zip": b"hello",
    "no header": zipped({"w.npy": npy(np.arange(3.0))}),
    "header not JSON": zipped({"header.json": b"{"}),
    "header a list": zipped({"header.json": b"[]"}),
    "header nested 10^5 deep": zipped({"header.json": b"[" * 100_000}),
    "header not text": zipped({"header.json": b"\xff\xfe\x80"}),
    "objects": zipped({"header.json": b"{}", "w.npy": npy(np.array([{}], dtype=object), allow_pickle=True)}),
    "2^60 values": zipped({"header.json": b"{}", "w.npy": npy_claiming(f"({1 << 60},)")}),
    "a size that wraps": zipped({"header.json": b"{}", "w.npy": npy_claiming(f"({1 << 32}, {1 << 32})")}),
    "negative sizes": zipped({"header.json": b"{}", "w.npy": npy_claiming("(-1, -2)")}),
    "text": zipped({"header.json": b"{}", "w.npy": npy_claiming("(1,)", "'<U4'")}),
    "trailing bytes": zipped({"header.json": b"{}", "w.npy": npy(np.arange(3.0)) + b"x"}),
    "not npy": zipped({"header.json": b"{}", "w.npy": b"1 2 3"}),
    "code in npy's header": zipped({"header.json": b"{}", "w.npy": npy_claiming("(__import__('os'),)")}),
    "an unclosed header of npy": zipped({"header.json": b"{}", "w.npy": npy_with("{'descr': (")}),
    "an unclosed text in it": zipped({"header.json": b"{}", "w.npy": npy_with("'''")}),
    "indentation in it": zipped({"header.json": b"{}", "w.npy": npy_with("if 1:\n  2\n 3")}),
    "an empty dtype": zipped({"header.json": b"{}", "w.npy": npy_claiming("(2,)", "()")}),
    "an encrypted member": encrypted(zipped({"header.json": b"{}", "w.npy": npy(np.arange(3.0))})),
    "a key twice": zipped({"header.json": b'{"kind": "relu", "kind": "tanh"}'}),
    "a key twice, deeper": zipped({"header.json": b'{"a": [{"kind": "relu", "kind": "tanh"}]}'}),
    "bytes before the zip": bytes(100) + zipped({"header.json": b"{}"}),
    "bytes behind it": zipped({"header.json": b"{}"}) + bytes(100),
    "a comment": zipped({"header.json": b"{}"}, comment=b"another model"),
    "a large header": zipped({"header.json": json.dumps({"a": " " * files.MODEL_HEADER}).encode()}),
    "a header of many lists": zipped({"header.json": json.dumps({"a": [[]] * 100_000}).encode()}),
    "a header with other letters": zipped({"header.json": '{"a": "\u00e4"}'.encode()}),
    "a bomb": zipped({"header.json": json.dumps({"a": " " * 10_000_000}).encode()}, zipfile.ZIP_DEFLATED),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_content_with_the_right_digest(tmp_path, content):
    (tmp_path / "a").write_bytes(sealed(content))
    with pytest.raises(ModelFormatError, match="a"):
        files.read(tmp_path / "a")


def test_a_member_twice(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("header.json", "{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("header.json", "{}")
    (tmp_path / "a").write_bytes(sealed(stream.getvalue()))
    with pytest.raises(ModelFormatError, match="twice"):
        files.read(tmp_path / "a")


def test_more_members_than_any_model_has(tmp_path):
    """Of each, zipfile would make an object of 700 bytes before anything of it is looked at."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("header.json", "{}")
        for k in range(files._MOST_MEMBERS):
            archive.writestr(f"{k}.npy", b"")
    (tmp_path / "a").write_bytes(sealed(stream.getvalue()))
    del stream, archive
    tracemalloc.start()
    try:
        with pytest.raises(ModelFormatError, match="more than 65536 members"):
            files.read(tmp_path / "a")
        assert tracemalloc.get_traced_memory()[1] < 3 * (tmp_path / "a").stat().st_size
    finally:
        tracemalloc.stop()


def test_a_header_that_is_too_large_is_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"^the header has \d+ bytes, expected at most 4194304"):
        files.write(tmp_path / "a", {"metadata": "x" * files.MODEL_HEADER}, {})
    with pytest.raises(
        ValueError, match=r"^the header has 200003 commas, colons and brackets, expected at most 131072"
    ):
        files.write(tmp_path / "a", {"metadata": [1] * 200_001}, {})
    assert os.listdir(tmp_path) == []
    wide = {"names": [f"column {k}" for k in range(250_000)]}
    files.write(tmp_path / "a", wide, {"w": np.zeros((250_000, 64), np.float32)})
    assert files.read(tmp_path / "a")[0] == wide


@pytest.mark.parametrize("piece", ["[]", "{}", '{"a":1}', '""', "1.5", "[[1]]", '"\\ud83d\\ude00"'])
def test_the_memory_of_a_header_is_bounded(tmp_path, piece):
    """As many as a file may have of what is small in JSON and large in memory: twice the file and 16 MB."""
    marks = 1 + sum(piece.count(mark) for mark in ",:[{")
    count = min(files.MODEL_HEADER // (len(piece) + 1), (files.MODEL_HEADER // 32) // marks) - 9
    content = sealed(zipped({"header.json": ('{"a":[' + ",".join([piece] * count) + "]}").encode()}))
    (tmp_path / "a").write_bytes(content)
    tracemalloc.start()
    try:
        files.read(tmp_path / "a")
        assert tracemalloc.get_traced_memory()[1] < 2 * len(content) + (16 << 20)
    finally:
        tracemalloc.stop()


def test_other_layouts_and_empty_files(tmp_path):
    for data, message in ((b"", "0 bytes"), (b"PK\3\4" + bytes(100), "not a file"), (b"fastnn\0\x02" + bytes(99), "2")):
        (tmp_path / "a").write_bytes(data)
        with pytest.raises(ModelFormatError, match=message):
            files.read(tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        files.read(tmp_path / "missing")


def test_ctrl_c_before_the_temporary_is_locked_leaves_none(tmp_path, monkeypatch):
    def interrupted(descriptor, wait):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "_lock", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write(tmp_path / "a", {}, {"w": np.arange(3.0)})
    assert list(tmp_path.iterdir()) == []


def test_what_fails_leaves_the_old_file_and_no_temporary(tmp_path, monkeypatch):
    path = tmp_path / "a"
    files.write(path, {"a": 1}, {})
    before = path.read_bytes()

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(os, name, full)
            with pytest.raises(OSError, match="No space"):
                files.write(path, {"a": 2}, ARRAYS)
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["a"]
    with pytest.raises(TypeError):  # JSON cannot hold it
        files.write(path, {"a": object()}, {})
    assert os.listdir(tmp_path) == ["a"] and path.read_bytes() == before


@pytest.mark.parametrize("letter", ["a", "é"])
@pytest.mark.parametrize("size", [1, 119, 120, 121, 233, 234, 254, 255])
def test_a_name_may_have_all_the_bytes_that_the_file_system_takes(letter, size, tmp_path):
    path = tmp_path / f"b{letter * size}".encode()[:size].decode(errors="ignore")
    for epochs in (1, 2):
        files.write(path, {"epochs": epochs}, ARRAYS)
        assert files.read(path)[0] == {"epochs": epochs}
    assert os.listdir(tmp_path) == [path.name]


KILLED = """
    import os, signal
    from fastnn import files
    with files._replacing(files.Path({path!r})) as file:
        file.write(bytes(100))
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals and locks of POSIX")
@pytest.mark.parametrize("name", ["a", "x" * 255, "[a]*?.b", ".hidden"])
def test_what_a_killed_save_left_is_removed_by_the_next_one_of_that_name(name, tmp_path):
    path, other = tmp_path / name, tmp_path / f"{name[:200]}b"
    files.write(path, {"a": 1}, {})
    for target in (path, other):
        assert run_python(KILLED.format(path=str(target))).returncode == -signal.SIGKILL
    lost = set(os.listdir(tmp_path)) - {name}
    mine = {f"{files._prefix(path)}mine.tmp", f"{files._prefix(path)}0123456789abcdef.tmp.gz"}
    for one in mine:
        (tmp_path / one).touch()
    with files._replacing(path) as file:
        file.write(b"later")
        files.write(path, {"a": 2}, {})  # leaves alone what the one around it writes to
        assert files.read(path)[0] == {"a": 2}
    assert path.read_bytes() == b"later"
    left = set(os.listdir(tmp_path)) - mine - {name}
    assert len(lost) == 2 and len(left) == 1 and left < lost
    files.write(other, {}, {})
    assert set(os.listdir(tmp_path)) == mine | {name, other.name}


@pytest.mark.parametrize("write", [lambda path: files.write(path, {}, {}), lambda path: files.write_bytes(path, b"a")])
def test_an_error_names_the_file_that_was_asked_for(tmp_path, monkeypatch, write):
    """Not the temporary, which nobody knows."""
    path = tmp_path / "missing" / "a"
    with pytest.raises(FileNotFoundError) as caught:
        write(path)
    assert str(caught.value) == f"[Errno 2] No such file or directory: {str(path)!r}"

    def refuse(source, target):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), source, None, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError) as caught:
        write(tmp_path / "a")
    assert str(caught.value) == f"[Errno 13] Permission denied: {str(tmp_path / 'a')!r}"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_an_os_error():
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError, match="space"):
        files._Digested(full).write(b"x")


def special(kind, path):
    """A pipe, or a copy of /dev/null."""
    if kind == "pipe":
        os.mkfifo(path)
        return
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("needs the right to make a device")


@pytest.mark.skipif(sys.platform != "linux", reason="devices of Linux")
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_device_or_a_pipe_is_written_to_and_stays_what_it_is(tmp_path, kind):
    path, read = tmp_path / kind, []
    special(kind, path)
    before = os.stat(path).st_rdev, stat.S_IFMT(os.stat(path).st_mode)
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    files.write(path, {"epochs": 3}, {"w": np.arange(3.0)})
    reader.join()
    assert (os.stat(path).st_rdev, stat.S_IFMT(os.stat(path).st_mode)) == before
    assert os.listdir(tmp_path) == [kind]
    if kind == "pipe":
        (tmp_path / "copy").write_bytes(read[0])
        assert files.read(tmp_path / "copy")[0] == {"epochs": 3}


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_the_mode_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        files.write(tmp_path / "a", {}, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_through_a_link_the_file_is_replaced(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    files.write(tmp_path / "link", {"a": 1}, {})
    assert (tmp_path / "link").is_symlink()
    assert files.read(tmp_path / "file")[0] == {"a": 1}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_reading_takes_twice_the_size_of_the_file(tmp_path):
    files.write(tmp_path / "a", {}, {"w": np.ones(1 << 24, np.float32), "v": np.ones(1 << 24, np.float32)})
    result = run_python(f"""
        import resource
        from fastnn import files
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        content = files.read({str(tmp_path / "a")!r})
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
    """)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 2 * (1 << 27) + (1 << 24)


@pytest.mark.skipif(sys.platform != "linux", reason="devices of Linux")
def test_no_more_than_its_first_bytes_is_read_of_another_format(tmp_path):
    """/dev/zero has no end, and 4 GB of zeros took 9 s and 4 GB."""
    with open(tmp_path / "large", "wb") as file:
        file.truncate(1 << 32)
    for path, size in ((tmp_path / "large", 1 << 32), (Path("/dev/zero"), 8)):
        tracemalloc.start()
        try:
            with pytest.raises(ModelFormatError, match=rf"is not a file of fastnn \({size} bytes\)"):
                files.read(path)
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()

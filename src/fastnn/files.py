"""One file of arrays with a header: written whole or not at all, refused if a bit of it changed. Never a pickle.

    MAGIC (8 bytes) | a zip of .npy members, stored, and the header as JSON | SHA-256 (32 bytes) of all before it

The middle is what `numpy.savez` writes, so that other programs can read it: for them a zip may have bytes before and
after it. Here it has none, and no comment: two programs read the same in one file.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import re
import struct
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fastnn import _members, _text
from fastnn.errors import ModelFormatError

Array = np.ndarray
MAGIC = b"fastnn\x00\x01"  # the last byte is the version of this layout
_DIGEST = 32
_PIECE = 1 << 20  # bytes read at once
_HEADER = "header.json"
MODEL_HEADER = 1 << 22  # bytes of JSON, and a 16th of the arrays': 40,000 names of features of 43 letters, twice
# Commas, colons and brackets, of which each may become an object of 80 bytes: in memory [[],[], ...] takes 22 times as
# many bytes as in a file, text as many.
_BYTES_A_MARK = 32
_LOCAL_HEADER = 30  # bytes before a member's name
_STREAMED = 8  # the flag of a member whose sums stand behind it
_MOST_MEMBERS = 1 << 16  # of a zip that others made, for each of which zipfile makes an object of 700 bytes
_ENTRY = b"PK\1\2"  # how a member begins in a zip's directory
_END = b"PK\5\6", 22  # how a zip's last record begins, and its bytes where the zip has no comment
_SAID = 1000  # letters of an error
_DATE = (1980, 1, 1, 0, 0, 0)  # the same content makes the same bytes


class _Digested(io.RawIOBase):
    """Writes through to a file and digests what passes. Not seekable: nothing that was digested changes."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self.file.write(data)
        return memoryview(data).nbytes


def write(
    path: str | os.PathLike[str],
    header: Mapping[str, Any],
    arrays: Mapping[str, Array],
    most_header: int = MODEL_HEADER,
) -> None:
    """Put header (what JSON holds) and arrays into `path`: after a crash at any moment it is the old file or the new.

    A temporary file beside it is written, synced and renamed, then the folder is synced. The mode follows the umask.
    Temporaries that earlier saves to it left when they were killed are removed first.
    OSError where that fails, ValueError where the header has more than most_header bytes and a 16th of the arrays':
    `path` is then what it was, and no temporary is left.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(f"{folder}/a", {"epochs": 3}, {"w": np.arange(3.0)})
    ...     read(f"{folder}/a")
    ({'epochs': 3}, {'w': array([0., 1., 2.])})
    """
    text = json.dumps(header).encode()
    problem = _too_large(text, most_header, sum(np.asanyarray(array).nbytes for array in arrays.values()))
    if problem is not None:
        raise ValueError(f"the header has {problem}: less metadata, or fewer or shorter names")
    with naming(path), _replacing(_text.path("path", path)) as file:
        stream = _Digested(file)
        stream.write(MAGIC)
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as members:
            members.writestr(zipfile.ZipInfo(_HEADER, _DATE), text)
            for name, array in arrays.items():
                with members.open(zipfile.ZipInfo(f"{name}.npy", _DATE), "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
        file.write(stream.digest.digest())


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Put the content into `path`, a file of another format, as `write` does: after a crash the old one or the new.

    ValueError where `path` is a device, a pipe or a folder; OSError where it cannot be written.
    """
    check_regular(path)
    with naming(path), _replacing(_text.path("path", path)) as file:
        file.write(content)


def check_regular(path: str | os.PathLike[str]) -> None:
    """ValueError where `path` is a device, a pipe or a folder."""
    target = _text.path("path", path)
    if target.exists() and not target.is_file():
        raise ValueError(f"path is {os.fspath(path)!r}, which is no regular file, expected one, or a name that is free")


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """An OSError of writing says to which file: that of a full disk has no name, that of a folder which is not there
    the temporary's."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block ends, and vanishes when it fails. A device or a pipe stays
    what it is, and is written to: /dev/null, say, where only the time of a training matters."""
    if path.exists() and not path.is_file():  # asked of the path: what a link of /dev/stdout's leads to has no name
        with open(path, "wb") as file:
            yield file
        return
    target = Path(os.path.realpath(path))  # through a link: the file is replaced, not the link
    _clear(target)
    temporary = target.with_name(f"{_prefix(target)}{os.urandom(8).hex()}.tmp")
    try:  # from before it is there: a Ctrl-C may come between any two lines
        with _locked(temporary) as written:
            yield written
            written.flush()
            os.fsync(written.fileno())
            if os.name == "nt":  # which renames no open file; elsewhere it stays locked until it has its name
                written.close()
            os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """The renaming itself onto the disk; Windows, which has no such call, does so by itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# A process that is killed while it writes leaves its temporary, as large as the file would have been. --------------


def _locked(path: Path) -> BinaryIO:
    """A new file, locked for as long as its owner lives."""
    while True:
        file = open(path, "xb")  # noqa: SIM115
        _lock(file.fileno(), wait=True)
        if path.exists():
            return file
        file.close()  # another save found it before it was locked, and took it for one that was left


def _prefix(target: Path) -> str:
    """How the names of its temporaries begin. File systems take names of 255 bytes, those that encrypt them 143."""
    name = os.fsencode(target.name)
    return f".{target.name if len(name) <= 120 else hashlib.sha256(name).hexdigest()[:32]}."


def _clear(target: Path) -> None:
    """Remove the temporaries that earlier saves to it have left."""
    pattern = re.compile(re.escape(_prefix(target)) + r"[0-9a-f]{16}\.tmp")
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        for entry in list(entries):
            if pattern.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    _remove_abandoned(entry.path)


def _remove_abandoned(path: str) -> None:
    """Remove the file if nobody writes to it any more."""
    if os.name == "nt":  # without such locks: nobody writes for an hour
        if time.time() - os.stat(path).st_mtime > 3600:
            os.unlink(path)
        return
    with open(path, "rb") as file:
        if _lock(file.fileno(), wait=False):
            os.unlink(path)


def _lock(descriptor: int, wait: bool) -> bool:
    """Whether this process alone has the file until it closes it or ends. False where the file system has no locks."""
    if os.name == "nt":
        return False
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _too_large(text: bytes, most_header: int, arrays: int) -> str | None:
    """What a header has too much of beside so many bytes of arrays."""
    limit = most_header + arrays // 16
    marks = sum(text.count(mark) for mark in (b",", b":", b"[", b"{"))
    if len(text) > limit:
        return f"{len(text)} bytes, expected at most {limit}"
    if marks > limit // _BYTES_A_MARK:
        return f"{marks} commas, colons and brackets, expected at most {limit // _BYTES_A_MARK}"
    return None


def check_writable(path: Path) -> None:
    """OSError where no file can be written there, the one of who would; nothing is left behind, and nothing changed."""
    if path.exists() and not path.is_file() and not path.is_dir():
        return  # a device or a pipe, which would wait for who reads
    new = not path.exists()
    with open(path, "ab"):
        pass
    if new:
        path.unlink()


def check_folder(directory: Path) -> None:
    """OSError where no file can be written into the folder, which may have to be made; nothing is left behind."""
    missing = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    made: list[Path] = []
    try:
        for folder in reversed(missing):
            folder.mkdir()
            made.append(folder)
        check_writable(directory / f".{os.urandom(8).hex()}.tmp")
    finally:
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()


def read(
    path: str | os.PathLike[str], most_header: int = MODEL_HEADER, *, views: bool = False
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Header and arrays of a file that `write` made, in memory of twice its size and 16 MB.

    views: for who copies them at once: arrays may be read-only, anywhere in memory, and keep all of the file there.

    OSError where it cannot be read; ModelFormatError where it is not such a file, is damaged, has a larger header than
    `write` takes, or could be read in two ways: two members or two keys of one name, bytes outside of the zip.
    """
    target = _text.path("path", path)
    name = os.fspath(path)
    data = _content(target, name)
    if data[: len(MAGIC) - 1] != MAGIC[:-1] or len(data) < len(MAGIC) + _DIGEST:
        raise ModelFormatError(f"{name} is not a file of fastnn ({len(data)} bytes)")
    if data[len(MAGIC) - 1] != MAGIC[-1]:
        raise ModelFormatError(f"{name} has layout {data[len(MAGIC) - 1]}, expected {MAGIC[-1]}: another version's")
    if hashlib.sha256(memoryview(data)[:-_DIGEST]).digest() != data[-_DIGEST:]:
        raise ModelFormatError(f"{name} is damaged: its content does not have the digest that was stored with it")
    try:
        found = _members.members(memoryview(data)[len(MAGIC) : -_DIGEST])
        if found is not None and _HEADER in found:
            return _parsed(found, most_header, views)
        content = io.BytesIO(memoryview(data)[len(MAGIC) : -_DIGEST])
        del data, found
        return _of_zip(content, most_header)
    except ModelFormatError as error:
        raise ModelFormatError(f"{name}: {brief(error)}") from None
    except zipfile.BadZipFile as error:
        raise ModelFormatError(f"{name} cannot be read: {brief(error)}") from None
    except Exception as error:  # of zipfile, json and numpy, which do not say what they may raise
        raise ModelFormatError(f"{name} cannot be read: {type(error).__name__}: {brief(error)}") from None


def _content(path: Path, name: str) -> bytes:
    """All of it at once: what changes in the file from then on changes nothing. ModelFormatError, before more is read
    than its first bytes, where these are another format's: a file of 4 GB, or /dev/zero, which has no end."""
    with open(path, "rb") as file:
        begin = file.read(len(MAGIC))
        if begin[: len(MAGIC) - 1] != MAGIC[:-1]:
            size = os.fstat(file.fileno()).st_size or len(begin)
            raise ModelFormatError(f"{name} is not a file of fastnn ({size} bytes)")
        if not file.seekable():
            return begin + file.read()
        file.seek(0)
        return file.read()


def brief(message: object) -> str:
    """What it says, without the rest of a text that is as long as who made the file has wanted."""
    said = str(message)
    return said if len(said) <= _SAID else f"{said[:_SAID]} ..."


def _parsed(found: dict[str, memoryview], most_header: int, views: bool) -> tuple[dict[str, Any], dict[str, Array]]:
    """Header and arrays of the members of a zip that is as `write` makes it."""
    header = _header(bytes(found[_HEADER]), most_header, sum(map(len, found.values())) - len(found[_HEADER]))
    arrays = {}
    for name, content in found.items():
        if name == _HEADER:
            continue
        view = _members.array(content)
        named = _name(name)
        if view is None:
            view = _array(io.BytesIO(content), name, len(content))
        elif not views:
            view = view.copy()
        arrays[named] = view
    return header, arrays


def _name(member: str) -> str:
    """The array's name. ModelFormatError for a member that is none: "w" and "w.npy" would be one array."""
    if not member.endswith(".npy"):
        raise ModelFormatError(f"member {member!r} is neither {_HEADER} nor an array, whose name ends with .npy")
    return member.removesuffix(".npy")


def _header(text: bytes, most_header: int, arrays: int) -> dict[str, Any]:
    """What the JSON says. ModelFormatError where it is too large beside so many bytes of arrays, or no object."""
    problem = _too_large(text, most_header, arrays)
    if problem is not None or not text.isascii():  # JSON as `write` makes it: a letter beyond needs 6 of its bytes
        raise ModelFormatError(f"its header has {problem or 'bytes that are not ASCII'}")
    header = json.loads(text, object_pairs_hook=_without_repetition)
    if not isinstance(header, dict):
        raise ModelFormatError(f"the header is a {type(header).__name__}, expected an object")
    return header


def _of_zip(content: io.BytesIO, most_header: int) -> tuple[dict[str, Any], dict[str, Array]]:
    if content.getvalue().count(_ENTRY) > _MOST_MEMBERS:
        raise ModelFormatError(f"it has more than {_MOST_MEMBERS} members")
    with zipfile.ZipFile(content) as members:
        infos = members.infolist()
        names = [info.filename for info in infos]
        if len(set(names)) < len(names):
            raise ModelFormatError("a member is there twice")
        if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
            raise ModelFormatError("a member is compressed, expected stored ones")
        if sum(info.file_size for info in infos) > len(content.getbuffer()):
            raise ModelFormatError("its members are larger than the file")
        ends = bytes(content.getbuffer()[-_END[1] :]).startswith(_END[0])
        if not ends or members.comment or infos[0].header_offset != 0:
            raise ModelFormatError("it has bytes before its zip or behind it")
        _check_gaps(content.getbuffer(), infos, members.start_dir)
        text = members.read(_HEADER)
        header = _header(text, most_header, sum(info.file_size for info in infos) - len(text))
        arrays = {}
        for info in infos:
            if info.filename == _HEADER:
                continue
            named = _name(info.filename)
            with members.open(info) as member:
                arrays[named] = _array(member, info.filename, info.file_size)
    return header, arrays


def _check_gaps(data: memoryview, infos: list[zipfile.ZipInfo], directory: int) -> None:
    """ModelFormatError where bytes lie between two members: who reads a zip from its beginning finds others there."""
    infos = sorted(infos, key=lambda info: info.header_offset)
    nexts = [*(info.header_offset for info in infos[1:]), directory]
    for info, following in zip(infos, nexts, strict=True):
        begin = info.header_offset + _LOCAL_HEADER
        letters, extra = struct.unpack_from("<2H", data, begin - 4)
        behind = following - (begin + letters + extra + info.compress_size)
        if behind not in ((12, 16, 20, 24) if info.flag_bits & _STREAMED else (0,)):
            raise ModelFormatError("it has bytes between its members")


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ModelFormatError("its header has a key twice")
    return made


def _array(member: Any, name: str, length: int) -> Array:
    """The array of a member, whose own header may not ask for more memory than the member has bytes."""
    version = np.lib.format.read_magic(member)
    reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if reader is None:
        raise ModelFormatError(f"{name} has version {version} of NumPy's format")
    shape, fortran, dtype = reader(member)
    if dtype.hasobject or dtype.kind not in "biufc":
        raise ModelFormatError(f"{name} has dtype {dtype}, expected numbers")
    size = math.prod(shape) * dtype.itemsize  # of Python's integers, which do not wrap
    if any(extent < 0 for extent in shape) or size != length - member.tell():
        raise ModelFormatError(f"{name} has shape {shape} of {dtype}, which does not match its size")
    array = np.empty(size, np.uint8)
    for start in range(0, size, _PIECE):
        piece = member.read(min(_PIECE, size - start))
        array[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
    return array.view(dtype).reshape(shape, order="F" if fortran else "C")

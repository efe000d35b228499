"""The members of a zip as `files.write` lays them out, without a copy of them. All that is otherwise is zipfile's.

A small model's file is read in a sixth of zipfile's and NumPy's time: they open a member, read its header in pieces and
compile what is in it.
"""

from __future__ import annotations

import re
import struct
import zlib

import numpy as np

Array = np.ndarray
_END = struct.Struct("<4s4H2LH")
_ENTRY = struct.Struct("<4s4B4HL2L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_DESCRIPTORS = (struct.Struct("<4sL2L"), struct.Struct("<4sL2Q"))  # behind what was written as a stream
_STREAMED = 8  # the flag of those
_LARGE = 0xFFFFFFFF  # stands for a size that is elsewhere
_NEWEST = 45  # the version of the format that has zip64
_NAME = re.compile(rb"[\w .()+-]+", re.ASCII)
_NPY = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '([<>|][biufc][0-9]{1,2})', 'fortran_order': False, "
    rb"'shape': \(((?:(?:0|[1-9][0-9]{0,14}), ?)*(?:0|[1-9][0-9]{0,14})?)\), \} *\n",
    re.DOTALL,
)
_NUMBERS = {f"{order}{kind}" for order in "<>" for kind in ("i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8")}
_NUMBERS |= {"|i1", "|u1", "|b1"}


def members(data: memoryview) -> dict[str, memoryview] | None:
    """The content of each member by its name; None where anything is not as `write` has it, or a checksum is wrong.

    What is given is what zipfile reads: one member after the other from the first byte to the directory, that and its
    end, whose entries say the same as what stands before each member; names of plain letters, each once.
    """
    if len(data) < _END.size:
        return None
    mark, disk, first_disk, here, count, size, start, comment = _END.unpack_from(data, len(data) - _END.size)
    whole = mark == b"PK\5\6" and disk == first_disk == comment == 0 and here == count > 0
    if not whole or start + size + _END.size != len(data):
        return None
    made: dict[str, memoryview] = {}
    place, member = start, 0
    for _ in range(count):
        if place + _ENTRY.size > start + size:
            return None
        entry = _ENTRY.unpack_from(data, place)
        (flags, method), (crc, packed, length, letters) = entry[5:7], entry[9:13]
        name = bytes(data[place + _ENTRY.size : place + _ENTRY.size + letters])
        known = entry[0] == b"PK\1\2" and entry[3] <= _NEWEST and flags in (0, _STREAMED) and method == 0
        plain = not any((entry[4], *entry[13:16])) and _NAME.fullmatch(name)  # no extra field, comment, other disk
        if not known or not plain or packed != length or length == _LARGE or entry[18] != member:
            return None
        found = _content(data[:start], member, name, flags, length, crc)
        if found is None or name.decode() in made:
            return None
        made[name.decode()], member = found
        place += _ENTRY.size + letters
    return made if place == start + size and member == start else None


def _content(
    data: memoryview, place: int, name: bytes, flags: int, length: int, crc: int
) -> tuple[memoryview, int] | None:
    """What is in the member that begins at a place, and where the next one begins."""
    if place + _LOCAL.size > len(data):
        return None
    mark, _, local_flags, method, _, _, *sums, letters, extra = _LOCAL.unpack_from(data, place)
    if not flags & _STREAMED and (extra or sums != [crc, length, length]):
        return None
    begin = place + _LOCAL.size + letters + extra
    end = begin + length
    same = data[place + _LOCAL.size : place + _LOCAL.size + letters] == name
    if mark != b"PK\3\4" or local_flags != flags or method != 0 or not same or end > len(data):
        return None
    content = data[begin:end]
    if zlib.crc32(content) != crc:
        return None
    if flags & _STREAMED:
        form = _DESCRIPTORS[extra > 0]  # of 64 bits where what stands before the member says so
        if end + form.size > len(data) or form.unpack_from(data, end) != (b"PK\7\x08", crc, length, length):
            return None
        end += form.size
    return content, end


def array(content: memoryview) -> Array | None:
    """The numbers of a .npy file, as a view of it; None where it is not one as `write` makes them, in C order."""
    found = _NPY.match(content)
    if found is None or found.end() != 10 + int.from_bytes(content[8:10], "little"):
        return None
    descr = found[1].decode()
    shape = tuple(int(extent) for extent in found[2].decode().split(",") if extent.strip())
    if descr not in _NUMBERS or (len(shape) == 1 and b"," not in found[2]):
        return None
    dtype = np.dtype(descr)
    size = dtype.itemsize
    for extent in shape:
        size *= extent
    if size != len(content) - found.end() or len(shape) > 32:
        return None
    return np.frombuffer(content, dtype, offset=found.end()).reshape(shape)

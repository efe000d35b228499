"""Files of models and estimators, and checkpoints, and what may become of their bytes, at random. No checks.

A `Draft` is a file taken apart: the members of its zip, of which the header and the arrays can be read. `SPOILERS`
change it in their way, from the JSON within to the bytes of the whole; only the last leaves a digest that is wrong.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import importlib.util
import io
import json
import random
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import every_layer

import fastnn
from fastnn import Sequential, Trainer, files, nn, optim

Random = random.Random


def set_in_header(path: Path, where: tuple[Any, ...], value: Any) -> None:
    """Write the file again with another value at that place of its header, and a digest that is right."""
    header, arrays = files.read(path)
    spot: Any = header
    for key in where[:-1]:
        spot = spot[key]
    spot[where[-1]] = value
    files.write(path, header, arrays)


Tree = Any  # of what JSON holds
X = np.random.default_rng(0).normal(size=(40, 4))
Y = np.arange(40) % 3

# The files ---------------------------------------------------------------------------------------------------------


def trainer(optimizer: str = "adam") -> Trainer:
    layers = [nn.Normalize(), nn.Dense(5, "tanh"), nn.BatchNorm(), nn.Dropout(0.2), nn.Dense(3)]
    return Trainer(
        Sequential(layers), "cross_entropy", optimizer, schedule=optim.Cosine(), metrics=["accuracy"], seed=3
    )


def callbacks() -> list[fastnn.Callback]:
    return [fastnn.EarlyStopping(patience=6), fastnn.ReduceLROnPlateau("loss", 0.5, 1), fastnn.EMA(0.9, every=2)]


def fit(made: Trainer, *more: fastnn.Callback, **settings: Any) -> Trainer:
    """15 steps in 3 epochs, of 32 rows."""
    settings = dict(epochs=3, batch_size=7, validation=0.2, verbose=False) | settings
    return made.fit(X, Y, callbacks=[*callbacks(), *more], **settings) and made


def _models(folder: Path) -> None:
    plain = Sequential([nn.Dense(2, "leaky_relu")]).build(3, seed=0)
    plain.loss = nn.Huber(0.5)
    plain.save(folder / "plain")
    fitted = fit(trainer()).model
    fitted.feature_names = ["a", "b", "c", "é"]
    fitted.save(folder / "fitted", metadata={"classes": ["x", 1, None, 2.5, True], "nested": {"x": [[], {}]}})
    Sequential(every_layer(4, 2), dtype=np.float64).build((2, 4), seed=0).save(folder / "every layer")
    Sequential([nn.Dense(2, nn.PReLU()), nn.Residual([nn.Dense(2)])]).save(folder / "unbuilt")


def _estimators(folder: Path) -> None:
    """In which everything that such a file may have is somewhere."""
    small: dict[str, Any] = dict(hidden_layer_sizes=(3,), max_iter=2, random_state=0)
    names = np.array(["a", "bb", "ccc"])[Y]
    more = dict(optimizer=optim.AdamW(0.01), schedule=optim.Warmup(1, then=optim.Cosine()), class_weight={"a": 2.0})
    made = {
        "text": fastnn.MLPClassifier(**small, **more, activation=[nn.PReLU()], n_iter_no_change=np.inf).fit(X, names),
        "stopped": fastnn.MLPClassifier(**small, early_stopping=True, batch_norm=True).fit(X, Y),
        "labels": fastnn.MLPClassifier(**small, solver="lbfgs", loss=nn.BinaryCrossEntropy(0.1)).fit(X, np.eye(3)[Y]),
        "columns": fastnn.MLPClassifier(**small, dropout=[0.1]).fit(X, np.stack([Y, Y > 1], axis=1)),
        "values": fastnn.MLPRegressor(**small, dtype="float32", restore_best=False, early_stopping=True).fit(X, X),
        "unfitted": fastnn.MLPRegressor(nn.Huber(2.0), hidden_layer_sizes=[2, 3], activation=["tanh", nn.Maxout(3)]),
    }
    for name, estimator in made.items():
        estimator.save(folder / f"estimator of {name}")


def _checkpoints(folder: Path) -> None:
    for name, every in (("adam", 4), ("momentum", "epoch")):
        fit(trainer(name), fastnn.Checkpoint(folder / name, every=every, keep=None))
        kept = sorted((folder / name).glob("epoch-*"))
        kept[1].rename(folder / f"{name}, {kept[1].name}")


@functools.cache
def contents() -> dict[str, bytes]:
    """Files by name: checkpoints are called by their optimizer."""
    with tempfile.TemporaryDirectory() as folder:
        _models(Path(folder))
        if importlib.util.find_spec("sklearn") is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of fits that end early
                _estimators(Path(folder))
        _checkpoints(Path(folder))
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir()) if path.is_file()}


# Taken apart -------------------------------------------------------------------------------------------------------


class Draft:
    """A file as its members; `tail` is done to its bytes last, `sealed` says whether the digest is made anew."""

    def __init__(self, rng: Random, name: str) -> None:
        self.rng, self.name = rng, name
        self.original = contents()[name]
        with zipfile.ZipFile(io.BytesIO(self.original)) as members:
            self.members = [(info.filename, members.read(info)) for info in members.infolist()]
        self.compression, self.comment = zipfile.ZIP_STORED, b""
        self.tail: list[Callable[[bytearray], bytearray]] = []
        self.sealed = True

    @property
    def header(self) -> Tree:
        return json.loads(self.members[0][1])

    @header.setter
    def header(self, header: Tree) -> None:
        self.text(json.dumps(header).encode())

    def text(self, text: bytes) -> None:
        self.members[0] = ("header.json", text)

    def an_array(self) -> int:
        """The place of one among the members, or 0 where there is none."""
        return self.rng.randrange(1, len(self.members)) if len(self.members) > 1 else 0

    def __bytes__(self) -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", self.compression) as archive:
            archive.comment = self.comment
            for name, data in self.members:
                archive.writestr(zipfile.ZipInfo(name), data, self.compression)
        middle = bytearray(stream.getvalue())
        if not self.sealed:
            middle = bytearray(self.original[len(files.MAGIC) : -32])
        for change in self.tail if self.sealed else ():
            middle = change(middle)
        body = files.MAGIC + bytes(middle)
        made = bytearray(body + (hashlib.sha256(body).digest() if self.sealed else self.original[-32:]))
        for change in () if self.sealed else self.tail:
            made = change(made)
        return bytes(made)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=True)
    return stream.getvalue()


def read_npy(data: bytes) -> np.ndarray:
    return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)


# The header --------------------------------------------------------------------------------------------------------

VALUES: tuple[Tree, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    3,
    2**31,
    2**53 + 1,
    2**64,
    10**40,
    -(2**63),
    0.0,
    -0.0,
    0.5,
)
VALUES += (
    1e-320,
    1e300,
    float("nan"),
    float("inf"),
    -float("inf"),
    "",
    "relu",
    "Dense",
    "mse",
    "float32",
    "\ud800",
    "\0",
)
VALUES += ("x" * 3000, [], {}, [[]], [0], [1, 2], {"kind": "relu", "alpha": 0}, {"kind": "Softmax"}, {"": None})
KEYS = (
    "kind",
    "units",
    "activation",
    "init",
    "alpha",
    "layers",
    "dtype",
    "inputs",
    "loss",
    "name",
    "array",
    "items",
    "",
)


def branches(tree: Tree) -> list[Tree]:
    """Every list and object in it that has something."""
    found, left = [], [tree]
    while left:
        one = left.pop()
        if isinstance(one, (dict, list)) and one:
            found.append(one)
            left += one.values() if isinstance(one, dict) else one
    return found


def in_header(change: Callable[[Random, Tree, list[Any], Tree], None]) -> Callable[[Draft], None]:
    """What changes one branch of the header, in a draft; it gets the branch, its keys and the whole."""

    def spoil(draft: Draft) -> None:
        header = draft.header
        branch = draft.rng.choice(branches(header))
        change(draft.rng, branch, list(branch) if isinstance(branch, dict) else list(range(len(branch))), header)
        draft.header = header

    spoil.__name__ = change.__name__
    return spoil


def another_value(rng: Random, branch: Tree, keys: list[Any], whole: Tree) -> None:
    key = rng.choice(keys)
    value = branch[key]
    if type(value) in (int, float) and rng.random() < 0.5:
        branch[key] = rng.choice((value + 1, value - 1, value * 2, -value, float(value), str(value), [value]))
    else:
        branch[key] = copy.deepcopy(rng.choice(VALUES))


def left_out(rng: Random, branch: Tree, keys: list[Any], whole: Tree) -> None:
    del branch[rng.choice(keys)]


def one_more(rng: Random, branch: Tree, keys: list[Any], whole: Tree) -> None:
    value = copy.deepcopy(rng.choice((branch[rng.choice(keys)], rng.choice(VALUES))))
    if isinstance(branch, dict):
        branch[rng.choice(KEYS)] = value
    else:
        branch.insert(rng.randrange(len(branch) + 1), value)


def exchanged(rng: Random, branch: Tree, keys: list[Any], whole: Tree) -> None:
    a, b = rng.choice(keys), rng.choice(keys)
    branch[a], branch[b] = branch[b], branch[a]


def from_elsewhere(rng: Random, branch: Tree, keys: list[Any], whole: Tree) -> None:
    branch[rng.choice(keys)] = copy.deepcopy(rng.choice(branches(whole)))


def deeper(rng: Random, branch: Tree, keys: list[Any], whole: Tree) -> None:
    key, depth = rng.choice(keys), rng.choice((1, 2, 40, 120, 900))
    for _ in range(depth):
        branch[key] = [branch[key]] if rng.random() < 0.5 else {"kind": "Activation", "activation": branch[key]}


def other_text(draft: Draft) -> None:
    """JSON that is not quite JSON, or two readings in one."""
    rng, text = draft.rng, bytearray(draft.members[0][1] or b"{}")
    place = rng.randrange(len(text))
    kind = rng.randrange(7)
    if kind == 0:
        del text[place:]
    elif kind == 1:
        text[place] = rng.randrange(256)
    elif kind == 2:
        text[place:place] = rng.choice(
            (b",", b"}", b"]", b"NaN", b"\xff", b"\\u0000", b'"a":1,', b"1e999", b"-", b"\0")
        )
    elif kind == 3:
        text += rng.choice((b" ", b"{}", b"\0", b"//"))
    elif kind == 4:
        text = bytearray(text.replace(b'"kind":', b'"kind": "Softmax", "kind":', 1))
    elif kind == 5:
        text[:0] = rng.choice((b"\xef\xbb\xbf", b" " * 2000, b"[" * 50_000, b'{"a":' * 50_000))
    else:
        text = bytearray(text.decode(errors="replace").encode(rng.choice(("utf-16", "utf-32", "utf-16-le"))))
    draft.text(bytes(text))


# The arrays --------------------------------------------------------------------------------------------------------


def other_array(draft: Draft) -> None:
    rng, place = draft.rng, draft.an_array()
    if not place:
        return
    name, data = draft.members[place]
    try:
        array = read_npy(data)
    except Exception:  # of one that was spoiled before
        return
    flat = array.reshape(-1)
    with np.errstate(all="ignore"):
        changed: Callable[[], np.ndarray] = rng.choice(
            (
                lambda: array.astype(rng.choice(("f2", "f4", "f8", ">f4", ">f8", "i4", "u1", "c16", "?", "U3", "O"))),
                lambda: flat[: rng.randrange(flat.size + 1)],
                lambda: np.concatenate([flat, flat[:1]]),
                lambda: array[None],
                lambda: flat,
                lambda: array.T,
                lambda: np.asfortranarray(array),
                lambda: array * np.nan,
                lambda: array * -1e30,
                lambda: np.zeros((0, *array.shape[1:]), array.dtype),
                lambda: np.zeros(3, [("a", "f4"), ("b", "i4")]),
                lambda: np.array(7, array.dtype),
            )
        )
        draft.members[place] = (name, npy(changed()))


SHAPES = (
    "(1,)",
    "(-1,)",
    f"({1 << 40},)",
    f"({1 << 32}, {1 << 32})",
    "()",
    "(2.0,)",
    "('a',)",
    "3",
    "(True,)",
    "(0, 5)",
)
TEXTS = (
    "{'descr': (",
    "'''",
    "if 1:\n 2",
    "{'descr': '<f4'}",
    "[]",
    "{}",
    "{'descr': ()}",
    "lambda: 0",
    "1" * 5000,
    "\0",
)
DESCRS = ("'<f4'", "'|O'", "'<M8[s]'", "'V4'", "[('a', '<f4')]", "('<f4', (2,))", "'<f4x'", "None", "'<f16'", "{}")


def other_npy(draft: Draft) -> None:
    """Another header of NumPy's before the same values, or other bytes."""
    rng, place = draft.rng, draft.an_array()
    if not place:
        return
    name, data = draft.members[place]
    kind = rng.randrange(4)
    if kind == 0:
        shape, descr = rng.choice(SHAPES), rng.choice(DESCRS)
        text = f"{{'descr': {descr}, 'fortran_order': {rng.choice((True, False, 0, None))}, 'shape': {shape}}}"
    else:
        text = rng.choice(TEXTS)
    if kind < 2:
        size = len(text).to_bytes(2, "little")
        data = b"\x93NUMPY" + rng.choice((b"\1\0", b"\2\0", b"\3\0", b"\0\0")) + size + text.encode() + data[128:]
    elif kind == 2:
        changed = bytearray(data)
        changed[rng.randrange(min(len(data), 140))] ^= 1 << rng.randrange(8)
        data = bytes(changed)
    else:
        data = rng.choice((data[: rng.randrange(len(data) + 1)], data + b"x", b"", b"\x80\x04."))
    draft.members[place] = (name, data)


def other_members(draft: Draft) -> None:
    rng, members = draft.rng, draft.members
    if not members:  # the one there was is gone already
        return
    place = rng.randrange(len(members))
    kind = rng.randrange(6)
    if kind == 0:
        del members[place]
    elif kind == 1:
        members.append(
            (rng.choice((*[name for name, _ in members], "extra.npy", "../a.npy", "/a", "a/", "")), members[-1][1])
        )
    elif kind == 2:
        other = rng.randrange(len(members))
        members[place], members[other] = members[other], members[place]
    elif kind == 3:
        other = rng.randrange(len(members))
        members[place], members[other] = (members[place][0], members[other][1]), (members[other][0], members[place][1])
    elif kind == 4:
        members[place] = (
            rng.choice(("header.json", "x.npy", "1.weight.npy", "parameters.npy", "é.npy")),
            members[place][1],
        )
    else:
        draft.compression = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2))
    if not members or rng.random() < 0.05:
        draft.comment = b"another"


# The bytes ---------------------------------------------------------------------------------------------------------


def any_bytes(rng: Random, data: bytearray) -> bytearray:
    """Flipped, cut, doubled, moved, filled with zeros."""
    size = max(1, len(data))
    start, end = sorted((rng.randrange(size), rng.randrange(size)))
    kind = rng.randrange(7)
    if kind == 0 and data:
        data[start] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[start:]
    elif kind == 2:
        data += rng.choice((b"\0", bytes(100), bytes(data)))
    elif kind == 3:
        data[:0] = rng.choice((b"\0", bytes(100)))
    elif kind == 4:
        del data[start : min(end, start + 20)]
    elif kind == 5:
        data[start : start + 8] = rng.choice((bytes(8), b"\xff" * 8, b"\0\0\0\0\0\0\0\x80"))[: max(0, size - start)]
    else:
        data[start:start] = data[start : min(end, start + 50)]
    return data


def damaged(draft: Draft) -> None:
    """Any bytes of the file itself, whose digest stays as it was."""
    draft.sealed = False
    draft.tail.append(lambda data: any_bytes(draft.rng, data))


def other_zip(draft: Draft) -> None:
    """Bytes of the zip, with a digest that is right; half of the time of its directory, at its end."""

    def change(data: bytearray) -> bytearray:
        start = data.find(b"PK\1\2")
        if start < 0 or draft.rng.random() < 0.5:
            return any_bytes(draft.rng, data)
        return data[:start] + any_bytes(draft.rng, data[start:])

    draft.tail.append(change)


SPOILERS: tuple[Callable[[Draft], None], ...] = (
    *(in_header(change) for change in (another_value, left_out, one_more, exchanged, from_elsewhere, deeper)),
    other_array,
    other_npy,
    other_text,  # in this order: from here on the header may be no JSON
    other_members,
    other_zip,
    damaged,
)
OFTEN = (8, 2, 2, 2, 3, 1, 4, 3, 2, 3, 4, 3)

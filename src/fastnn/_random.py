"""Counter-based random bits, identical in every backend, and the shuffles drawn from them. No state.

Philox4x32 with 7 rounds, the fewest that pass BigCrush (Salmon et al. 2011, table 2). The bits of element
e = row * columns + column of operation `op` in step `step` are word e mod 4 of

    philox(counter = (e div 4, op, low 32 bits of step, high 32 bits of step), key = (low, high 32 bits of seed))

so they depend on nothing else: not on the thread, the backend or the order of evaluation. The order in which an epoch
visits the rows is drawn from them too: see `shuffle`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

ROUNDS = 7
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW_32 = 0xFFFFFFFF
_LOW = np.uint64(_LOW_32)
_SHIFT = np.uint64(32)

_DRAWN = 1 << 13  # places of a shuffle drawn at a time: under 1 MB, where all those of 10^7 rows were 1 GB
SHUFFLE = 0xFFFFFFFF  # the operation that the bits of a shuffle belong to: no plan has that many


class Key(NamedTuple):
    """What a random operation's bits depend on, beside the element's index."""

    seed: int  # 64 bits
    step: int  # 64 bits
    op: int  # 32 bits: the operation's index in the plan

    def words(self) -> tuple[int, int, int, int]:
        """Seed and step, each its low 32 bits and its high ones."""
        return self.seed & _LOW_32, (self.seed >> 32) & _LOW_32, self.step & _LOW_32, (self.step >> 32) & _LOW_32


def philox(counter: Sequence[Any], key: tuple[int, int], rounds: int = ROUNDS) -> tuple[np.ndarray, ...]:
    """Philox4x32: four uint64 words below 2^32, for a counter of four such words (arrays or scalars)."""
    c0, c1, c2, c3 = (np.asarray(c, dtype=np.uint64) for c in counter)
    k0, k1 = key
    for _ in range(rounds):
        p0 = c0 * np.uint64(MULTIPLIERS[0])
        p1 = c2 * np.uint64(MULTIPLIERS[1])
        c0, c1, c2, c3 = (
            (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0),
            p1 & _LOW,
            (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1),
            p0 & _LOW,
        )
        k0 = (k0 + WEYL[0]) & _LOW_32
        k1 = (k1 + WEYL[1]) & _LOW_32
    return c0, c1, c2, c3


def bits(key: Key, shape: tuple[int, int], first: int = 0) -> np.ndarray:
    """The uint32 random bits of every element of a (rows, columns) operation, or of a part of one that begins with
    element `first`, a multiple of 4."""
    size = shape[0] * shape[1]
    blocks = np.arange(first // 4, first // 4 + (size + 3) // 4, dtype=np.uint64)
    seed_low, seed_high, step_low, step_high = key.words()
    words = philox((blocks, key.op, step_low, step_high), (seed_low, seed_high))
    return np.stack(words, axis=1).astype(np.uint32).reshape(-1)[:size].reshape(shape)


def drop_threshold(rate: float) -> int:
    """An element is dropped when its bits are below this: rate * 2^32, rounded."""
    return round(rate * 4294967296.0)


def generator(seed: int, stream: int) -> np.random.Generator:
    """NumPy's generator for one of the 2^64 streams of a 64-bit seed."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream], dtype=np.uint64)))


def epoch_key(seed: int, epoch: int) -> Key:
    """Whose bits shuffle the rows in an epoch."""
    return Key(seed, epoch, SHUFFLE)


def shuffle(key: Key, order: np.ndarray) -> None:
    """order (n,) int64 <- 0 .. n-1 shuffled, n < 2^31: for i = n-1 down to 1, places i and floor(b_i (i+1) / 2^64) are
    swapped, where b_i has the bits of elements 2i (its low half) and 2i + 1.

    Fisher & Yates as in Durstenfeld 1964, indices as in Lemire 2019 without the rejection: no order is more likely than
    another by more than n^2 / 2^64.
    """
    order[...] = np.arange(len(order))
    rows = order.data  # swaps depend on each other: 0.1 us one through a view, 4 times that in the array itself
    for first in range((len(order) - 1) // _DRAWN * _DRAWN, -1, -_DRAWN):
        last = min(first + _DRAWN, len(order))
        for i, place in zip(range(last - 1, first - 1, -1), _places(key, first, last), strict=True):
            rows[i], rows[place] = rows[place], rows[i]


def _places(key: Key, first: int, last: int) -> list[int]:
    """floor(b_i (i+1) / 2^64) for i = last-1 down to first."""
    words = bits(key, (last - first, 2), 2 * first).astype(np.uint64)
    count = np.arange(first + 1, last + 1, dtype=np.uint64)
    places: list[int] = ((words[:, 1] * count + (words[:, 0] * count >> _SHIFT)) >> _SHIFT)[::-1].tolist()
    return places


def permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """The order (n,) int64 in which epoch `epoch` visits the rows: a uniform shuffle of 0 .. n-1."""
    order = np.empty(n, dtype=np.int64)
    shuffle(epoch_key(seed, epoch), order)
    return order

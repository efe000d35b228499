"""fork, turn, join: skips, in a plan that stays flat. He et al. 2016.

    fork  body ...                     join     a = body(x) + x
    fork  body ...  turn  shortcut ... join     a = body(x) + shortcut(x)

They nest like brackets. fork remembers its x, and passes it on; turn remembers what the body made, and goes back to the
fork's x; join adds what is remembered. Backward, each hands its da to whom it took x from.
"""

from __future__ import annotations

import numpy as np

from fastnn.ops.operation import Array, Operation
from fastnn.ops.spec import Spec


class fork(Operation):
    """a = x, which a turn or a join reads again."""

    spec = Spec(forward="x -> x", backward="da dother -> dx~da")
    bracket = "opens"

    @staticmethod
    def backward(da: Array, dother: Array, dx: Array) -> None:
        np.add(da, dother, out=dx)


class turn(Operation):
    """a = the fork's x; its own x is what the join adds."""

    spec = Spec(forward="other -> a", backward="dother -> dx", x="BF", a="BG")
    bracket = "turns"

    @staticmethod
    def forward(other: Array, a: Array) -> None:
        a[...] = other

    @staticmethod
    def backward(dother: Array, dx: Array) -> None:
        dx[...] = dother


class join(Operation):
    """a = x + what the fork or the turn remembers."""

    spec = Spec(forward="x other -> a~x", backward="da -> dx~da")
    bracket = "closes"

    @staticmethod
    def forward(x: Array, other: Array, a: Array) -> None:
        np.add(x, other, out=a)

    @staticmethod
    def backward(da: Array, dx: Array) -> None:
        dx[...] = da

"""The operations rnn, gru and lstm: a state that goes from position to position.

Positions are steps in time, in their order; before the first the state is 0, and no product is made of it. `before` is
the state that each step began with, which the gradient of u needs as a matrix. Backward goes through time the other
way: at each step dh is what comes from the output there and from the step behind it (Werbos 1990).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastnn.formulas.activations import ACTIVATIONS
from fastnn.ops.dense import dense
from fastnn.ops.operation import Array, Operation, Shape
from fastnn.ops.spec import Spec

_sigmoid = ACTIVATIONS["sigmoid"].value


def _products(t: int, h: Array, u: Array, start: Array | float) -> Array | float:
    """start + h u, where there is a state already."""
    return start + h @ u if t else start


def _remember(a: Array, before: Array) -> None:
    before[:, 0], before[:, 1:] = 0.0, a[:, :-1]


def _gates(a: Array) -> Array:
    return np.empty((*a.shape[:2], 4 * a.shape[2]), a.dtype)


def _of_inputs(x: Array, w: Array, d: Array, dx: Array | None, dw: Array, db: Array) -> None:
    """What reaches x, w and b of the gradients d of the gates."""
    if dx is not None:
        np.matmul(d, w.T, out=dx)
    _of_matrix(x, d, dw, db)


def _of_matrix(x: Array, d: Array, dw: Array, db: Array) -> None:
    dense.gradients(x.reshape(-1, x.shape[2]), d.reshape(-1, d.shape[2]), dw, db)


class rnn(Operation):
    """a_t = f(x_t w + a_{t-1} u + b), f = tanh or, with relu = 1, max(0, .). Elman 1990."""

    spec = Spec(
        params="w:IO u:OO b:O",
        settings="relu",
        scratch="before:BPO dgates:BPO",
        forward="x w u b relu -> before a",
        backward="x w u relu before a da -> dgates dx? dw du db",
        predict="x w u b relu -> a",
        x="BPI",
        a="BPO",
    )

    @staticmethod
    def fits(inputs: Shape, outputs: Shape, settings: Mapping[str, float]) -> bool:
        return inputs[:-1] == outputs[:-1] and settings["relu"] in (0.0, 1.0)

    @staticmethod
    def forward(x: Array, w: Array, u: Array, b: Array, relu: float, before: Array, a: Array) -> None:
        f = ACTIVATIONS["relu" if relu else "tanh"].value
        np.matmul(x, w, out=a)
        a += b
        for t in range(a.shape[1]):
            a[:, t] = f(a[:, t] + _products(t, a[:, t - 1], u, 0.0), 0.0)
        _remember(a, before)

    @staticmethod
    def predict(x: Array, w: Array, u: Array, b: Array, relu: float, a: Array) -> None:
        rnn.forward(x, w, u, b, relu, np.empty_like(a), a)

    @staticmethod
    def backward(
        x: Array, w: Array, u: Array, relu: float, before: Array, a: Array, da: Array,
        dgates: Array, dx: Array | None, dw: Array, du: Array, db: Array,
    ) -> None:  # fmt: skip
        derivative = ACTIVATIONS["relu" if relu else "tanh"].derivative
        for t in reversed(range(a.shape[1])):
            dh = da[:, t] if t + 1 == a.shape[1] else da[:, t] + dgates[:, t + 1] @ u.T
            dgates[:, t] = dh * derivative(a[:, t], 0.0)
        _of_inputs(x, w, dgates, dx, dw, db)
        _of_matrix(before, dgates, du, db)


class gru(Operation):
    """r, z = sigmoid(x_t w + b + a_{t-1} u + bu), n = tanh(x_t w + b + r (a_{t-1} u + bu)), a_t = (1 - z) n +
    z a_{t-1}, the gates in the order r z n. Cho et al. 2014, with the reset behind the product.

    So do cuDNN, PyTorch and Keras: one product a step makes all gates. `gates` has r, z, n and q = a_{t-1} u_n + bu_n.
    """

    spec = Spec(
        params="w:I3O u:O3O b:3O bu:3O",
        scratch="before:BPO gates:BP4O dgates:BP4O",
        forward="x w u b bu -> before gates a",
        backward="x w u before gates da -> dgates dx? dw du db dbu",
        predict="x w u b bu -> a",
        x="BPI",
        a="BPO",
    )

    @staticmethod
    def forward(x: Array, w: Array, u: Array, b: Array, bu: Array, before: Array, gates: Array, a: Array) -> None:
        units = a.shape[2]
        np.matmul(x, w, out=gates[:, :, : 3 * units])
        gates[:, :, : 3 * units] += b
        h = np.zeros_like(a[:, 0])
        for t in range(a.shape[1]):
            r, z, n, q = np.split(gates[:, t], 4, axis=1)
            products = np.broadcast_to(_products(t, h, u, bu), (len(a), 3 * units))
            r[...] = _sigmoid(r + products[:, :units], 0.0)
            z[...] = _sigmoid(z + products[:, units : 2 * units], 0.0)
            q[...] = products[:, 2 * units :]
            n[...] = np.tanh(n + r * q)
            h = (1.0 - z) * n + z * h
            a[:, t] = h
        _remember(a, before)

    @staticmethod
    def predict(x: Array, w: Array, u: Array, b: Array, bu: Array, a: Array) -> None:
        gru.forward(x, w, u, b, bu, np.empty_like(a), _gates(a), a)

    @staticmethod
    def backward(
        x: Array, w: Array, u: Array, before: Array, gates: Array, da: Array,
        dgates: Array, dx: Array | None, dw: Array, du: Array, db: Array, dbu: Array,
    ) -> None:  # fmt: skip
        steps, units = da.shape[1:]
        inner = [slice(0, 2 * units), slice(3 * units, 4 * units)]  # r, z and q: what u and bu had a part in
        dh = np.zeros_like(da[:, 0])
        for t in reversed(range(steps)):
            r, z, n, q = np.split(gates[:, t], 4, axis=1)
            dr, dz, dn, dq = np.split(dgates[:, t], 4, axis=1)
            dh = dh + da[:, t]
            dz[...] = dh * (before[:, t] - n) * z * (1.0 - z)
            dn[...] = dh * (1.0 - z) * (1.0 - n * n)
            dq[...] = dn * r
            dr[...] = dn * q * r * (1.0 - r)
            if t:
                dh = dh * z + np.hstack([dgates[:, t, part] for part in inner]) @ u.T
        _of_inputs(x, w, dgates[:, :, : 3 * units], dx, dw, db)
        _of_matrix(before, np.concatenate([dgates[:, :, part] for part in inner], axis=2), du, dbu)


class lstm(Operation):
    """i, f, o = sigmoid(x_t w + a_{t-1} u + b), g = tanh(x_t w + a_{t-1} u + b), c_t = f c_{t-1} + i g,
    a_t = o tanh(c_t), the gates in the order i f g o. Hochreiter & Schmidhuber 1997, Gers et al. 2000.

    `cell` has c_t.
    """

    spec = Spec(
        params="w:I4O u:O4O b:4O",
        scratch="before:BPO gates:BP4O cell:BPO dgates:BP4O",
        forward="x w u b -> before gates cell a",
        backward="x w u before gates cell da -> dgates dx? dw du db",
        predict="x w u b -> a",
        x="BPI",
        a="BPO",
    )

    @staticmethod
    def forward(x: Array, w: Array, u: Array, b: Array, before: Array, gates: Array, cell: Array, a: Array) -> None:
        np.matmul(x, w, out=gates)
        gates += b
        c = np.zeros_like(a[:, 0])
        for t in range(a.shape[1]):
            gates[:, t] += _products(t, a[:, t - 1], u, 0.0)
            i, f, g, o = np.split(gates[:, t], 4, axis=1)
            i[...], f[...], g[...], o[...] = _sigmoid(i, 0.0), _sigmoid(f, 0.0), np.tanh(g), _sigmoid(o, 0.0)
            c = f * c + i * g
            cell[:, t], a[:, t] = c, o * np.tanh(c)
        _remember(a, before)

    @staticmethod
    def predict(x: Array, w: Array, u: Array, b: Array, a: Array) -> None:
        lstm.forward(x, w, u, b, np.empty_like(a), _gates(a), np.empty_like(a), a)

    @staticmethod
    def backward(
        x: Array, w: Array, u: Array, before: Array, gates: Array, cell: Array, da: Array,
        dgates: Array, dx: Array | None, dw: Array, du: Array, db: Array,
    ) -> None:  # fmt: skip
        dh = dc = np.zeros_like(da[:, 0])
        for t in reversed(range(da.shape[1])):
            i, f, g, o = np.split(gates[:, t], 4, axis=1)
            di, df, dg, do = np.split(dgates[:, t], 4, axis=1)
            squashed, previous = np.tanh(cell[:, t]), cell[:, t - 1] if t else np.zeros_like(dc)
            dh = dh + da[:, t]
            dc = dc + dh * o * (1.0 - squashed * squashed)
            di[...] = dc * g * i * (1.0 - i)
            df[...] = dc * previous * f * (1.0 - f)
            dg[...] = dc * i * (1.0 - g * g)
            do[...] = dh * squashed * o * (1.0 - o)
            if t:
                dc, dh = dc * f, dgates[:, t] @ u.T
        _of_inputs(x, w, dgates, dx, dw, db)
        _of_matrix(before, dgates, du, db)

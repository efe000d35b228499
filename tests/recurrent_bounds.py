"""How far rnn, gru and lstm may be off: see kernel_cases.py. No cases, no tests.

Forward an error goes on from step to step: through sigmoid by a quarter of it at most, through tanh whole. Backward all
is sums of products of what is given, and the same with nothing but positive terms bounds every sum, times the
roundings on the longest way to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray
Named = dict[str, Any]
FUNCTION = 16  # as in kernel_cases


def _sums(r: Named, name: str = "b") -> tuple[Array, Array]:
    """Of each step the products with w and with u, of sizes; before the first step there is no state."""
    before = np.abs(r["before"])
    before[:, 0] = 0.0
    return np.abs(r["x"]) @ np.abs(r["w"]) + np.abs(r[name]), before @ np.abs(r["u"])


def _roundings(r: Named) -> int:
    return int(len(r["w"]) + len(r["u"]) + 8)


def _steps(r: Named) -> range:
    return range(r["x"].shape[1])


def _shifted(a: Array) -> Array:
    return np.concatenate([np.zeros_like(a[:, :1]), a[:, :-1]], axis=1)


def rnn_forward(r: Named) -> Named:
    of_x, of_h = _sums(r)
    u, error = np.abs(r["u"]), np.zeros_like(r["a"])
    for t in _steps(r):
        passed = error[:, t - 1] @ u if t else 0.0
        error[:, t] = _roundings(r) * (of_x + of_h)[:, t] + passed + FUNCTION
    return dict(a=error, before=_shifted(error))


def gru_forward(r: Named) -> Named:
    of_x, of_h = _sums(r)
    O, u = r["a"].shape[2], np.abs(r["u"])
    of_h = of_h + np.abs(r["bu"])
    gates, error, h = np.zeros_like(r["gates"]), np.zeros_like(r["a"]), np.abs(r["before"])
    for t in _steps(r):
        g, z, n, q = np.split(np.abs(r["gates"][:, t]), 4, axis=1)
        inner = _roundings(r) * of_h[:, t] + (error[:, t - 1] @ u if t else 0.0)
        outer = _roundings(r) * of_x[:, t]
        e_r, e_z = (0.25 * (inner + outer)[:, part : part + O] + FUNCTION for part in (0, O))
        e_q = inner[:, 2 * O :]
        e_n = outer[:, 2 * O :] + e_r * q + e_q * g + 4 * g * q + FUNCTION
        last = error[:, t - 1] if t else 0.0
        error[:, t] = e_z * (n + h[:, t]) + e_n + z * last + 4 * (n + h[:, t])
        gates[:, t] = np.hstack([e_r, e_z, e_n, e_q])
    return dict(a=error, before=_shifted(error), gates=gates)


def lstm_forward(r: Named) -> Named:
    of_x, of_h = _sums(r)
    u = np.abs(r["u"])
    gates, cell, error = np.zeros_like(r["gates"]), np.zeros_like(r["a"]), np.zeros_like(r["a"])
    states = np.abs(r["cell"])
    for t in _steps(r):
        i, f, g, o = np.split(np.abs(r["gates"][:, t]), 4, axis=1)
        total = _roundings(r) * (of_x + of_h)[:, t] + (error[:, t - 1] @ u if t else 0.0)
        e_i, e_f, e_g, e_o = np.split(total, 4, axis=1)
        e_i, e_f, e_o = (0.25 * each + FUNCTION for each in (e_i, e_f, e_o))
        e_g = e_g + FUNCTION
        state, e_state = (states[:, t - 1], cell[:, t - 1]) if t else (0.0, 0.0)
        cell[:, t] = e_f * state + f * e_state + e_i * g + e_g * i + 4 * (f * state + i * g)
        error[:, t] = e_o + o * (cell[:, t] + FUNCTION) + 4 * o
        gates[:, t] = np.hstack([e_i, e_f, e_g, e_o])
    return dict(a=error, before=_shifted(error), gates=gates, cell=cell)


def _gradients(r: Named, dgates: Array, inner: Array, roundings: int) -> Named:
    """Of sizes of the gradients of the gates: bounds of all that is made of them."""
    rows, total = r["x"].shape[0] * r["x"].shape[1], dgates.shape[1] * roundings
    d = dgates[:, :, : r["w"].shape[1]]
    x, before = np.abs(r["x"]), np.abs(r["before"])
    made = dict(
        dgates=total * dgates,
        dx=(total + d.shape[2] + 4) * (d @ np.abs(r["w"]).T),
        dw=(total + rows + 4) * np.einsum("bti,bto->io", x, d),
        du=(total + rows + 4) * np.einsum("bti,bto->io", before, inner),
        db=(total + rows + 4) * d.sum(axis=(0, 1)),
    )
    return made | ({"dbu": (total + rows + 4) * inner.sum(axis=(0, 1))} if "dbu" in r else {})


def rnn_backward(r: Named) -> Named:
    u, slope = np.abs(r["u"]).T, 1 + r["a"] ** 2
    d = np.zeros_like(r["da"])
    for t in reversed(_steps(r)):
        passed = d[:, t + 1] @ u if t + 1 < d.shape[1] else 0.0
        d[:, t] = (np.abs(r["da"][:, t]) + passed) * slope[:, t]
    return _gradients(r, d, d, len(u) + FUNCTION)


def gru_backward(r: Named) -> Named:
    u, h = np.abs(r["u"]).T, np.abs(r["before"])
    d, dh = np.zeros_like(r["gates"]), np.zeros_like(r["da"][:, 0])
    O = dh.shape[1]
    inner = [*range(2 * O), *range(3 * O, 4 * O)]
    for t in reversed(_steps(r)):
        g, z, n, q = np.split(np.abs(r["gates"][:, t]), 4, axis=1)
        dh = dh + np.abs(r["da"][:, t])
        dn = dh * (1 + z) * (1 + n * n)
        d[:, t] = np.hstack([dn * q * g * (1 + g), dh * (h[:, t] + n) * z * (1 + z), dn, dn * g])
        dh = dh * z + d[:, t, inner] @ u
    return _gradients(r, d, d[:, :, inner], 3 * O + FUNCTION)


def lstm_backward(r: Named) -> Named:
    u, cell = np.abs(r["u"]).T, np.abs(r["cell"])
    d, dh = np.zeros_like(r["gates"]), np.zeros_like(r["da"][:, 0])
    dc = dh
    for t in reversed(_steps(r)):
        i, f, g, o = np.split(np.abs(r["gates"][:, t]), 4, axis=1)
        dh = dh + np.abs(r["da"][:, t])
        dc = dc + 2 * dh * o
        state = cell[:, t - 1] if t else 0.0
        d[:, t] = np.hstack([dc * g * i * (1 + i), dc * state * f * (1 + f), dc * i * (1 + g * g), dh * o * (1 + o)])
        dc, dh = dc * f, d[:, t] @ u
    return _gradients(r, d, d, 4 * dh.shape[1] + 4 * FUNCTION)

"""Every kernel as explicit scalar loops, the way a textbook writes it. One file, three backends:

- `python` runs it as it stands (`python_loops.py`),
- `cython` compiles it ahead of time, with the C types of `loops.pxd` beside it (`cython_loops.py`),
- `numba` compiles it at run time (`numba_jit.py`).

Names and shapes are those of `contract.py`; `loops_table.py` turns the contract's arguments into these. Each
inner loop walks along a row, so that memory is read in order and a compiler can vectorise it. A NaN goes
through every comparison unharmed: `not x > y` is not `x <= y`.

The formulas of activations, losses and update rules are not repeated here: the functions that need one are
given it, and return the loop around it.
"""

from __future__ import annotations

import math

# Philox4x32 (see _random.py). Named, because a Python-syntax literal above 2^31 is an object to Cython.
MULTIPLIER_0 = 0xD2511F53
MULTIPLIER_1 = 0xCD9E8D57
WEYL_0 = 0x9E3779B9
WEYL_1 = 0xBB67AE85
LOW = 0xFFFFFFFF
WIDE = 1e-30  # the scale of a feature that spreads over 1e30
LARGE = 1e37  # the variance from which on values are counted in the largest of them: no square leaves the range


def cast_forward(data, rows, a):
    B, I = a.shape[0], a.shape[1]
    for i in range(B):
        row = rows[i]
        for k in range(I):
            a[i, k] = data[row, k]


def shuffle(bits, order):
    """bits (2 n,) int64, each below 2^32: two for each place. See _random.shuffle."""
    n = order.shape[0]
    for i in range(n):
        order[i] = i
    for i in range(n - 1, 0, -1):
        count = i + 1
        place = (bits[2 * i + 1] * count + ((bits[2 * i] * count) >> 32)) >> 32
        row = order[i]
        order[i] = order[place]
        order[place] = row


def normalize_forward(data, rows, shift, scale, a):
    """shift and scale are float64, so all is, whatever data is stored in, until it is rounded to a."""
    B, I = a.shape[0], a.shape[1]
    for i in range(B):
        row = rows[i]
        for k in range(I):
            if scale[k] < WIDE:  # data and shift may lie further apart than float64 goes: in halves, to the same bits
                a[i, k] = (0.5 * data[row, k] - 0.5 * shift[k]) * (2.0 * scale[k])
            else:
                a[i, k] = (data[row, k] - shift[k]) * scale[k]


def affine(x, w, b, z):
    """z = x w + b"""
    B, I, O = x.shape[0], w.shape[0], w.shape[1]
    for i in range(B):
        for o in range(O):
            z[i, o] = b[o]
        for k in range(I):
            xk = x[i, k]
            for o in range(O):
                z[i, o] += xk * w[k, o]


def backward_input(dz, w, dx):
    """dx = dz w^T"""
    B, I, O = dz.shape[0], w.shape[0], w.shape[1]
    for i in range(B):
        for k in range(I):
            total = 0.0
            for o in range(O):
                total += dz[i, o] * w[k, o]
            dx[i, k] = total


def backward_weights(x, dz, dw, db):
    """dw = x^T dz, db = column sums of dz"""
    B, I, O = x.shape[0], x.shape[1], dz.shape[1]
    for o in range(O):
        db[o] = 0.0
        for k in range(I):
            dw[k, o] = 0.0
    for i in range(B):
        for o in range(O):
            db[o] += dz[i, o]
        for k in range(I):
            xk = x[i, k]
            for o in range(O):
                dw[k, o] += xk * dz[i, o]


def activation_forward(value):
    """The loop a = value(z, alpha)."""

    def loop(alpha, z, a):
        for i in range(z.shape[0]):
            for j in range(z.shape[1]):
                a[i, j] = value(z[i, j], alpha)

    return loop


def activation_backward(derivative):
    """The loop dz = da * derivative(saved, alpha)."""

    def loop(alpha, saved, da, dz):
        for i in range(saved.shape[0]):
            for j in range(saved.shape[1]):
                dz[i, j] = da[i, j] * derivative(saved[i, j], alpha)

    return loop


def softmax_forward(x, a):
    B, O = x.shape[0], x.shape[1]
    for i in range(B):
        top = x[i, 0]
        for j in range(1, O):
            if x[i, j] > top:
                top = x[i, j]
        for j in range(O):
            a[i, j] = math.exp(x[i, j] - top)  # <= 1: never overflows
        total = 0.0  # on its own, so that the order of the sum is the same where a is x
        for j in range(O):
            total += a[i, j]
        scale = 1.0 / total
        for j in range(O):
            a[i, j] *= scale


def softmax_backward(a, da, dx):
    B, O = a.shape[0], a.shape[1]
    for i in range(B):
        total = 0.0
        for j in range(O):
            total += da[i, j] * a[i, j]
        for j in range(O):
            dx[i, j] = a[i, j] * (da[i, j] - total)


def maxout_forward(x, a, winner):
    B, O = a.shape[0], a.shape[1]
    pieces = x.shape[1] // O
    for i in range(B):
        for o in range(O):
            first = 0
            best = x[i, o * pieces]
            for p in range(1, pieces):
                candidate = x[i, o * pieces + p]
                # larger, or the first NaN
                if candidate > best or (candidate != candidate and best == best):
                    first = p
                    best = candidate
            winner[i, o] = first
            a[i, o] = best


def maxout_backward(winner, da, dx):
    B, O = da.shape[0], da.shape[1]
    pieces = dx.shape[1] // O
    for i in range(B):
        for o in range(O):
            for p in range(pieces):
                dx[i, o * pieces + p] = 0.0
            dx[i, o * pieces + winner[i, o]] = da[i, o]


def prelu_forward(x, slope, a):
    B, O = x.shape[0], x.shape[1]
    for i in range(B):
        for j in range(O):
            a[i, j] = x[i, j] if x[i, j] > 0 else slope[j] * x[i, j]


def prelu_backward(x, slope, sums, da, dx, dslope):
    B, O = x.shape[0], x.shape[1]
    clear(sums)
    for i in range(B):
        for j in range(O):
            negative = 0.0 if x[i, j] > 0 else x[i, j]
            sums[0, j] += da[i, j] * negative
            dx[i, j] = da[i, j] if x[i, j] > 0 else slope[j] * da[i, j]
    for j in range(O):
        dslope[j] = sums[0, j]


def random_bits(seed_low, seed_high, step_low, step_high, op, bits):
    """bits (4 n,) uint32: the words of blocks 0 .. n-1, four a block.

    Every word is masked to 32 bits, so the products may be Python's integers or wrap around at 64 bits.
    """
    for block in range(bits.shape[0] // 4):
        c0, c1, c2, c3 = block & LOW, op, step_low, step_high
        k0, k1 = seed_low, seed_high
        for _ in range(7):
            p0 = c0 * MULTIPLIER_0
            p1 = c2 * MULTIPLIER_1
            c0 = ((p1 >> 32) & LOW) ^ c1 ^ k0
            c1 = p1 & LOW
            c2 = ((p0 >> 32) & LOW) ^ c3 ^ k1
            c3 = p0 & LOW
            k0 = (k0 + WEYL_0) & LOW
            k1 = (k1 + WEYL_1) & LOW
        bits[4 * block] = c0
        bits[4 * block + 1] = c1
        bits[4 * block + 2] = c2
        bits[4 * block + 3] = c3


def dropout_forward(x, bits, threshold, scale, a):
    B, O = x.shape[0], x.shape[1]
    for i in range(B):
        for j in range(O):
            a[i, j] = x[i, j] * scale if bits[i, j] >= threshold else 0.0


def rrelu_forward(x, lower, width, bits, a):
    B, O = x.shape[0], x.shape[1]
    for i in range(B):
        for j in range(O):
            slope = lower + width * bits[i, j]
            a[i, j] = x[i, j] if x[i, j] > 0 else slope * x[i, j]


def rrelu_backward(x, lower, width, bits, da, dx):
    B, O = x.shape[0], x.shape[1]
    for i in range(B):
        for j in range(O):
            slope = lower + width * bits[i, j]
            dx[i, j] = da[i, j] if x[i, j] > 0 else slope * da[i, j]


# Normalisation: `row_share` is 1 / B, `share` 1 / O, `start` 0 in float64 --------------------------------------------


# Sums down the columns are float64, in `sums`: float32 that adds up 100,000 values around 10,000 loses a variance of 1.
def clear(sums):
    for s in range(2):
        for j in range(sums.shape[1]):
            sums[s, j] = 0.0


def large_moments(x, i, j, down, count, sums, k):
    """sums[:, k] <- mean and variance of values / peak, and their peak |value|: not below 1, which it is beside NaN.
    The values: `count` of x from (i, j) on, down a column (`down` 1) or along a row (0)."""
    sums[0, k] = sums[1, k] = 0.0
    sums[2, k] = 1.0
    for s in range(count):
        sums[2, k] = max(sums[2, k], abs(x[i + s * down, j + s * (1 - down)]))
    for s in range(count):
        sums[0, k] += x[i + s * down, j + s * (1 - down)] / sums[2, k] / count
    for s in range(count):
        sums[1, k] += (x[i + s * down, j + s * (1 - down)] / sums[2, k] - sums[0, k]) ** 2 / count


def batch_norm_forward(x, gamma, beta, momentum, epsilon, unbias, sums, running_mean, running_var, mean, inv_std, a):
    """`unbias` is B / (B - 1), and of no use for one row."""
    B, O = x.shape[0], x.shape[1]
    clear(sums)
    for i in range(B):
        for j in range(O):
            sums[0, j] += x[i, j]
    for j in range(O):
        sums[0, j] /= B
        sums[2, j] = 1.0
    for i in range(B):
        for j in range(O):
            sums[1, j] += (x[i, j] - sums[0, j]) ** 2
    for j in range(O):
        sums[1, j] /= B
        if not sums[1, j] < LARGE:
            large_moments(x, 0, j, 1, B, sums, j)
        peak = sums[2, j]
        mean[j] = sums[0, j] * peak
        if B > 1:
            running_mean[j] = momentum * running_mean[j] + (1.0 - momentum) * mean[j]
            running_var[j] = momentum * running_var[j] + (1.0 - momentum) * (sums[1, j] * unbias * peak * peak)
        sums[1, j] = 1.0 / math.sqrt(sums[1, j] + epsilon / peak / peak)  # from here on 1 / deviation, and 1 / peak
        sums[2, j] = 1.0 / peak
        inv_std[j] = sums[1, j] / peak
    for i in range(B):
        for j in range(O):
            a[i, j] = gamma[j] * ((x[i, j] * sums[2, j] - sums[0, j]) * sums[1, j]) + beta[j]


def batch_norm_predict(x, gamma, beta, epsilon, running_mean, running_var, a):
    B, O = x.shape[0], x.shape[1]
    for i in range(B):
        for j in range(O):
            inv_std = 1.0 / math.sqrt(running_var[j] + epsilon)
            a[i, j] = gamma[j] * ((x[i, j] - running_mean[j]) * inv_std) + beta[j]


def batch_norm_backward(x, gamma, mean, inv_std, row_share, sums, da, dx, dgamma, dbeta):
    B, O = x.shape[0], x.shape[1]
    clear(sums)
    for i in range(B):
        for j in range(O):
            sums[0, j] += da[i, j] * ((x[i, j] - mean[j]) * inv_std[j])
            sums[1, j] += da[i, j]
    for j in range(O):
        dgamma[j] = sums[0, j]
        dbeta[j] = sums[1, j]
    for i in range(B):
        for j in range(O):
            x_hat = (x[i, j] - mean[j]) * inv_std[j]
            dx[i, j] = gamma[j] * inv_std[j] * (da[i, j] - (dbeta[j] + x_hat * dgamma[j]) * row_share)


def layer_norm_forward(x, gamma, beta, epsilon, start, sums, mean, inv_std, a):
    B, O = x.shape[0], x.shape[1]
    for i in range(B):
        total = start
        for j in range(O):
            total += x[i, j]
        centre = total / O
        total = start
        for j in range(O):
            total += (x[i, j] - centre) ** 2
        unit = start + 1.0
        if not total / O < LARGE:
            large_moments(x, i, 0, 0, O, sums, 0)
            centre, total, unit = sums[0, 0], sums[1, 0] * O, 1.0 / sums[2, 0]
        scale = 1.0 / math.sqrt(total / O + epsilon * unit * unit)
        mean[i] = centre / unit
        inv_std[i] = scale * unit
        for j in range(O):
            a[i, j] = gamma[j] * ((x[i, j] * unit - centre) * scale) + beta[j]


def layer_norm_backward(x, gamma, mean, inv_std, share, start, sums, da, dx, dgamma, dbeta):
    B, O = x.shape[0], x.shape[1]
    clear(sums)
    for i in range(B):
        centre = mean[i]
        scale = inv_std[i]
        total = start
        product = start
        for j in range(O):
            x_hat = (x[i, j] - centre) * scale
            sums[0, j] += da[i, j] * x_hat
            sums[1, j] += da[i, j]
            total += da[i, j] * gamma[j]
            product += da[i, j] * gamma[j] * x_hat
        total *= share
        product *= share
        for j in range(O):
            x_hat = (x[i, j] - centre) * scale
            dx[i, j] = scale * (da[i, j] * gamma[j] - total - x_hat * product)
    for j in range(O):
        dgamma[j] = sums[0, j]
        dbeta[j] = sums[1, j]


# Learning ------------------------------------------------------------------------------------------------


def pointwise_loss(value_of, gradient_of):
    """The loop value = mean over the outputs of value_of(z, y, parameter), dz = weight * its gradient.

    `share` is 1 / O.
    """

    def loop(parameter, share, z, y, weight, value, dz):
        for i in range(z.shape[0]):
            total = 0.0
            scale = weight[i] * share
            for j in range(z.shape[1]):
                total += value_of(z[i, j], y[i, j], parameter)
                dz[i, j] = scale * gradient_of(z[i, j], y[i, j], parameter)
            value[i] = total * share

    return loop


def cross_entropy_labels(smoothing, share, z, y, weight, value, dz):
    """Targets q = smoothing / O, and 1 - smoothing more at the label. `share` is 1 / O."""
    B, O = z.shape[0], z.shape[1]
    rest = smoothing * share
    for i in range(B):
        top = z[i, 0]
        for j in range(1, O):
            if z[i, j] > top:
                top = z[i, j]
        total = 0.0
        inner = 0.0  # of q and z - top
        for j in range(O):
            shifted = z[i, j] - top
            e = math.exp(shifted)
            dz[i, j] = e
            total += e
            inner += rest * shifted
        label = y[i]
        inner += (1.0 - smoothing) * (z[i, label] - top)
        value[i] = math.log(total) - inner
        scale = 1.0 / total
        for j in range(O):
            dz[i, j] = weight[i] * (dz[i, j] * scale - rest)
        dz[i, label] -= weight[i] * (1.0 - smoothing)


def cross_entropy_values(smoothing, share, z, y, weight, value, dz):
    """Targets q = (1 - smoothing) y + smoothing / O. `share` is 1 / O."""
    B, O = z.shape[0], z.shape[1]
    rest = smoothing * share
    for i in range(B):
        top = z[i, 0]
        for j in range(1, O):
            if z[i, j] > top:
                top = z[i, j]
        total = 0.0
        inner = 0.0  # of q and z - top
        mass = 0.0  # sum of q: 1 for a distribution, up to rounding
        for j in range(O):
            shifted = z[i, j] - top
            e = math.exp(shifted)
            q = y[i, j] * (1.0 - smoothing) + rest
            dz[i, j] = e
            total += e
            inner += q * shifted
            mass += q
        value[i] = math.log(total) * mass - inner
        scale = mass / total
        for j in range(O):
            q = y[i, j] * (1.0 - smoothing) + rest
            dz[i, j] = weight[i] * (dz[i, j] * scale - q)


def hinge(z, y, weight, value, dz):
    B, O = z.shape[0], z.shape[1]
    for i in range(B):
        label = y[i]
        right = z[i, label]
        rival = -1
        worst = right * 0.0
        for j in range(O):
            dz[i, j] = 0.0
            if j != label:
                margin = z[i, j] - right + 1.0
                # the first, a larger one, or the first NaN
                if rival < 0 or margin > worst or (margin != margin and worst == worst):
                    rival = j
                    worst = margin
        value[i] = 0.0 if worst < 0 or rival < 0 else worst
        if rival >= 0 and worst > 0:
            dz[i, rival] = weight[i]
            dz[i, label] = -weight[i]


def squared_norm(g):
    total = 0.0  # float64 in every backend
    for i in range(g.shape[0]):
        element = 1.0 * float(g[i])
        total += element * element
    return total


def element(slots, i):
    """The i-th number of every slot."""
    return tuple([slot[i] for slot in slots])


def store(slots, i, numbers):
    for slot, number in zip(slots, numbers):  # noqa: B905  (numba's zip takes no `strict`)
        slot[i] = number


def update(formula):
    """The loop of one optimizer step: see contract.Adjustment."""

    def loop(coefficients, scale, limit, l1, l2, shrink, w, g, slots):
        for i in range(w.shape[0]):
            gradient = g[i] * scale
            if gradient > limit:
                gradient = limit
            elif gradient < -limit:
                gradient = -limit
            if l1 != 0:
                if w[i] > 0:
                    gradient += l1
                elif w[i] < 0:
                    gradient -= l1
                else:
                    gradient += w[i]  # 0, or NaN
            if l2 != 0:
                gradient += l2 * w[i]
            delta, numbers = formula(gradient, element(slots, i), coefficients)
            store(slots, i, numbers)
            w[i] = (1.0 - shrink) * w[i] - delta

    return loop

"""Every operation against values worked out by hand, and its backward against central differences of its forward.

The parity tests hold every backend against the reference; these hold the reference, and all others with it, against the
formulas. The working stands beside the numbers: exact in binary wherever it can be.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import backend_parameters
from guarded import Guarded, Out
from kernel_cases import CALLS, Draw, call_of, kernel, operation

from fastnn._random import Key
from fastnn.contract import Kernels
from fastnn.formulas.activations import ACTIVATIONS, identity
from fastnn.ops import OPS
from fastnn.ops.window import WINDOW

BACKENDS = pytest.mark.parametrize(("backend", "kernels"), backend_parameters())
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
Named = dict[str, Any]

half = ACTIVATIONS["leaky_relu"].with_alpha(0.5)  # x where x > 0, else x / 2
# Philox4x32-7 of counter 0 and key 0, as Random123's kat_vectors have it: the bits of the first four elements
ZERO = Key(0, 0, 0)
BITS = np.array([0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48]) / 2.0**32  # 0.37, 0.05, 0.31, 0.31


L = np.log(3.0)
SHOWN = 3 / 4 * np.tanh(3 / 8)  # the first output of the lstm worked out below
DH = 13 / 5 - 9 * L / 200  # and what its gradients come from
DC = 9 / 50 + 9 * DH / 16
FIRST, LAST = np.array([DC / 8, 0, 3 * DC / 8, 3 * DH / 32]), np.array([-27 / 800, 9 * L / 200, 27 / 400, 2 / 5])
IMAGE = [[1, 2, 0, 3, -1, 1, 0, 2, 4]]  # 1 2 0 / 3 -1 1 / 0 2 4


def window(
    height: int, width: int, out: tuple, kernel: tuple, stride: tuple, before: tuple, channels: int = 1
) -> Named:
    numbers = (height, width, channels, *out, *kernel, *stride, *before)
    return dict(zip(WINDOW.split(), numbers, strict=True))


SMALL = window(3, 3, (2, 2), (2, 2), (1, 1), (0, 0))
PLAIN = dict(dilation_height=1, dilation_width=1, groups=1)
LINE = window(1, 3, (1, 2), (1, 2), (1, 2), (0, 1), channels=2) | PLAIN | {"groups": 2}  # two groups of one channel
AROUND = window(3, 3, (2, 2), (3, 3), (2, 2), (1, 1))  # of the corners' windows 4 cells of 9 are in the image


class By(NamedTuple):
    """A call of an operation worked out by hand. What is among the outputs too is read and written."""

    which: str
    given: Named
    expected: Named


HAND: dict[str, list[By]] = {
    "cast": [By("forward", dict(data=[[1, 2], [3, 4], [5, 6]], rows=[2, 0, 2]), dict(a=[[5, 6], [1, 2], [5, 6]]))],
    # (3 - 1) 2 = 4, (20 - 12) / 4 = 2; (1 - 1) 2 = 0, (10 - 12) / 4 = -1/2
    "normalize": [
        By(
            "forward",
            dict(data=[[1, 10], [3, 20]], rows=[1, 0], shift=[1, 12], scale=[2, 0.25]),
            dict(a=[[4, 2], [0, -0.5]]),
        )
    ],
    "ids": [By("forward", dict(data=[[0, 4], [3, 1]], rows=[1, 1, 0], count=5.0), dict(a=[[3, 1], [3, 1], [0, 4]]))],
    "dense": [
        # z = [1 + 4 + 0 + 1, -1 + 0 - 3 - 2], [0 + 2 + 0 + 1, 0 + 0 + 9 - 2]
        By(
            "forward",
            dict(x=[[1, 2, -1], [0, 1, 3]], w=[[1, -1], [2, 0], [0, 3]], b=[1, -2], activation=half),
            dict(z=[[6, -6], [3, 7]], a=[[6, -3], [3, 7]]),
        ),
        # dz w^T = [1 - 2, 2 + 0, 0 + 6], [3 + 1, 6 + 0, 0 - 3]; halved where saved is not positive
        # dw = column 0 of x: [1, 2] 1 + [3, -1] 0; column 1: [1, 2] 2 + [3, -1]; column 2: -[1, 2] + [3, -1] 3
        By(
            "backward",
            dict(
                x=[[1, 2, -1], [0, 1, 3]],
                w=[[1, -1], [2, 0], [0, 3]],
                below=half,
                saved=[[1, 0, 2], [3, 4, -1]],
                dz=[[1, 2], [3, -1]],
            ),
            dict(dx=[[-1, 1, 6], [4, 6, -1.5]], dw=[[1, 2], [5, 3], [8, -5]], db=[4, 1]),
        ),
    ],
    "activation": [
        By("forward", dict(x=[[-2, 3, 0.5], [1, -1, -4]], activation=half), dict(a=[[-1, 3, 0.5], [1, -0.5, -2]])),
        By("forward", dict(x=[[-2, 3], [1, -4]], activation=identity), dict(a=[[-2, 3], [1, -4]])),
        By(
            "backward",
            dict(below=half, saved=[[-1, 3, 0.5], [1, -0.5, 2]], dz=[[2, 3, -4], [5, 6, -1]]),
            dict(dx=[[1, 3, -4], [5, 3, -1]]),
        ),
        By("backward", dict(below=identity, saved=[[-1, 3]], dz=[[2, -3]]), dict(dx=[[2, -3]])),
    ],
    "softmax": [
        # exp(log n) = n: 1 + 3 + 4 = 8, 2 + 2 + 1 = 5; exp(1000) is no number, exp(-2000) none beside 1
        By(
            "forward",
            dict(x=[np.log([1, 3, 4]), np.log([2, 2, 1]), [1000, 1000, -1000]]),
            dict(a=[[1 / 8, 3 / 8, 1 / 2], [2 / 5, 2 / 5, 1 / 5], [1 / 2, 1 / 2, 0]]),
        ),
        # sum a da = 1 + 0 + 2 = 3: a (da - 3); 1 + 1 - 1 = 1: a (da - 1)
        By(
            "backward",
            dict(a=[[1 / 8, 3 / 8, 1 / 2], [1 / 2, 1 / 4, 1 / 4]], da=[[8, 0, 4], [2, 4, -4]]),
            dict(dx=[[5 / 8, -9 / 8, 1 / 2], [1 / 2, 3 / 4, -5 / 4]]),
        ),
    ],
    "maxout": [  # three pieces an output; of equals the first
        By(
            "forward",
            dict(x=[[1, 5, 2, -3, -1, -2], [4, 4, 0, 0, 7, 7]]),
            dict(a=[[5, -1], [4, 7]], winner=[[1, 1], [0, 1]]),
        ),
        By(
            "backward",
            dict(winner=[[1, 0], [2, 1]], da=[[3, 5], [7, -2]]),
            dict(dx=[[0, 3, 0, 5, 0, 0], [0, 0, 7, 0, -2, 0]]),
        ),
    ],
    "prelu": [
        By(
            "forward",
            dict(x=[[2, -4, 0], [-1, 1, -2]], slope=[0.5, 0.25, 3]),
            dict(a=[[2, -1, 0], [-0.5, 1, -6]]),
        ),
        # dslope = 4 (-1), 2 (-4), 3 (0) + 6 (-2); 0 is not positive
        By(
            "backward",
            dict(x=[[2, -4, 0], [-1, 1, -2]], slope=[0.5, 0.25, 3], da=[[1, 2, 3], [4, 5, 6]]),
            dict(dx=[[1, 0.5, 9], [2, 5, 18]], dslope=[-4, -8, -12]),
        ),
    ],
    "rrelu": [  # slope = 1/4 + BITS / 2
        By(
            "forward",
            dict(x=[[-1, 1], [-2, -4]], lower=0.25, upper=0.75, key=ZERO),
            dict(a=[[-(0.25 + BITS[0] / 2), 1], [-2 * (0.25 + BITS[2] / 2), -4 * (0.25 + BITS[3] / 2)]]),
        ),
        By(
            "backward",
            dict(x=[[-1, 1], [0, -4]], lower=0.25, upper=0.75, key=ZERO, da=[[3, 5], [1, 2]]),
            dict(dx=[[3 * (0.25 + BITS[0] / 2), 5], [0.25 + BITS[2] / 2, 2 * (0.25 + BITS[3] / 2)]]),
        ),
        By("predict", dict(x=[[-1, 1], [-2, 0]], lower=0.25, upper=0.5), dict(a=[[-0.375, 1], [-0.75, 0]])),
    ],
    "dropout": [  # of BITS only the second is below 1/4; the others go through times 1 / (1 - 1/4) = 4/3
        By("forward", dict(x=[[3, 5], [6, -9]], rate=0.25, key=ZERO), dict(a=[[4, 0], [8, -12]])),
        By("backward", dict(rate=0.25, key=ZERO, da=[[1.5, 2], [-3, 9]]), dict(dx=[[2, 0], [-4, 12]])),
    ],
    "batch_norm": [
        # columns [0 2 4 6] and [-5 3 3 3]: mean 3, var (9 + 1 + 1 + 9) / 4 = 5; mean 1, var (36 + 3 4) / 4 = 12;
        # with epsilon 4 the roots are 3 and 4. a = 3 (x - 3) / 3 + 1, 2 (x - 1) / 4 - 1.
        # running: 3/4 4 + 1/4 3, 3/4 8 + 1/4 1; unbiased 5 4/3 and 12 4/3: 3/4 3 + 1/4 20/3 = 47/12, 3/4 6 + 1/4 16
        By(
            "forward",
            dict(
                x=[[0, -5], [2, 3], [4, 3], [6, 3]],
                gamma=[3, 2],
                beta=[1, -1],
                momentum=0.75,
                epsilon=4.0,
                running_mean=[4, 8],
                running_var=[3, 6],
            ),
            dict(
                running_mean=[3.75, 6.25],
                running_var=[47 / 12, 8.5],
                mean=[3, 1],
                inv_std=[1 / 3, 1 / 4],
                a=[[-2, -4], [0, 0], [2, 0], [4, 0]],
            ),
        ),
        # two rows are the fewest that have a variance: [1 5], [2 2]; biased 4 and 0, with epsilon 12 the roots 4 and
        # sqrt 12; unbiased 8 and 0. running: (1 + 3) / 2, (3 + 2) / 2; (2 + 8) / 2, (6 + 0) / 2
        By(
            "forward",
            dict(
                x=[[1, 2], [5, 2]],
                gamma=[2, 3],
                beta=[1, 7],
                momentum=0.5,
                epsilon=12.0,
                running_mean=[1, 3],
                running_var=[2, 6],
            ),
            dict(
                running_mean=[2, 2.5],
                running_var=[5, 3],
                mean=[3, 2],
                inv_std=[1 / 4, 12**-0.5],
                a=[[0, 7], [2, 7]],
            ),
        ),
        # one row has no variance: beta comes out, and the running averages stay
        By(
            "forward",
            dict(
                x=[[5, 7]],
                gamma=[3, 2],
                beta=[1, -1],
                momentum=0.75,
                epsilon=4.0,
                running_mean=[4, 8],
                running_var=[3, 6],
            ),
            dict(running_mean=[4, 8], running_var=[3, 6], mean=[5, 7], inv_std=[1 / 2, 1 / 2], a=[[1, -1]]),
        ),
        # x_hat = -1 -1/3 1/3 1: dbeta = 3 + 0 + 3 + 6 = 12, dgamma = -3 + 0 + 1 + 6 = 4,
        #   dx = 3/3 (da - (12 + 4 x_hat) / 4) = da - 3 - x_hat
        # x_hat = -3/2 1/2 1/2 1/2: dbeta = 4, dgamma = -3 + 2 - 1 + 0 = -2, dx = 2/4 (da - 1 + x_hat / 2)
        By(
            "backward",
            dict(
                x=[[0, -5], [2, 3], [4, 3], [6, 3]],
                gamma=[3, 2],
                mean=[3, 1],
                inv_std=[1 / 3, 1 / 4],
                da=[[3, 2], [0, 4], [3, -2], [6, 0]],
            ),
            dict(dx=[[1, 1 / 8], [-8 / 3, 13 / 8], [-1 / 3, -11 / 8], [2, -3 / 8]], dgamma=[4, -2], dbeta=[12, 4]),
        ),
        # 3 (x - 1) / 3 + 1, 2 (x - 3) / 4 - 1
        By(
            "predict",
            dict(
                x=[[4, 5], [1, -1]], gamma=[3, 2], beta=[1, -1], epsilon=4.0, running_mean=[1, 3], running_var=[5, 12]
            ),
            dict(a=[[4, 0], [1, -3]]),
        ),
    ],
    "layer_norm": [
        # rows [0 2 4 6] and [-5 3 3 3]: as the columns above, x_hat = -1 -1/3 1/3 1 and -3/2 1/2 1/2 1/2
        By(
            "forward",
            dict(x=[[0, 2, 4, 6], [-5, 3, 3, 3]], gamma=[3, 6, 9, 12], beta=[1, 0, -1, 2], epsilon=4.0),
            dict(mean=[3, 1], inv_std=[1 / 3, 1 / 4], a=[[-2, -2, 2, 14], [-3.5, 3, 3.5, 8]]),
        ),
        # da gamma = 3 12 0 12: mean 27/4, mean with x_hat (-3 - 4 + 0 + 12) / 4 = 5/4, dx = (. - 27/4 - 5/4 x_hat) / 3
        # da gamma = 6 0 36 -12: mean 15/2, mean with x_hat (-9 + 0 + 18 - 6) / 4 = 3/4, dx = (. - 15/2 - 3/4 x_hat) / 4
        # dgamma = -1 - 3, -2/3 + 0, 0 + 2, 1 - 1/2
        By(
            "backward",
            dict(
                x=[[0, 2, 4, 6], [-5, 3, 3, 3]],
                gamma=[3, 6, 9, 12],
                mean=[3, 1],
                inv_std=[1 / 3, 1 / 4],
                da=[[1, 2, 0, 1], [2, 0, 4, -1]],
            ),
            dict(
                dx=[[-5 / 6, 17 / 9, -43 / 18, 4 / 3], [-3 / 32, -63 / 32, 225 / 32, -159 / 32]],
                dgamma=[-4, -2 / 3, 2, 1 / 2],
                dbeta=[3, 2, 4, 0],
            ),
        ),
    ],
    "rms_norm": [
        # mean squares 12 / 4 and 60 / 4, x_hat = 1/2 -1/2 1/2 3/2 and 1/2 3/2 -1 1/2
        By(
            "forward",
            dict(x=[[1, -1, 1, 3], [2, 6, -4, 2]], gamma=[4, 8, -2, 1], epsilon=1.0),
            dict(inv_rms=[1 / 2, 1 / 4], a=[[2, -4, -1, 1.5], [2, 12, 2, 0.5]]),
        ),
        # da gamma = 4 16 0 1: mean with x_hat (2 - 8 + 0 + 3/2) / 4 = -9/8, dx = (. + 9/8 x_hat) / 2
        # da gamma = 8 0 -8 -1: mean with x_hat (4 + 0 + 8 - 1/2) / 4 = 23/8, dx = (. - 23/8 x_hat) / 4
        # dgamma = 1/2 + 1, -1 + 0, 0 - 4, 3/2 - 1/2
        By(
            "backward",
            dict(
                x=[[1, -1, 1, 3], [2, 6, -4, 2]],
                gamma=[4, 8, -2, 1],
                inv_rms=[1 / 2, 1 / 4],
                da=[[1, 2, 0, 1], [2, 0, 4, -1]],
            ),
            dict(
                dx=[[73 / 32, 247 / 32, 9 / 32, 43 / 32], [105 / 64, -69 / 64, -41 / 32, -39 / 64]],
                dgamma=[1.5, -1, -4, 1],
            ),
        ),
    ],
    "scale": [
        By(
            "forward",
            dict(x=[[1, -2, 3], [4, 5, -6]], factor=[2, -1, 0.5]),
            dict(a=[[2, 2, 1.5], [8, -5, -3]]),
        ),
        # dfactor = 1 + 12, -4 - 5, 18 - 12
        By(
            "backward",
            dict(x=[[1, -2, 3], [4, 5, -6]], factor=[2, -1, 0.5], da=[[1, 2, 6], [3, -1, 2]]),
            dict(dx=[[2, -2, 3], [6, 1, 1]], dfactor=[13, -9, 6]),
        ),
    ],
    "ordered": [
        # log(1 + exp(log(3 - 1))) = log 3; of 0 it is log 2
        By(
            "forward",
            dict(x=[[2, np.log(2), 0], [-5, 0, np.log(7)]], targets=1),
            dict(a=[[2, 2 + np.log(3), 2 + np.log(6)], [-5, -5 + np.log(2), -5 + np.log(16)]]),
        ),
        # sums from the right 7, 6, 4 and 0, -1, 2; sigmoid(0) = 1/2, of log 3 it is 3/4
        By(
            "backward",
            dict(x=[[9, 0, np.log(3)], [9, np.log(3), 0]], targets=1, da=[[1, 2, 4], [1, -3, 2]]),
            dict(dx=[[7, 3, 3], [0, -3 / 4, 1]]),
        ),
        # 2 and -5 go up by themselves, by log 3, log 2 and log 6, log 16
        By(
            "forward",
            dict(x=[[2, -5, np.log(2), 0, np.log(5), np.log(15)]], targets=2),
            dict(a=[[2, -5, 2 + np.log(3), -5 + np.log(2), 2 + np.log(18), -5 + np.log(32)]]),
        ),
        # sums 1 + 4 + 16, 2 + 8 + 32, 4 + 16, ...; sigmoid of 0, log 3, log 3, 0
        By(
            "backward",
            dict(x=[[9, 9, 0, np.log(3), np.log(3), 0]], targets=2, da=[[1, 2, 4, 8, 16, 32]]),
            dict(dx=[[21, 42, 10, 30, 12, 16]]),
        ),
    ],
    "conv": [
        # kernel 1 2 / -1 3: z = 1 + 4 - 3 - 3 - 8, 2 + 0 + 1 + 3 - 8, 3 - 2 + 0 + 6 - 8, -1 + 2 - 2 + 12 - 8
        By(
            "forward",
            dict(x=IMAGE, w=[[[1]], [[2]], [[-1]], [[3]]], b=[-8], **SMALL, **PLAIN, activation=half),
            dict(z=[[[-9], [-2], [-1], [3]]], a=[[[-4.5], [-1], [-0.5], [3]]]),
        ),
        # dz 1 2 / -1 3: dx = 1, 2 + 2, 4 / -1 - 1, 3 - 2 - 2 + 3, 6 + 6 / 1, -3 - 3, 9; halved where saved is not > 0
        # dw = 1 + 4 - 3 - 3, 2 + 0 + 1 + 3, 3 - 2 + 0 + 6, -1 + 2 - 2 + 12
        By(
            "backward",
            dict(
                x=IMAGE,
                w=[[[1]], [[2]], [[-1]], [[3]]],
                **SMALL,
                **PLAIN,
                below=half,
                saved=[[1, -1, 2, 0, 3, 1, -2, 1, 5]],
                dz=[[[1], [2], [-1], [3]]],
            ),
            dict(dx=[[1, 2, 4, -1, 2, 12, 0.5, -6, 9]], dw=[[[-1]], [[6]], [[7]], [[11]]], db=[5]),
        ),
        # pixels (1 10) (2 20) (3 30), windows of 2, from -1 and from 1 on: 0 + 3, 0 - 10 + 1 and 2 + 9, 40 - 30 + 1
        By(
            "forward",
            dict(x=[[1, 10, 2, 20, 3, 30]], w=[[[1, 2]], [[3, -1]]], b=[0, 1], **LINE, activation=half),
            dict(z=[[[3, -9], [11, 11]]], a=[[[3, -4.5], [11, 11]]]),
        ),
        # dx = 1 3, 2 (-1) and 3 1, -1 2 and 3 3, -1 (-1); dw = 0 + 3 2, 0 - 20 and 1 + 3 3, 2 10 - 30
        By(
            "backward",
            dict(
                x=[[1, 10, 2, 20, 3, 30]],
                w=[[[1, 2]], [[3, -1]]],
                **LINE,
                below=identity,
                saved=[[1, 10, 2, 20, 3, 30]],
                dz=[[[1, 2], [3, -1]]],
            ),
            dict(dx=[[3, -2, 3, -2, 9, 1]], dw=[[[6, -20]], [[10, -10]]], db=[4, 1]),
        ),
    ],
    "max_pool": [
        By("forward", dict(x=IMAGE, **SMALL), dict(a=[[[3], [2], [3], [4]]], winner=[[[2], [0], [0], [3]]])),
        By("forward", dict(x=IMAGE, **AROUND), dict(a=[[[3], [2], [3], [4]]], winner=[[[7], [3], [1], [4]]])),
        By(  # of equals the first; what is outside is not 0
            "forward",
            dict(x=[[-2, -2, -3]], **window(1, 3, (1, 2), (1, 3), (1, 1), (0, 1))),
            dict(a=[[[-2], [-2]]], winner=[[[1], [0]]]),
        ),
        By(
            "backward",
            dict(**SMALL, winner=[[[2], [0], [0], [3]]], da=[[[1], [2], [4], [8]]]),
            dict(dx=[[0, 2, 0, 5, 0, 0, 0, 0, 8]]),
        ),
    ],
    "avg_pool": [  # 1 + 2 + 3 - 1, 2 + 0 - 1 + 1, 3 - 1 + 0 + 2, -1 + 1 + 2 + 4, each of 4 cells
        By("forward", dict(x=IMAGE, **AROUND), dict(a=[[[1.25], [0.5], [1], [1.5]]])),
        By("forward", dict(x=IMAGE, **SMALL), dict(a=[[[1.25], [0.5], [1], [1.5]]])),
        By(  # the last window has one cell
            "forward",
            dict(x=[[1, 2, 5]], **window(1, 3, (1, 2), (1, 2), (1, 2), (0, 0))),
            dict(a=[[[1.5], [5]]]),
        ),
        By(
            "backward",
            dict(**AROUND, da=[[[4], [8], [12], [16]]]),
            dict(dx=[[1, 1 + 2, 2, 1 + 3, 1 + 2 + 3 + 4, 2 + 4, 3, 3 + 4, 4]]),
        ),
    ],
    "pad": [
        By(
            "forward",
            dict(x=[[1, 2, 3, 4]], height=2, width=2, channels=1, out_height=3, out_width=3, top=1, left=0),
            dict(a=[[[0], [0], [0], [1], [2], [0], [3], [4], [0]]]),
        ),
        By(
            "backward",
            dict(
                **dict(height=2, width=2, channels=1, out_height=3, out_width=3, top=1, left=0),
                da=[[[1], [2], [3], [4], [5], [6], [7], [8], [9]]],
            ),
            dict(dx=[[4, 5, 7, 8]]),
        ),
    ],
    "upsample": [
        By(
            "forward",
            dict(x=[[1, 2]], height=1, width=2, channels=1, factor_height=2, factor_width=3),
            dict(a=[[[1], [1], [1], [2], [2], [2]] * 2]),
        ),
        # 1 + 2 + 3 + 7 + 8 + 9, 4 + 5 + 6 + 10 + 11 + 12
        By(
            "backward",
            dict(
                **dict(height=1, width=2, channels=1, factor_height=2, factor_width=3),
                da=[[[1], [2], [3], [4], [5], [6], [7], [8], [9], [10], [11], [12]]],
            ),
            dict(dx=[[30, 48]]),
        ),
    ],
    "fork": [
        By(
            "backward",
            dict(da=[[1, 2], [3, 4]], dother=[[10, 20], [30, -40]]),
            dict(dx=[[11, 22], [33, -36]]),
        )
    ],
    "turn": [
        By("forward", dict(other=[[1, 2, 3], [4, 5, 6]]), dict(a=[[1, 2, 3], [4, 5, 6]])),
        By("backward", dict(dother=[[1, -2], [3, 4]]), dict(dx=[[1, -2], [3, 4]])),
    ],
    "join": [
        By("forward", dict(x=[[1, 2], [3, 4]], other=[[10, 20], [30, -40]]), dict(a=[[11, 22], [33, -36]])),
        By("backward", dict(da=[[1, -2], [3, 4]]), dict(dx=[[1, -2], [3, 4]])),
    ],
    # One unit, two steps. sigmoid of L = log 3 is 3/4, tanh of L / 2 is 1/2, of L 4/5
    "rnn": [
        # L - L/2, then -L/2 + 3L/2
        By(
            "forward",
            dict(x=[[[L], [0]]], w=[[1]], u=[[3 * L]], b=[-L / 2], relu=0.0),
            dict(before=[[[0], [1 / 2]]], a=[[[1 / 2], [4 / 5]]]),
        ),
        By(  # 2 + 1, then -2 + 1 - 3; -4 + 1, then 2 + 1
            "forward",
            dict(x=[[[1], [-1]], [[-2], [1]]], w=[[2]], u=[[-1]], b=[1], relu=1.0),
            dict(before=[[[0], [3]], [[0], [0]]], a=[[[3], [0]], [[0], [3]]]),
        ),
        By("predict", dict(x=[[[L], [0]]], w=[[1]], u=[[3 * L]], b=[-L / 2], relu=0.0), dict(a=[[[1 / 2], [4 / 5]]])),
        # 5 (1 - 16/25) = 9/5, then (1 + 2 9/5) 3/4
        By(
            "backward",
            dict(
                x=[[[2], [-1]]],
                w=[[3]],
                u=[[2]],
                relu=0.0,
                before=[[[0], [1 / 2]]],
                a=[[[1 / 2], [4 / 5]]],
                da=[[[1], [5]]],
            ),
            dict(
                dgates=[[[69 / 20], [9 / 5]]], dx=[[[207 / 20], [27 / 5]]], dw=[[51 / 10]], du=[[9 / 10]], db=[21 / 4]
            ),
        ),
        By(  # 5, which a = 0 lets not through
            "backward",
            dict(x=[[[2], [-1]]], w=[[3]], u=[[2]], relu=1.0, before=[[[0], [3]]], a=[[[3], [0]]], da=[[[1], [5]]]),
            dict(dgates=[[[1], [0]]], dx=[[[3], [0]]], dw=[[2]], du=[[0]], db=[1]),
        ),
    ],
    "gru": [
        # r: L, then 3/8 8L/3. z: -2L + L, then L - 3/8 8L/3. n: L - L/2 + 3/4 0, then -L/2 + 3/4 (3/8 16L/3)
        # h: 3/4 1/2 + 1/4 0 = 3/8, then 1/2 4/5 + 1/2 3/8
        By(
            "forward",
            dict(
                x=[[[L], [0]]], w=[[1, -2, 1]], u=[[8 * L / 3, -8 * L / 3, 16 * L / 3]], b=[0, 0, -L / 2], bu=[0, L, 0]
            ),
            dict(
                before=[[[0], [3 / 8]]],
                gates=[[[3 / 4, 1 / 4, 1 / 2, 0], [3 / 4, 1 / 2, 4 / 5, 2 * L]]],
                a=[[[3 / 8], [47 / 80]]],
            ),
        ),
        By(
            "predict",
            dict(
                x=[[[L], [0]]], w=[[1, -2, 1]], u=[[8 * L / 3, -8 * L / 3, 16 * L / 3]], b=[0, 0, -L / 2], bu=[0, L, 0]
            ),
            dict(a=[[[3 / 8], [47 / 80]]]),
        ),
        # The last step, dh = 2: dz = 2 (3/8 - 1/2) 1/4, dn = 2 1/2 3/4, dq = 3/4 3/4, dr = 3/4 (-4) 3/16. To the first
        # go 2 1/2 - 9/16 2 + 1/16 + 9/16 4 = 35/16: dh = 51/16, dz = 51/16 (0 - 1/2) 3/16, dn = 51/16 3/4 3/4,
        # dq = dn / 2, dr = dn 2 1/4. dx = dr - 2 dz + 3 dn
        By(
            "backward",
            dict(
                x=[[[2], [-1]]],
                w=[[1, -2, 3]],
                u=[[2, -1, 4]],
                before=[[[0], [3 / 8]]],
                gates=[[[1 / 2, 1 / 4, 1 / 2, 2], [3 / 4, 1 / 2, 1 / 2, -4]]],
                da=[[[1], [2]]],
            ),
            dict(
                dgates=[[[459 / 512, -153 / 512, 459 / 256, 459 / 512], [-9 / 16, -1 / 16, 3 / 4, 9 / 16]]],
                dx=[[[3519 / 512], [29 / 16]]],
                dw=[[603 / 256, -137 / 256, 363 / 128]],
                du=[[-27 / 128, -3 / 128, 27 / 128]],
                db=[171 / 512, -185 / 512, 651 / 256],
                dbu=[171 / 512, -185 / 512, 747 / 512],
            ),
        ),
    ],
    "lstm": [
        # i: L, then L. f: L, then L - 2L. g: L / 2, then L. o: L, then 0. c: 3/4 1/2, then 1/4 3/8 + 3/4 4/5
        By(
            "forward",
            dict(x=[[[L], [0]]], w=[[1, 0, 0.5, 1]], u=[[L / SHOWN, -2 * L / SHOWN, L / SHOWN, 0]], b=[0, L, 0, 0]),
            dict(
                before=[[[0], [SHOWN]]],
                gates=[[[3 / 4, 3 / 4, 1 / 2, 3 / 4], [3 / 4, 1 / 4, 4 / 5, 1 / 2]]],
                cell=[[[3 / 8], [111 / 160]]],
                a=[[[SHOWN], [np.tanh(111 / 160) / 2]]],
            ),
        ),
        By(
            "predict",
            dict(x=[[[L], [0]]], w=[[1, 0, 0.5, 1]], u=[[L / SHOWN, -2 * L / SHOWN, L / SHOWN, 0]], b=[0, L, 0, 0]),
            dict(a=[[[SHOWN], [np.tanh(111 / 160) / 2]]]),
        ),
        # The last step, dh = 2: dc = 2 1/2 9/25, di = dc (-1/2) 3/16, df = dc L/2 1/4, dg = dc 1/4 3/4, do = 2 4/5 1/4.
        # To the first go dc / 2 = 9/50 and -27/800 2 - 9L/200 + 27/400 + 2/5 4: DH and DC there, di = DC 1/2 1/4,
        # dg = DC 1/2 3/4, do = DH 1/2 3/16, and no cell to forget. dx = di - 2 df + 3 dg + do
        By(
            "backward",
            dict(
                x=[[[2], [-1]]],
                w=[[1, -2, 3, 1]],
                u=[[2, -1, 1, 4]],
                before=[[[0], [3 / 8]]],
                gates=[[[1 / 2, 1 / 4, 1 / 2, 3 / 4], [1 / 4, 1 / 2, -1 / 2, 1 / 2]]],
                cell=[[[L / 2], [L]]],
                da=[[[1], [2]]],
            ),
            dict(
                dgates=[[FIRST, LAST]],
                dx=[[[5 * DC / 4 + 3 * DH / 32], [91 / 160 - 9 * L / 100]]],
                dw=[2 * FIRST - LAST],
                du=[3 / 8 * LAST],
                db=FIRST + LAST,
            ),
        ),
    ],
    "last": [
        By("forward", dict(x=[[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]]), dict(a=[[5, 6], [11, 12]])),
        By("backward", dict(da=[[5, 6], [7, 8]]), dict(dx=[[0, 0, 5, 6], [0, 0, 7, 8]])),
    ],
    "embedding": [  # 1 is padding, 3 and 1/2 are no ids
        By(
            "forward",
            dict(x=[[0, 2, 1], [2, 3, 0.5]], w=[[1, 2], [3, 4], [5, 6]], ids=3.0, padding=1.0),
            dict(a=[[[1, 2], [5, 6], [0, 0]], [[5, 6], [np.nan, np.nan], [np.nan, np.nan]]]),
        ),
        By(
            "backward",
            dict(
                x=[[0, 2, 1], [2, 3, 0.5]],
                ids=3.0,
                padding=1.0,
                da=[[[1, 2], [3, 4], [5, 6]], [[7, 8], [9, 9], [9, 9]]],
            ),
            dict(dx=[[0, 0, 0], [0, 0, 0]], dw=[[1, 2], [0, 0], [10, 12]]),
        ),
    ],
}


def by_hand(name: str, which: str) -> list[By]:
    """The values for a call; for a prediction that is the forward pass, those of forward."""
    own = which if which in OPS[name].spec.calls else "forward"
    return [by for by in HAND.get(name, ()) if by.which == own]


@pytest.mark.parametrize(("name", "which"), CALLS)
def test_every_call_has_values_worked_out_by_hand(name, which):
    call, values = call_of(name, which), by_hand(name, which)
    assert values, f"HAND has no values for {which} of {name}"
    for by in values:
        written = [each for each in call.outputs if each in by.given]
        assert {*by.given, *by.expected} == set(call.names)
        assert set(by.expected) == set(call.outputs) and [*by.given] == [*call.inputs, *written]


def arguments(name: str, which: str, by: By, dtype: type, guarded: Guarded) -> Named:
    spec = OPS[name].spec

    def array(each: str, value: Any, poisoned: bool) -> Any:
        if each in (*spec.setting_names, "activation", "below", "key"):
            return value
        own = np.int64 if each == "rows" else spec.fields[each].dtype if each in spec.fields else None
        made = np.array(value, own or dtype)
        return guarded.argument(Out(made.shape, made.dtype) if poisoned else made, made.dtype)

    given = {each: array(each, value, False) for each, value in by.given.items()}
    made = given | {each: array(each, v, True) for each, v in by.expected.items() if each not in given}
    return {each: made[each] for each in call_of(name, which).names}


@BACKENDS
@DTYPES
@pytest.mark.parametrize(("name", "which"), CALLS)
def test_values_worked_out_by_hand(name, which, dtype, backend, kernels):
    """To 8 roundings of the largest number: there are no more than that in a row here."""
    for by in by_hand(name, which):
        guarded = Guarded()
        made = arguments(name, which, by, dtype, guarded)
        kernel(kernels, name, which)(*made.values())
        guarded.check()
        for each, value in by.expected.items():
            want = np.array(value, np.float64)
            bound = 8 * np.finfo(dtype).eps * np.nanmax(np.abs(want))
            np.testing.assert_allclose(made[each], want, rtol=0, atol=bound, err_msg=f"{which} of {name}: {each}")


# Central differences ----------------------------------------------------------------------------------------

BACKWARD = [name for name, op in OPS.items() if "backward" in op.spec.calls]
STEP = 1e-5  # the differences are off by about STEP^2 times a third derivative, and by eps / STEP: both 1e-10
RIGHT = 1e-7


class Scalar:
    """An operation on a small batch as a function of its input and parameters: the sum of da a, and of dother x where
    another operation reads x too. `dz` of a call is with respect to what stands before the fused activation, which is
    the identity here; where backward goes through the activation below, the input is what stands before that."""

    def __init__(self, kernels: Kernels, name: str) -> None:
        self.kernels, self.name, spec = kernels, name, OPS[name].spec
        values = {}
        for seed, which in enumerate(("backward", "forward")):
            if (name, which) in CALLS:
                values |= operation(Draw(np.float64, seed), name, which, 5, 4, 3).arguments
        self.values = {"x": Draw(np.float64)(*values["dx"].shape)} | values
        self.below = ACTIVATIONS["tanh"] if spec.goes_below else identity
        learned = (field.name for field in spec.param_fields)
        inputs = () if "ids" in spec.setting_names else ("x",)  # an id has no neighbours
        self.of = {name: self.values[name] for name in (*inputs, *learned)}

    def after_forward(self) -> Named:
        """Every argument, on fresh arrays."""
        x = np.asarray(self.below.value(self.values["x"], self.below.alpha), np.float64)
        values = self.values | {"x": x, "saved": x, "activation": identity, "below": self.below}
        made = {each: Guarded().argument(value, np.float64) for each, value in values.items()}
        self.run("forward", made)
        return made

    def run(self, which: str, made: Named) -> None:
        if (self.name, which) in CALLS:
            kernel(self.kernels, self.name, which)(*(made[each] for each in call_of(self.name, which).names))

    def value(self) -> float:
        made = self.after_forward()
        products = [(made.get("dz", made.get("da")), made.get("a", made["x"])), (made.get("dother"), made["x"])]
        return float(sum((gradient * by).sum() for gradient, by in products if gradient is not None))

    def slope(self, tensor: str, place: int) -> float:
        entries = self.of[tensor].flat
        kept, values = entries[place], []
        for moved in (kept + STEP, kept - STEP):
            entries[place] = moved
            values.append(self.value())
        entries[place] = kept
        return (values[0] - values[1]) / (2 * STEP)


@BACKENDS
@pytest.mark.parametrize("name", BACKWARD)
def test_backward_is_the_derivative_of_forward(name, backend, kernels):
    """dx and the gradient of every parameter, in float64; the random bits are the same every time."""
    function = Scalar(kernels, name)
    made = function.after_forward()
    function.run("backward", made)
    for tensor, value in function.of.items():
        numeric = np.array([function.slope(tensor, place) for place in range(value.size)])
        error = np.abs(made[f"d{tensor}"].reshape(-1) - numeric).max()
        assert error <= RIGHT * max(1.0, np.abs(numeric).max()), f"d{tensor}"
        assert np.abs(numeric).max() > 0.1  # or there would be nothing to see

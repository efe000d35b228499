"""The C++ extension (csrc/bindings.cpp). The kernels take a leading `isa`, an index into instruction_sets()."""

from typing import Any

from fastnn.backends.contract import Array

ACTIVATIONS: tuple[str, ...]
LOSSES: tuple[str, ...]
RULES: tuple[str, ...]
FUNCTIONS: tuple[str, ...]

def instruction_sets() -> tuple[str, ...]: ...
def default_instruction_set() -> str: ...
def threads() -> int: ...
def set_threads(n: int) -> None: ...
def limit_threads(n: int) -> int: ...
def set_thread_quota(cpus: int) -> None: ...
def set_least_work(nanoseconds: float) -> None: ...
def multiply_adds(t: int, rounds: int) -> float: ...
def math(name: str, x: Array, out: Array, isa: str) -> None: ...

# activation, loss, rule: positions in the lists above
def shuffle(isa: int, key: tuple[int, int, int], order: Array, /) -> None: ...
def gather(isa: int, x: Array, rows: Array, out: Array, /) -> bool: ...
def gather_normalized(isa: int, x: Array, rows: Array, shift: Array, scale: Array, out: Array, /) -> bool: ...
def moments(isa: int, x: Array, rows: Array | None, step: int, pivot: Array, unit: Array, out: Array, /) -> bool: ...
def dense_forward(
    isa: int, x: Array, w: Array, b: Array, activation: int, alpha: float, z: Array, a: Array, /
) -> None: ...
def dense_backward_input(
    isa: int, dz: Array, w: Array, activation: int, alpha: float, saved: Array, dx: Array, /
) -> None: ...
def dense_backward_weights(isa: int, x: Array, dz: Array, dw: Array, db: Array, /) -> None: ...
def activation_forward(isa: int, activation: int, alpha: float, z: Array, a: Array, /) -> None: ...
def activation_backward(isa: int, activation: int, alpha: float, saved: Array, da: Array, dz: Array, /) -> None: ...
def softmax_forward(isa: int, z: Array, a: Array, /) -> None: ...
def softmax_backward(isa: int, a: Array, da: Array, dz: Array, /) -> None: ...
def maxout_forward(isa: int, z: Array, a: Array, winner: Array, /) -> None: ...
def maxout_backward(isa: int, winner: Array, da: Array, dz: Array, /) -> None: ...
def prelu_forward(isa: int, z: Array, slope: Array, a: Array, /) -> None: ...
def prelu_backward(isa: int, z: Array, slope: Array, da: Array, dz: Array, dslope: Array, /) -> None: ...
def rrelu_forward(isa: int, z: Array, lower: float, upper: float, key: tuple[int, int, int], a: Array, /) -> None: ...
def rrelu_backward(
    isa: int, z: Array, lower: float, upper: float, key: tuple[int, int, int], da: Array, dz: Array, /
) -> None: ...
def dropout(isa: int, x: Array, threshold: int, scale: float, key: tuple[int, int, int], out: Array, /) -> None: ...
def batch_norm_forward(
    isa: int,
    x: Array,
    gamma: Array,
    beta: Array,
    momentum: float,
    epsilon: float,
    running_mean: Array,
    running_var: Array,
    mean: Array,
    inv_std: Array,
    a: Array,
    /,
) -> None: ...
def batch_norm_predict(
    isa: int,
    x: Array,
    gamma: Array,
    beta: Array,
    epsilon: float,
    running_mean: Array,
    running_var: Array,
    a: Array,
    /,
) -> None: ...
def batch_norm_backward(
    isa: int,
    x: Array,
    gamma: Array,
    mean: Array,
    inv_std: Array,
    da: Array,
    dx: Array,
    dgamma: Array,
    dbeta: Array,
    /,
) -> None: ...
def layer_norm_forward(
    isa: int, x: Array, gamma: Array, beta: Array, epsilon: float, mean: Array, inv_std: Array, a: Array, /
) -> None: ...
def layer_norm_backward(
    isa: int,
    x: Array,
    gamma: Array,
    mean: Array,
    inv_std: Array,
    da: Array,
    dx: Array,
    dgamma: Array,
    dbeta: Array,
    /,
) -> None: ...
def loss(
    isa: int, loss: int, parameter: float, z: Array, y: Array, weight: Array, value: Array, dz: Array, /
) -> None: ...
def squared_norm(isa: int, g: Array, /) -> float: ...
def update(
    isa: int,
    rule: int,
    coefficients: tuple[float, ...],
    adjustment: tuple[Any, ...],
    w: Array,
    g: Array,
    slots: tuple[Array, ...],
    /,
) -> None: ...

class TrainerFloat32:
    def __init__(
        self,
        isa: int,
        ops: list[tuple[Any, ...]],
        inputs: int,
        parameters: int,
        statistics: int,
        scaling: int,
        recipe: tuple[float, ...],
    ) -> None: ...
    def run(self, *arguments: Any) -> bool: ...

class TrainerFloat64(TrainerFloat32): ...

class PredictorFloat32:
    def __init__(
        self,
        isa: int,
        ops: list[tuple[Any, ...]],
        inputs: int,
        parameters: int,
        statistics: int,
        scaling: int,
    ) -> None: ...
    def run(self, *arguments: Any) -> bool: ...

class PredictorFloat64(PredictorFloat32): ...

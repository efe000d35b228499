"""The C++ extension (csrc/bindings). The kernels take a leading `isa`, an index into instruction_sets()."""

from typing import Any

from fastnn.contract import Array
from fastnn.formulas.activations import Activation

ACTIVATIONS: tuple[str, ...]
LOSSES: tuple[str, ...]
RULES: tuple[str, ...]
FUNCTIONS: tuple[str, ...]
OPS: tuple[dict[str, str], ...]  # the Spec of each

def instruction_sets() -> tuple[str, ...]: ...
def int8_ways(isa: int) -> tuple[str, ...]: ...
def default_instruction_set() -> str: ...
def threads() -> int: ...
def set_threads(n: int) -> None: ...
def limit_threads(n: int) -> int: ...
def set_thread_quota(cpus: int) -> None: ...
def add_formula(
    kind: str, bytes: int, formula: int, derivative: int = 0, slots: int = 0, coefficients: int = 0
) -> int: ...
def set_least_work(nanoseconds: float) -> None: ...
def multiply_adds(t: int, rounds: int) -> float: ...
def math(name: str, x: Array, out: Array, isa: str) -> None: ...

# The operations: `operation` is a position in OPS, what follows are the arguments that its Spec names
def op_forward(isa: int, operation: int, /, *arguments: Any) -> None: ...
def op_predict(isa: int, operation: int, /, *arguments: Any) -> None: ...
def op_backward(isa: int, operation: int, /, *arguments: Any) -> None: ...
def op_gather(isa: int, operation: int, /, *arguments: Any) -> bool: ...

# loss, rule: positions in the lists above
def shuffle(isa: int, key: tuple[int, int, int], order: Array, /) -> None: ...
def moments(isa: int, x: Array, rows: Array | None, step: int, pivot: Array, unit: Array, out: Array, /) -> bool: ...
def activation_backward(isa: int, below: Activation, saved: Array, da: Array, dz: Array, /) -> None: ...
def loss(
    isa: int,
    loss: int,
    parameter: float | tuple[float, ...],
    z: Array,
    y: Array,
    weight: Array,
    value: Array,
    dz: Array,
    /,
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

# A Predictor, which asks its `owner`, a serving.Predictor, where it does not answer itself, or with what is not finite.
# buffers: parameters, statistics, scaling; copied. link: what makes probabilities, or None: operation, activation,
# whether of one value z it makes f(-z) and f(z), whether predictions have it. shapes: of a row that goes in and out.
# scaling: shifts and scale of the targets, or None. flags: whether other dtypes than the network's are the owner's,
# whether a class is a value above 0, whether it is live: of buffers that are not copied and may change, and of rows,
# never of one alone.
def freeze(
    isa: int,
    ops: list[tuple[Any, ...]],
    buffers: tuple[Array, Array, Array],
    link: tuple[str, int, bool, bool] | None,
    owner: object,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    names: tuple[str, ...] | None,
    classes: tuple[Any, ...] | None,
    scaling: tuple[tuple[float, ...], float] | None,
    flags: tuple[bool, bool, bool],
    int8: tuple[int, tuple[tuple[Array, Array, Array] | None, ...]] | None,
    /,
) -> Any: ...

class TrainerFloat32:
    def __init__(
        self,
        isa: int,
        ops: list[tuple[Any, ...]],
        inputs: int,
        parameters: int,
        statistics: int,
        scaling: int,
        objective: tuple[Any, ...],
    ) -> None: ...
    def run(
        self, state: tuple[Any, ...], batches: tuple[Any, ...], rates: tuple[Array, Array], losses: Array, taken: Array
    ) -> bool: ...

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

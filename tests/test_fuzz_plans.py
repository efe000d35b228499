"""Malformed plans: 20,000 at random (fuzz_plans.py), and those that were once taken, as they were found."""

from __future__ import annotations

import math
from typing import Any

import fuzzing
import numpy as np
import pytest

from fastnn.ops import OPS

_native = pytest.importorskip("fastnn._native", reason="the extension was not compiled", exc_type=ImportError)
import fuzz_plans  # noqa: E402  it needs the extension
from fuzz_plans import Case  # noqa: E402

Op = tuple[Any, ...]
IDENTITY = _native.ACTIVATIONS.index("identity")
MSE, SGD = _native.LOSSES.index("mse"), _native.RULES.index("sgd")
OBJECTIVE = (MSE, 0.0, SGD, 0, math.inf, math.inf)


def op(kind: Any, inputs: Any, outputs: Any, settings: Any = (), tensors: Any = (), other: Any = -1) -> Op:
    return kind, inputs, outputs, IDENTITY, 0.0, False, settings, tensors, other, -1


def tensor(size: Any, offset: Any = 0, trainable: Any = True) -> Op:
    return offset, size, trainable, 0.0, 0.0, 0.0


def dense(inputs: int, outputs: int) -> Op:
    return op("dense", (inputs,), (outputs,), (), (tensor(inputs * outputs), tensor(outputs, inputs * outputs)))


def predictor(*ops: Any, inputs: int = 4, size: int = 100) -> Any:
    return _native.PredictorFloat32(0, list(ops), inputs, size, size, size)


def trainer(*ops: Any, inputs: int = 4, size: int = 100, objective: Any = OBJECTIVE) -> Any:
    return _native.TrainerFloat32(0, list(ops), inputs, size, size, size, objective)


# At random --------------------------------------------------------------------------------------------------------


def test_malformed_plans_are_refused_or_computed():
    result = fuzzing.fuzz(Case, seed=0, cases=20_000, jobs=2)
    assert not result.faults, "\n".join([*result.faults, "python tests/fuzz_plans.py --only CASE repeats one"])
    assert result.outcomes.total() == 20_000
    refused = sum(count for outcome, count in result.outcomes.items() if outcome.startswith("plan refused"))
    assert refused > 5_000
    assert result.outcomes["run"] > 3_500
    ran = {(kind, name) for kind in ("Trainer", "Predictor") for name in OPS}
    assert ran == set(result.seen), "operations that no case has run"


def test_a_case_is_a_function_of_its_number():
    def described(number: int) -> tuple[Any, ...]:
        case = Case(3, number)
        return case.kind, [spoil.__name__ for spoil in case.spoiled], case.args["parameters"], len(case.args["ops"])

    assert [described(number) for number in range(50)] == [described(number) for number in range(50)]
    assert len({str(described(number)) for number in range(50)}) > 40


def test_what_the_cases_look_for_is_seen():
    with pytest.raises(AssertionError, match="names nothing"):
        fuzz_plans.checked(ValueError("no"))
    assert fuzz_plans.checked(ValueError("dense has no w")) == "ValueError"
    arrays = fuzz_plans.Arrays(Case(0, 0).rng)
    arrays.empty(np.uint8, 3)
    fixed = arrays.fixed(np.zeros(3))
    assert arrays.intact()
    arrays.guards[0][-1] = 0
    assert not arrays.intact()
    arrays.guards[0][-1] = 0xFF
    fixed[1] = 1
    assert not arrays.intact()


# One by one ---------------------------------------------------------------------------------------------------------


def test_rows_that_an_operation_does_not_make():
    with pytest.raises(ValueError, match="softmax does not make such rows out of such rows"):
        predictor(op("softmax", (4,), (4_000_000,)))


def test_tensors_that_are_missing():
    with pytest.raises(ValueError, match="prelu has other tensors than its Spec"):
        predictor(op("prelu", (4,), (4,)))


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (None, "an operation is None, expected a tuple"),
        ("softmax", "an operation is 'softmax', expected a tuple"),
        (("softmax", (4,), (4,)), "an operation is a tuple of 3, expected 10"),
        (op(7, (4,), (4,)), "the kind of an operation is 7, expected a name"),
        (op("\ud800", (4,), (4,)), r"the kind of an operation is '\\ud800', expected a name"),
        (op("no", (4,), (4,)), "there is no operation 'no'"),
        (op("softmax", 4, (4,)), "softmax's shape of a row is 4, expected a tuple"),
        (op("softmax", (4.0,), (4,)), r"softmax's size of a row is 4.0, expected a whole number"),
        (op("softmax", (-4,), (4,)), r"softmax's size of a row is -4, expected a whole number"),
        (op("softmax", (2**64,), (4,)), r"softmax's size of a row is 18446744073709551616, expected a whole number"),
        (op("dropout", (4,), (4,), 0.5), "dropout's settings is 0.5, expected a tuple"),
        (op("dropout", (4,), (4,), ("a",)), "dropout's setting is 'a', expected a number"),
        (op("prelu", (4,), (4,), (), None), "prelu's tensors is None, expected a tuple"),
        (op("prelu", (4,), (4,), (), (4,)), "prelu's slope is 4, expected a tuple"),
        (op("prelu", (4,), (4,), (), ((0, 4),)), "prelu's slope is a tuple of 2, expected 6"),
        (op("prelu", (4,), (4,), (), (tensor(4, 0.5),)), "prelu's slope: its offset is 0.5, expected a whole number"),
        (op("prelu", (4,), (4,), (), (tensor("x" * 1000),)), r"prelu's slope: its size is 'x{79} \.\.\., expected"),
        (op("softmax", (4,), (4,), other=2**40), "softmax's other is 1099511627776, expected a whole number"),
    ],
)
def test_what_is_no_number_or_tuple_is_named(described, message):
    with pytest.raises((TypeError, ValueError), match=message):
        predictor(described)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (OBJECTIVE[:5], "objective is a tuple of 5, expected 6"),
        ((None, *OBJECTIVE[1:]), "objective: its loss is None, expected a whole number"),
        ((999, *OBJECTIVE[1:]), "objective: there is no such loss"),
        ((*OBJECTIVE[:2], -1, *OBJECTIVE[3:]), "objective: there is no such rule"),
        ((*OBJECTIVE[:5], "inf"), "objective: its clip_value is 'inf', expected a number"),
    ],
)
def test_what_is_wrong_with_an_objective(objective, message):
    with pytest.raises((TypeError, ValueError), match=message):
        trainer(dense(4, 4), objective=objective)


def test_nothing_that_learns():
    """A phase of no tasks is one that a team waits for."""
    with pytest.raises(ValueError, match="ops has nothing that learns"):
        trainer(op("softmax", (4,), (4,)))


def buffers() -> tuple[np.ndarray, ...]:
    return tuple(np.zeros(100, dtype) for dtype in (np.float32, np.float32, np.float64))


def test_a_sparse_x_of_other_parts():
    made = predictor(op("softmax", (4,), (4,)))
    with pytest.raises(TypeError, match="a sparse x is a tuple of 2, expected 4"):
        made.run(*buffers(), (1, 2), np.zeros((3, 4), np.float32))


def test_more_rows_a_step_than_a_number_can_count_on_from():
    made = trainer(dense(4, 2))
    x, y, losses, taken = np.ones((3, 4), np.float32), np.ones((3, 2), np.float32), np.zeros(1), np.zeros(1, np.int64)
    batches = (x, y, None, np.arange(3), 2**64 - 1, 1.0)
    rates = (np.full((1, 1), 0.5), np.full(1, 0.5))
    assert made.run((*buffers(), (), 0), batches, rates, losses, taken)
    assert taken[0] == 1 and losses[0] == pytest.approx(1.0)

"""Some cases of each fuzzer but that of plans, which has a file of its own; more on demand, and in .ci/fuzz.sh."""

from __future__ import annotations

import importlib.util
import os

import file_drafts
import fuzz_files
import fuzz_interruptions
import fuzz_networks
import fuzzing
import numpy as np
import pytest
from common import TIMELESS

import fastnn
from fastnn import nn

JOBS = 2


def no_faults(result: fuzzing.Result, script: str, cases: int) -> None:
    assert not result.faults, "\n".join([*result.faults, f"python tests/{script} --only CASE repeats one"])
    assert result.outcomes.total() == cases


def test_files_with_anything_changed():
    result = fuzzing.fuzz(fuzz_files.Case, seed=0, cases=3000, jobs=JOBS)
    no_faults(result, "fuzz_files.py", 3000)
    assert result.outcomes["model refused"] > 600 and result.outcomes["checkpoint refused"] > 50
    assert importlib.util.find_spec("sklearn") is None or result.outcomes["estimator refused"] > 300
    assert result.outcomes["run"] > 300
    changed = {name for kind, name in result.seen if kind == "model"}
    assert {"another_value", "exchanged", "other_array", "other_members"} <= changed


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_every_way_to_spoil_a_file_spoils_some():
    """None has become without effect."""
    for spoil in file_drafts.SPOILERS:
        changed = 0
        for number in range(12):
            draft = file_drafts.Draft(file_drafts.Random(number), "fitted")
            spoil(draft)
            changed += bytes(draft) != draft.original
        assert changed >= 6, spoil.__name__


def test_what_the_cases_of_files_look_for_is_seen(monkeypatch):
    """A reader that ignores what it does not know, one that raises something else, and one that takes memory."""
    cases = [fuzz_files.Case(0, number) for number in range(99)]
    unchanged = next(case for case in cases if case.kind == "model" and not case.spoiled)
    assert unchanged.run() == "run"

    def otherwise(path):
        model = fastnn.Sequential([nn.Dense(2)]).build(3, seed=5)
        model.metadata = {"unread": True}
        return model

    monkeypatch.setattr(fastnn, "load", otherwise)
    with pytest.raises(AssertionError, match="read otherwise"):
        unchanged.run()

    def greedy(path):
        np.zeros(30 << 20, np.uint8)
        raise fastnn.ModelFormatError(str(path))

    monkeypatch.setattr(fuzz_files, "WATCHED", 1.0)
    monkeypatch.setattr(fastnn, "load", greedy)
    with pytest.raises(AssertionError, match="bytes of memory"):
        unchanged.run()
    with pytest.raises(AssertionError, match="names nothing"):
        fuzz_files.refused("", "no", "file")


@pytest.mark.skipif(not fuzz_networks.COMPARED, reason="no backend to compare with numpy")
def test_random_networks():
    result = fuzzing.fuzz(fuzz_networks.Case, seed=0, cases=260, jobs=JOBS)
    no_faults(result, "fuzz_networks.py", 260)
    assert result.seen.keys() >= {kind.__name__ for kind in TIMELESS}, "layers that no network has"


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_interruptions_at_any_moment():
    result = fuzzing.fuzz(fuzz_interruptions.Case, seed=0, cases=80, jobs=JOBS)
    no_faults(result, "fuzz_interruptions.py", 80)
    assert result.outcomes["run"] > 20
    assert ("kill",) in result.seen and len(result.seen) > 3


@pytest.mark.parametrize("kind", [fuzz_files.Case, fuzz_networks.Case, fuzz_interruptions.Case])
def test_a_case_is_a_function_of_its_number(kind):
    first, second = ([str(kind(3, number)) for number in range(20)] for _ in range(2))
    assert [line.partition(" at 0x")[0] for line in first] == [line.partition(" at 0x")[0] for line in second]
    assert len(set(first)) > 10

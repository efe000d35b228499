"""The ladder: every rung takes the same steps, and a rung that does not is found out."""

import dataclasses

import numpy as np
import pytest

from fastnn import backends, cli
from fastnn.bench import ladder

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def quick(monkeypatch):
    """Problems small enough for explicit loops in a test."""
    small = tuple(dataclasses.replace(problem, rows=24, features=5) for problem in ladder.PROBLEMS)
    monkeypatch.setattr(ladder, "PROBLEMS", small)
    monkeypatch.setattr(ladder, "ROUND_SECONDS", 0.001)
    return small


@pytest.mark.parametrize("index", range(len(ladder.PROBLEMS)), ids=[p.name for p in ladder.PROBLEMS])
def test_rungs_agree(quick, index):
    climbed = ladder.rungs(quick[index])
    assert [rung.name for rung in climbed[:3]] == list(ladder.WRITTEN)
    assert len(climbed) == 3 + sum(name in backends.available() for name in ladder.COMPILED)
    start = [parameter.copy() for parameter in climbed[0].parameters]
    assert ladder.prove(climbed) <= ladder.TOLERANCE
    moved = [not np.array_equal(a, b) for a, b in zip(start, climbed[0].parameters, strict=True)]
    assert all(moved)


def test_a_wrong_rung_is_found_out(quick):
    problem = quick[0]

    def wrong(x, y, p, steps):
        ladder.logistic_vectorised(x, y, p, steps)
        p[0] *= 1.0 + 1e-6

    broken = dataclasses.replace(problem, written=(*problem.written[:2], wrong))
    with pytest.raises(AssertionError, match="vectorised"):
        ladder.prove(ladder.rungs(broken))


def test_command(quick, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert cli.main(["bench", "ladder", "--out", str(tmp_path / "ladder.png")]) == 0
    shown = capsys.readouterr().out
    for name in ladder.WRITTEN:
        assert shown.count(f"| {name} |") == 2
    assert (tmp_path / "ladder.png").read_bytes().startswith(PNG)

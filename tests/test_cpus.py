"""Control groups: the quotas of the CPU, in both versions, nested, and seen from inside a container."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastnn import _cpus


def machine(root: Path, groups: str, **files: str) -> Path:
    """A root directory with this /proc/self/cgroup and these files below /sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V1 = "cpu,cpuacct"


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "200000 100000\n", "a/cpu.max": "700000 100000\n"}, 2),
        ("0::/a/b\n", {"a/b/cpu.max": "garbage\n", "cpu.max": "100000 100000\n"}, 1),
        ("0::/docker/of-the-host\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/../outside\n", {"cpu.max": "400000 100000\n"}, 4),
        (f"4:{V1}:/x\n", {f"{V1}/x/cpu.cfs_quota_us": "200000", f"{V1}/x/cpu.cfs_period_us": "100000"}, 2),
        (f"4:{V1}:/x\n", {f"{V1}/x/cpu.cfs_quota_us": "-1", f"{V1}/x/cpu.cfs_period_us": "100000"}, None),
        ("4:memory:/x\n", {"memory/x/cpu.cfs_quota_us": "100000", "memory/x/cpu.cfs_period_us": "100000"}, None),
    ],
)
def test_the_smallest_quota_counts(tmp_path, groups, files, expected):
    assert _cpus.quota(machine(tmp_path, groups, **files)) == expected


def test_a_system_without_control_groups_has_no_quota(tmp_path):
    assert _cpus.quota(tmp_path) is None


def test_usable_is_what_the_affinity_allows(monkeypatch):
    monkeypatch.setattr(_cpus.os, "sched_getaffinity", lambda pid: {3, 5, 7}, raising=False)
    assert _cpus.usable() == 3
    monkeypatch.delattr(_cpus.os, "sched_getaffinity")
    monkeypatch.setattr(_cpus.os, "cpu_count", lambda: None)
    assert _cpus.usable() == 1


def spins_of_libgomp(**environment):
    """What libgomp, asked to tell, says of itself while a new process loads the extension; and what stays set there."""
    script = "import os, fastnn.backends.native; print(os.environ.get('GOMP_SPINCOUNT'))"
    inherited = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    told = subprocess.run(
        [sys.executable, "-c", script],
        env=inherited | environment | {"OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.findall(r"GOMP_SPINCOUNT = '(\d+)'", told.stderr)
    if not found:
        pytest.skip("the threads are not libgomp's")
    return found[-1], told.stdout.strip()


def test_threads_that_wait_give_their_core_back_soon():
    pytest.importorskip("fastnn._native", exc_type=ImportError)
    assert spins_of_libgomp() == (_cpus._SPINS, "None")


def test_whoever_says_how_threads_wait_is_heard():
    pytest.importorskip("fastnn._native", exc_type=ImportError)
    assert spins_of_libgomp(GOMP_SPINCOUNT="777") == ("777", "777")
    assert spins_of_libgomp(OMP_WAIT_POLICY="passive") == ("0", "None")

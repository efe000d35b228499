"""Control groups: the quotas of the CPU, in both versions, nested, and seen from inside a container."""

from __future__ import annotations

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

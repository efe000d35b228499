"""The CPUs that this process may use, by its affinity and what its control groups pay for, and how long a thread that
waits keeps one. No threads are started here."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SPINS = "20000"  # 0.3 to 1.4 ms: longer than Python takes between two calls, shorter than a turn of the scheduler


@contextmanager
def brief_waits() -> Iterator[None]:
    """A libgomp that is loaded in this block keeps a core for a millisecond after its threads have worked, no longer.

    Its own 300,000 spins are 15 ms on CPUs whose pause takes 140 cycles. Beside a busy process that made a fit in which
    threads were tried now and then 13 % slower than on one thread; with 20,000 it is as fast. Where OMP_WAIT_POLICY or
    GOMP_SPINCOUNT is set it stays as set; the environment is left as it was.
    """
    if os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}:
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = _SPINS
    try:
        yield
    finally:
        os.environ.pop("GOMP_SPINCOUNT", None)


def usable() -> int:
    """The CPUs in this process's affinity mask; all of them where the system has none."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quota(root: Path = Path("/")) -> int | None:
    """Whole CPUs, at least 1, of the smallest quota of this process's control group and those above it; None: no limit.

    A container with 1.5 CPUs gets one thread: a second would be stopped for half of every period, and the first would
    wait for it at each barrier. Both versions of Linux's control groups; `root` is where to look for /proc and /sys.
    """
    limits = [limit for group in _groups(root) for limit in _limits(group)]
    return max(1, math.floor(min(limits))) if limits else None


def _groups(root: Path) -> list[Path]:
    """The directories of this process's groups that can limit CPU time."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    groups = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2: one tree
            mounts = [root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"]
        elif "cpu" in controllers.split(","):
            mounts = [root / "sys/fs/cgroup/cpu", root / "sys/fs/cgroup/cpu,cpuacct"]
        else:
            continue
        groups += [(mount, mount / path.lstrip("/")) for mount in mounts]
    return [directory for mount, group in groups for directory in _upwards(group, mount)]


def _upwards(group: Path, mount: Path) -> list[Path]:
    """The group's directory and those above it, up to the mount. In a container the path may be that of the host, which
    is not there: then the mount itself is the container's group."""
    if ".." in group.parts or not group.is_dir():
        return [mount]
    return [group, *(parent for parent in group.parents if parent == mount or mount in parent.parents)]


def _limits(directory: Path) -> list[float]:
    """CPUs' worth of time that this directory allows: one number, or none."""
    try:
        quota, period = (directory / "cpu.max").read_text().split()
        return [] if quota == "max" else [int(quota) / int(period)]
    except (OSError, ValueError):
        pass
    try:
        spent = int((directory / "cpu.cfs_quota_us").read_text())
        every = int((directory / "cpu.cfs_period_us").read_text())
        return [spent / every] if spent > 0 and every > 0 else []
    except (OSError, ValueError):
        return []

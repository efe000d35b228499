"""The package's own errors and warnings, and whose line of code a warning is about."""

from __future__ import annotations

import sys


class BackendUnavailable(ImportError):
    """A backend that was asked for is not there; the message says how to get it."""


class NotFittedError(ValueError, AttributeError):
    """A model was used before it was built or fitted (both bases, as scikit-learn's error of that name)."""


class DivergenceError(RuntimeError):
    """The loss became NaN or infinite; the message has step and learning rate. The model keeps the parameters
    of the last call that ended finite."""


class ModelFormatError(ValueError):
    """A file is not one of this package's, is damaged, or says what cannot be; the message has file and reason."""


class CheckpointError(RuntimeError):
    """There is no checkpoint to go on from, or its folder is in use by another fit."""


class CheckpointNotFound(CheckpointError, FileNotFoundError):
    """There is no checkpoint where a fit was to go on from."""


class CheckpointWarning(UserWarning):
    """A fit goes on from an older checkpoint, the newest being damaged, or on a backend whose bits are others."""


class FallbackWarning(RuntimeWarning):
    """Something runs on a slower backend than the one that was asked for or is the fastest: the compiled kernels are
    missing, or they cannot run a formula of one's own. Issued once."""


class PrecisionWarning(UserWarning):
    """Data lose what tells them apart when they are rounded to the model's dtype. Not where Normalize comes first: it
    scales them before."""


class TargetWarning(UserWarning):
    """Targets are far from what an untrained model says, and nothing scales them: `Trainer(scale_targets=True)`
    does."""


class RateWarning(UserWarning):
    """A range test of learning rates has not found what it looks for; the message says what it suggests instead."""


class TableWarning(UserWarning):
    """A table has columns that are likely not what they seem: row numbers, names, text that the training has not
    seen."""


_PACKAGES = {"pyarrow": "pandas pyarrow", "pandas": "pandas pyarrow", "PyTorch": "torch"}  # what pip calls them


def missing_extra(package: str, purpose: str, extra: str) -> ImportError:
    """The error for an optional dependency that is not installed; names the extra that brings it.

    Not with the name of this package, which on the public index is another project's."""
    packages = _PACKAGES.get(package, package)
    return ImportError(
        f"{purpose} needs {package}: pip install {packages}, or in a checkout of fastnn the extra [{extra}]: "
        f'pip install ".[{extra}]"'
    )


_PASSED_OVER = ("fastnn", "sklearn", "contextlib")


def callers() -> int:
    """The stacklevel, for who calls this, of the first frame beyond this package, scikit-learn and contextlib."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in _PASSED_OVER:
        frame, level = frame.f_back, level + 1
    return level

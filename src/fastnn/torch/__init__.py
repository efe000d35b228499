"""PyTorch's modules, losses and optimizers to fastnn's and back. Exact or refused by name; computes nothing itself.

Importing this package imports PyTorch, which `import fastnn` does not. ImportError names the extra [torch] where it is
missing.
"""

from fastnn.errors import missing_extra

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise missing_extra("PyTorch", "fastnn.torch", "torch") from error

from fastnn.torch.normalize import Normalize
from fastnn.torch.to_layers import from_torch
from fastnn.torch.to_modules import to_torch
from fastnn.torch.training import fit

__all__ = ["Normalize", "fit", "from_torch", "to_torch"]

"""Lambda: hooks from functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn import _validate
from fastnn.training.run import HOOKS, Callback


class Lambda(Callback):
    """Hooks from functions: `Lambda(on_epoch_end=lambda run: print(run.logs))`. TypeError for what is no hook,
    ValueError for an `on_step` without `every`, which would never be called.

    >>> seen = []
    >>> trainer = fastnn.Trainer(fastnn.Sequential([nn.Dense(1)]), "mse", seed=0)
    >>> note = Lambda(on_epoch_end=lambda run: seen.append(run.epoch))
    >>> history = trainer.fit(np.eye(3), [0.0, 1.0, 2.0], epochs=3, callbacks=[note])
    >>> seen
    [1, 2, 3]
    """

    def __init__(self, *, every: int | None = None, **hooks: Callable[..., Any]) -> None:
        self.every = None if every is None else _validate.integer("every", every)
        for name, hook in hooks.items():
            if name not in HOOKS:
                raise TypeError(f"Lambda got {name!r}, expected one of: {', '.join(HOOKS)}")
            if not callable(hook):
                raise TypeError(f"{name} is {hook!r}, expected a function")
            setattr(self, name, hook)
        if "on_step" in hooks and every is None:
            raise ValueError("every is None, expected after how many steps to call on_step")

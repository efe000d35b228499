"""A fit that had stopped, resumed: it goes on where its patience is larger now, else it says that it is over."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import fastnn
from fastnn import nn, optim


def stopping_fit(folder, patience, every=1, callbacks=(), **settings):
    """A fit that becomes no better after its first epochs, for the penalty pulls the weights back."""
    x = np.random.default_rng(0).normal(size=(100, 2))
    stop = fastnn.EarlyStopping(patience=patience)
    trainer = fastnn.Trainer(fastnn.Sequential([nn.Dense(1)]), "mse", optim.SGD(0.5, l2=1.0), seed=0)
    made = [stop, *callbacks, *([] if folder is None else [fastnn.Checkpoint(folder)])]
    options = dict(epochs=60, validation=0.2, validation_freq=every, verbose=False) | settings
    trainer.fit(x, x[:, 0], callbacks=made, resume=folder is not None, **options)
    return trainer, stop


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("larger", [3, 5, 20])
def test_a_larger_patience_goes_on_with_a_stopped_fit(tmp_path, larger, every):
    """To the bits of a fit that had it from the beginning."""
    first, stopped = stopping_fit(tmp_path, 2, every)
    assert stopped.stopped and len(first.history) < 60
    resumed, stop = stopping_fit(tmp_path, larger, every)
    at_once, expected = stopping_fit(None, larger, every)
    assert len(resumed.history) > len(first.history)
    assert resumed.history["loss"] == at_once.history["loss"]
    assert (stop.stopped, stop.best_epoch, stop.waited) == (expected.stopped, expected.best_epoch, expected.waited)
    np.testing.assert_array_equal(resumed.model.state.parameters, at_once.model.state.parameters)


@pytest.mark.parametrize("patience", [1, 2])
def test_a_stopped_fit_that_stays_so_says_why(tmp_path, patience):
    first, _ = stopping_fit(tmp_path, 2)
    message = (
        r"nothing is trained: the fit in .* was stopped after epoch \d+ of 60: val_loss has not become better for 2"
    )
    with pytest.warns(fastnn.CheckpointWarning, match=message) as caught:
        again, stop = stopping_fit(tmp_path, patience)
    assert caught[0].filename == __file__ and len(caught) == 1
    assert len(again.history) == len(first.history) and stop.stopped
    np.testing.assert_array_equal(again.model.state.parameters, first.model.state.parameters)


def test_a_fit_that_another_callback_stopped_says_why(tmp_path):
    enough = fastnn.Lambda(on_epoch_end=lambda run: run.stop("enough") if run.epoch == 2 else None)
    stopping_fit(tmp_path, 50, callbacks=[enough])
    with pytest.warns(fastnn.CheckpointWarning, match="was stopped after epoch 2 of 60: enough"):
        trainer, _ = stopping_fit(tmp_path, 60)
    assert len(trainer.history) == 2


def test_a_fit_with_no_epoch_left_says_nothing(tmp_path):
    first, _ = stopping_fit(tmp_path, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stopping_fit(tmp_path, 2, epochs=len(first.history))

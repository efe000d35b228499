"""What other libraries call it: hints in the errors for names that are not ours. Changes nothing that works."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

FIT = {
    "validation_split": "validation=0.2, a fraction",
    "validation_data": "validation=(X, y)",
    "eval_set": "validation=(X, y)",
    "max_iter": "epochs=",
    "n_epochs": "epochs=",
    "num_epochs": "epochs=",
    "sample_weights": "sample_weight=",
    "class_weights": "class_weight=",
    "learning_rate": "the optimizer's: Trainer(model, loss, optim.Adam(1e-3))",
    "lr": "the optimizer's: Trainer(model, loss, optim.Adam(1e-3))",
    "metrics": "the Trainer's: Trainer(model, loss, metrics=[...])",
    "patience": "a callback: callbacks=[fastnn.EarlyStopping(patience=10)]",
    "early_stopping": "a callback: callbacks=[fastnn.EarlyStopping(patience=10)]",
}
TRAINER = {
    "learning_rate": "the optimizer's: optimizer=optim.Adam(1e-3)",
    "lr": "the optimizer's: optimizer=optim.Adam(1e-3)",
    "weight_decay": "the optimizer's: optimizer=optim.AdamW(1e-3, decay=0.01)",
    "random_state": "seed=",
    "scheduler": "schedule=",
    "lr_scheduler": "schedule=",
    "criterion": "loss=",
    "device": "backend=",
    "epochs": "fit's: trainer.fit(X, y, epochs=10)",
    "batch_size": "fit's: trainer.fit(X, y, batch_size=32)",
    "callbacks": "fit's: trainer.fit(X, y, callbacks=[...])",
    "clipnorm": "clip_norm=",
    "clipvalue": "clip_value=",
}
OPTIMIZER = {
    "learning_rate": "lr=",
    "learning_rate_init": "lr=",
    "weight_decay": "decay=",
    "betas": "beta1= and beta2=",
    "beta_1": "beta1=",
    "beta_2": "beta2=",
    "eps": "epsilon=",
    "momentum": "beta= of optim.Momentum or optim.Nesterov",
    "nesterov": "optim.Nesterov(lr, beta=0.9)",
    "alpha": "rho=",
    "clipnorm": "the Trainer's: Trainer(..., clip_norm=)",
    "clipvalue": "the Trainer's: Trainer(..., clip_value=)",
    "params": "nothing: the Trainer gives it the model's",
}
LAYER = {
    "input_dim": "nothing: the first fit finds the number of inputs, or model.build(inputs)",
    "input_shape": "nothing: the first fit finds the shape of a row, or model.build(shape)",
    "in_features": "nothing: the first fit finds the number of inputs, or model.build(inputs)",
    "out_features": "units=",
    "use_bias": "bias=",
    "kernel_size": "kernel=",
    "pool_size": "size=",
    "strides": "stride=",
    "dilation_rate": "dilation=",
    "out_channels": "filters=",
    "in_channels": "nothing: the first fit finds the channels, or model.build(shape)",
    "data_format": "nothing: channels come last",
    "padding_mode": "nothing: zeros are what is outside",
    "kernel_initializer": "init=",
    "kernel_regularizer": "l1= and l2=",
    "p": "rate=",
    "eps": "epsilon=",
    "hidden_size": "units=",
    "input_size": "nothing: the first fit finds the shape of a row, or model.build(shape)",
    "recurrent_initializer": "recurrent_init=",
    "num_layers": "several layers, with return_sequences=True but for the last",
    "batch_first": "nothing: rows have shape (steps, channels)",
    "stateful": "nothing: a state begins anew with each row",
    "reset_after": "nothing: the reset of a GRU stands behind the product",
    "recurrent_dropout": "nn.Dropout between layers",
    "num_embeddings": "ids=",
    "embedding_dim": "units=",
    "output_dim": "units=",
    "padding_idx": "padding_id=",
    "mask_zero": "padding_id=0",
    "negative_slope": "nn.ACTIVATIONS['leaky_relu'].with_alpha(slope)",
}
# which would be without effect
FREEZING = dict.fromkeys(
    ("trainable", "requires_grad", "frozen"), "all parameters of a model are trained, no layer can be frozen"
)
LAYER |= {name: f"nothing: {why}" for name, why in FREEZING.items()}
MODEL_ATTRIBUTES = {
    **dict.fromkeys(("fit", "train", "compile", "partial_fit"), "a Trainer fits: Trainer(model, loss).fit(X, y)"),
    "forward": "call model.predict(X)",
    "parameters": "each layer has its own: model.layers[0].weight, all of them model.state.parameters",
    "state_dict": "model.save(file) and fastnn.load(file)",
    "add": "a model has its layers from the beginning: Sequential([...])",
    "score": "model.evaluate(X, y)",
}
TRAINER_ATTRIBUTES = {
    **{
        name: f"its model does: trainer.model.{name}"
        for name in ("predict", "predict_proba", "predict_class", "save", "summary", "layers", "build")
    },
    "score_samples": "trainer.evaluate(X, y)",
    "train": "trainer.fit(X, y)",
    "lr": "trainer.optimizer.lr",
    "learning_rate": "trainer.optimizer.lr",
}
_ACTIVATION = {"hardtanh": "hard_tanh", "hardsigmoid": "hard_sigmoid", "leakyrelu": "leaky_relu", "swish": "silu"}
_NETWORK = {  # of PyTorch and Keras, in small letters
    "linear": "nn.Dense(units)",
    "input": "nothing: the first fit finds the shape of a row, or model.build(shape)",
    "sequential": "fastnn.Sequential",
    "batchnorm1d": "nn.BatchNorm()",
    "batchnorm2d": "nn.BatchNorm()",
    "dropout2d": "nn.Dropout(rate)",
    "averagepooling1d": "nn.AvgPool1D(size)",
    "averagepooling2d": "nn.AvgPool2D(size)",
    "maxpooling1d": "nn.MaxPool1D(size)",
    "maxpooling2d": "nn.MaxPool2D(size)",
    "globalaveragepooling1d": "nn.GlobalAvgPool()",
    "globalaveragepooling2d": "nn.GlobalAvgPool()",
    "globalmaxpooling1d": "nn.GlobalMaxPool()",
    "globalmaxpooling2d": "nn.GlobalMaxPool()",
    "adaptiveavgpool1d": "nn.GlobalAvgPool()",
    "adaptiveavgpool2d": "nn.GlobalAvgPool()",
    "zeropadding1d": "nn.ZeroPad(padding)",
    "zeropadding2d": "nn.ZeroPad(padding)",
    "zeropad2d": "nn.ZeroPad(padding)",
    "upsampling1d": "nn.Upsample(factor)",
    "upsampling2d": "nn.Upsample(factor)",
    "depthwiseconv2d": "nn.Conv2D(filters, kernel, groups=channels)",
    "batchnormalization": "nn.BatchNorm()",
    "layernormalization": "nn.LayerNorm()",
    "rmsnormalization": "nn.RMSNorm()",
    "rnn": "nn.SimpleRNN(units)",
    "normalization": "nn.Normalize()",
    "crossentropyloss": "the loss of a Trainer: loss='cross_entropy'",
    "nllloss": "the loss of a Trainer: loss='cross_entropy'",
    "bcewithlogitsloss": "the loss of a Trainer: loss='binary_cross_entropy'",
    "bceloss": "the loss of a Trainer: loss='binary_cross_entropy'",
    "mseloss": "the loss of a Trainer: loss='mse'",
    "l1loss": "the loss of a Trainer: loss='mae'",
    "huberloss": "the loss of a Trainer: loss=nn.Huber(delta)",
    "module": "nn.Layer",
}


def arguments(hints: Mapping[str, str]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A method whose TypeError for an argument of another library's name says what is called so here. Its signature
    stays, and an argument that it has is its own."""

    def decorate(method: Callable[P, R]) -> Callable[P, R]:
        foreign = hints.keys() - inspect.signature(method).parameters.keys()
        own = method.__name__

        @functools.wraps(method)
        def hinted(*args: P.args, **kwargs: P.kwargs) -> R:
            if kwargs and not foreign.isdisjoint(kwargs):
                name = next(name for name in kwargs if name in foreign)
                where = type(args[0]).__name__ if own == "__init__" else own
                raise TypeError(f"{where} has no argument {name!r}, expected {hints[name]}")
            return method(*args, **kwargs)

        return hinted

    return decorate


def attribute(thing: Any, name: str, hints: Mapping[str, str]) -> AttributeError:
    """The error for an attribute that is not there, with the hint for its name, if there is one.

    Python asks `__getattr__` for a property, too, whose error is an AttributeError, as NotFittedError is: that one is
    raised.
    """
    if hasattr(type(thing), name):
        object.__getattribute__(thing, name)
    hint = f": {hints[name]}" if name in hints else ""
    return AttributeError(f"{type(thing).__name__!r} object has no attribute {name!r}{hint}", name=name, obj=thing)


def of_network(name: str, activations: Mapping[str, Any]) -> str | None:
    """What fastnn.nn has for a layer, an activation or a loss of PyTorch or Keras.

    >>> of_network("ReLU", {"relu": None})
    "nn.Activation('relu'), or nn.Dense(units, 'relu')"
    """
    small = name.lower()
    found = _ACTIVATION.get(small, small)
    if found in activations:
        return f"nn.Activation({found!r}), or nn.Dense(units, {found!r})"
    return _NETWORK.get(small)


def refuse_methods(kind: type, names: Iterable[str], instead: str) -> None:
    """TypeError where a class has a method of that name which its base has not: PyTorch and Keras would call it. Here
    nobody does, and the base would be computed in silence.

    >>> refuse_methods(type("Mine", (), {"forward": print}), ["forward"], "operations from its `ops`")
    Traceback (most recent call last):
    TypeError: Mine has a method 'forward', which fastnn does not call, expected operations from its `ops`
    """
    own = next((name for name in names if callable(vars(kind).get(name))), None)
    if own is not None:
        raise TypeError(f"{kind.__name__} has a method {own!r}, which fastnn does not call, expected {instead}")

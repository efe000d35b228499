"""The bridge to PyTorch, with PyTorch as the oracle: outputs, training loops, and what is refused by name."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from common import AUTOMATIC, ENGINES, build, features, make_layer, row_shape, run_python
from common import TIMELESS as ALL_LAYERS

import fastnn
from fastnn import nn, optim

torch = pytest.importorskip("torch")
bridge = pytest.importorskip("fastnn.torch")

tnn, to = torch.nn, torch.optim
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


@pytest.fixture(autouse=True)
def one_thread():
    """Small products: PyTorch's threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def stirred(module, seed: int = 0):
    """Every parameter and running statistic off its initial value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if tensor.is_floating_point():
                change = 0.3 * torch.rand(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.dtype)
                tensor += change if "running_var" in name else change - 0.15
    return module


def close(ours, theirs, dtype=torch.float32) -> None:
    theirs = theirs.detach().numpy()
    np.testing.assert_allclose(ours, theirs, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


# Forward, both ways ----------------------------------------------------------------------------------------

MODULES = {
    "Linear": lambda: tnn.Linear(6, 4),
    "Linear without bias": lambda: tnn.Linear(6, 4, bias=False),
    **{kind.__name__: kind for kind in (*bridge.pairs.NAMED, tnn.ELU, tnn.GELU, tnn.Softplus, tnn.Hardtanh, tnn.PReLU)},
    **{kind.__name__: kind for kind in (tnn.LeakyReLU, tnn.RReLU, tnn.Dropout, tnn.Identity, tnn.Flatten)},
    "LeakyReLU(0.3)": lambda: tnn.LeakyReLU(0.3),
    "ELU(0.5)": lambda: tnn.ELU(0.5),
    "GELU(tanh)": lambda: tnn.GELU("tanh"),
    "PReLU(6)": lambda: tnn.PReLU(6),
    "RReLU(0.1, 0.4)": lambda: tnn.RReLU(0.1, 0.4),
    "Softmax(1)": lambda: tnn.Softmax(1),
    "Softmax(-1)": lambda: tnn.Softmax(dim=-1),
    "BatchNorm1d": lambda: tnn.BatchNorm1d(6, eps=1e-3, momentum=0.3),
    "LayerNorm": lambda: tnn.LayerNorm(6, eps=1e-3),
    "RMSNorm": lambda: tnn.RMSNorm(6, eps=1e-3),
    "RMSNorm of PyTorch's epsilon": lambda: tnn.RMSNorm(6),
    "nested": lambda: tnn.Sequential(tnn.ReLU(), tnn.Sequential(tnn.Linear(6, 6)), tnn.Sequential()),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_each_module_there_and_back(make, dtype):
    before = stirred(tnn.Sequential(tnn.Linear(5, 6), make()).to(dtype)).eval()
    x = torch.randn(9, 5, dtype=dtype) * 3
    expected = before(x)
    model = bridge.from_torch(before)
    back = bridge.to_torch(model)
    for backend in ENGINES:
        close(model.predict(x.numpy(), backend=backend), expected, dtype)
    close(back(x).detach().numpy(), expected, dtype)
    again = bridge.from_torch(back)
    assert again.predict(x.numpy()).tobytes() == model.predict(x.numpy()).tobytes()
    with torch.no_grad():
        before[0].weight.zero_()  # a copy, not a view
    close(model.predict(x.numpy()), expected, dtype)


def test_every_supported_module_has_a_case():
    tried = {type(make()) for make in MODULES.values()} - {tnn.Sequential}
    assert tried == set(bridge.to_layers.LAYER_OF) - {tnn.LogSoftmax, bridge.Normalize}


LAYERS = {
    **{
        name: lambda name=name: [nn.Dense(4, name)]
        for name in [*nn.ACTIVATIONS, "softmax", "prelu", "rrelu"]
        if name not in ("binary_step", "exponential")
    },
    "leaky": lambda: [nn.Dense(4, nn.ACTIVATIONS["leaky_relu"].with_alpha(0.2), bias=False)],
    "layer of identity": lambda: [nn.Dense(3, "relu"), nn.Activation("identity")],
    "layer of prelu": lambda: [nn.Dense(3), nn.Activation(nn.PReLU(0.4))],
    "norms": lambda: [nn.Dense(4), nn.BatchNorm(), nn.Dropout(0.3), nn.LayerNorm(), nn.RMSNorm(), nn.Softmax()],
    "normalize": lambda: [nn.Normalize("minmax"), nn.Dense(4, "relu")],
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_each_layer_there_and_back(make, dtype):
    model = build(*make(), dtype=dtype)
    x = features(9) * 4
    if isinstance(model.layers[0], nn.Normalize):
        model.layers[0].adapt(x)
    module = bridge.to_torch(model)
    assert not module.training
    tensor = torch.from_numpy(x.astype(dtype))
    close(model.predict(tensor.numpy()), module(tensor), tensor.dtype)
    np.testing.assert_array_equal(bridge.from_torch(module).predict(tensor.numpy()), model.predict(tensor.numpy()))


def test_normalize_keeps_digits_that_float32_has_not():
    x = 1.7e9 + np.arange(64.0).reshape(-1, 1)
    model = fastnn.Sequential([nn.Normalize(), nn.Dense(1)])
    fastnn.Trainer(model, "mse", seed=0).fit(x, np.arange(64.0), epochs=1, verbose=False)
    module = bridge.to_torch(model)
    close(model.predict(x), module(torch.from_numpy(x)))
    again = bridge.from_torch(pickle.loads(pickle.dumps(module)))
    assert again.layers[0].adapted and again.predict(x).tobytes() == model.predict(x).tobytes()


def test_normalize_follows_the_dtype_of_its_module():
    """Into float64 and back: the scaling keeps its digits, the rows come out as the layers behind want them."""
    x = 1.7e9 + np.arange(64.0).reshape(-1, 1)
    model = fastnn.Sequential([nn.Normalize(), nn.Dense(1)])
    fastnn.Trainer(model, "mse", seed=0).fit(x, np.arange(64.0), epochs=1, verbose=False)
    module = bridge.to_torch(model)
    expected = module(torch.from_numpy(x))
    for moved in (module.double(), pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
        assert moved(torch.from_numpy(x)).dtype == torch.float64
        close(moved(torch.from_numpy(x)).detach().numpy(), expected)
    double = bridge.from_torch(module)
    assert double.plan.dtype == np.float64
    close(double.predict(x), module(torch.from_numpy(x)), torch.float64)
    for change in (module.float, module.half, module.bfloat16, lambda: module.to(torch.float32)):
        change()
        assert module(torch.from_numpy(x)).dtype == module[1].weight.dtype
        assert module[0].shift.dtype == module[0].scale.dtype == torch.float64
    np.testing.assert_array_equal(module[0].shift.numpy(), model.layers[0].shift)
    np.testing.assert_array_equal(module[0].scale.numpy(), model.layers[0].scale)
    assert list(module[0].state_dict()) == ["shift", "scale"]
    alone = fastnn.Sequential([nn.Normalize()], dtype=np.float64)
    alone.build(1, seed=0)
    alone.layers[0].adapt(x)
    assert bridge.from_torch(bridge.to_torch(alone)).plan.dtype == np.float64


def test_flatten_comes_first():
    module = tnn.Sequential(tnn.ReLU(), tnn.Dropout(0.1), tnn.Flatten(), tnn.Linear(12, 3), tnn.Flatten()).eval()
    x = torch.randn(5, 3, 2, 2)
    model = bridge.from_torch(module)
    assert [type(layer).__name__ for layer in model.layers] == ["Flatten", "Activation", "Dropout", "Dense"]
    close(model.predict(x.numpy()), module(x))
    image = fastnn.Sequential([nn.Flatten(), nn.Dense(2)]).build((3, 4), seed=0)
    x = torch.randn(5, 3, 4)
    close(image.predict(x.numpy()), bridge.to_torch(image)(x))


def test_what_says_no_width_stays_unbuilt():
    assert not bridge.from_torch(tnn.Sequential(tnn.ReLU())).built
    assert bridge.from_torch(tnn.Sequential()).layers[0].activation.name == "identity"
    assert bridge.from_torch(tnn.Linear(2, 3)).plan.outputs == 3


# Training --------------------------------------------------------------------------------------------------


def network(dtype=torch.float64, outputs: int = 3, bias: bool = True):
    torch.manual_seed(1)
    layers = (
        tnn.Linear(5, 8, bias=bias),
        tnn.BatchNorm1d(8),
        tnn.Tanh(),
        tnn.Sequential(tnn.Linear(8, 6), tnn.LayerNorm(6)),
    )
    return stirred(tnn.Sequential(*layers, tnn.SiLU(), tnn.PReLU(6), tnn.Linear(6, outputs)).to(dtype))


def loop(module, x, y, loss, optimizer, steps: int, batch: int) -> list[float]:
    """PyTorch's own training loop, without shuffling."""
    values = []
    module.train()
    for _ in range(steps):
        for start in range(0, len(x), batch):
            optimizer.zero_grad()
            value = loss(module(x[start : start + batch]), y[start : start + batch])
            value.backward()
            optimizer.step()
            values.append(float(value.detach()))
    return values


def compare(make_optimizer, loss, y, *, dtype=torch.float64, epochs=4, batch=64, tolerance=1e-9, **options) -> None:
    """The same module trained by PyTorch and by fastnn ends with the same tensors."""
    x = torch.randn(64, 5, dtype=dtype)
    theirs, ours = network(dtype, **options), network(dtype, **options)
    loop(theirs, x, y, loss, make_optimizer(theirs), epochs, batch)
    bridge.fit(
        ours,
        x,
        y,
        loss=loss,
        optimizer=make_optimizer(ours),
        epochs=epochs,
        batch_size=batch,
        shuffle=False,
        verbose=False,
    )
    for (name, a), (_, b) in zip(theirs.state_dict().items(), ours.state_dict().items(), strict=True):
        np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=tolerance, atol=tolerance, err_msg=name)


def decaying(kind, **options):
    """Weight decay on the first parameters only, as it is usual to spare some."""

    def make(module):
        parameters = list(module.parameters())
        groups = [{"params": parameters[:5], "weight_decay": 0.1}, {"params": parameters[5:], "weight_decay": 0.0}]
        return kind(groups, **options)

    return make


OPTIMIZERS = {
    "Adam": lambda m: to.Adam(m.parameters()),
    "Adam weight_decay": lambda m: to.Adam(m.parameters(), lr=0.01, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.1),
    "Adam amsgrad": lambda m: to.Adam(m.parameters(), lr=0.01, amsgrad=True),
    "AdamW": lambda m: to.AdamW(m.parameters(), lr=0.01),
    "AdamW amsgrad": lambda m: to.AdamW(m.parameters(), lr=0.01, weight_decay=0.2, amsgrad=True),
    "AdamW groups": decaying(to.AdamW, lr=0.01),
    "SGD": lambda m: to.SGD(m.parameters(), lr=0.1),
    "SGD weight_decay": lambda m: to.SGD(m.parameters(), lr=0.1, weight_decay=0.1),
    "SGD momentum": lambda m: to.SGD(m.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1),
    "SGD nesterov": lambda m: to.SGD(m.parameters(), lr=0.1, momentum=0.8, nesterov=True),
    "SGD groups": decaying(to.SGD, lr=0.1, momentum=0.5),
    "RMSprop": lambda m: to.RMSprop(m.parameters()),
    "RMSprop alpha": lambda m: to.RMSprop(m.parameters(), lr=1e-3, alpha=0.9, eps=1e-6, weight_decay=0.1),
    "Adagrad": lambda m: to.Adagrad(m.parameters(), weight_decay=0.1),
    "Adadelta": lambda m: to.Adadelta(m.parameters(), rho=0.8, weight_decay=0.1),
    "NAdam": lambda m: to.NAdam(m.parameters(), lr=0.01, weight_decay=0.1, momentum_decay=0.01),
    "NAdam decoupled": lambda m: to.NAdam(m.parameters(), lr=0.01, weight_decay=0.1, decoupled_weight_decay=True),
}


@pytest.mark.parametrize("batch", [64, 20])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_optimizers_equal_pytorchs_loop(make, batch):
    compare(make, tnn.CrossEntropyLoss(), torch.arange(64) % 3, batch=batch)


def test_every_optimizer_has_a_case():
    module = tnn.Linear(1, 1)
    assert {type(make(module)) for make in OPTIMIZERS.values() if make.__name__ == "<lambda>"} == set(
        bridge.optimizers.OPTIMIZERS
    )


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_one_epoch_in_float32(make):
    """To 1e-5. Without the bias before BatchNorm: its gradient is rounding, and Adam makes a whole step of that."""
    compare(make, tnn.MSELoss(), torch.randn(64, 3), dtype=torch.float32, epochs=1, tolerance=1e-5, bias=False)


def labels():
    return torch.arange(64) % 3


LOSSES = {
    "cross-entropy": (tnn.CrossEntropyLoss, labels),
    "smoothed": (lambda: tnn.CrossEntropyLoss(label_smoothing=0.2), labels),
    "distributions": (tnn.CrossEntropyLoss, lambda: torch.softmax(torch.randn(64, 3, dtype=torch.float64), 1)),
    "smoothed distributions": (
        lambda: tnn.CrossEntropyLoss(label_smoothing=0.2),
        lambda: torch.softmax(torch.randn(64, 3, dtype=torch.float64), 1),
    ),
    "logistic": (tnn.BCEWithLogitsLoss, lambda: torch.rand(64, 3, dtype=torch.float64)),
    "squares": (tnn.MSELoss, lambda: torch.randn(64, 3, dtype=torch.float64)),
    "absolute": (tnn.L1Loss, lambda: torch.randn(64, 3, dtype=torch.float64)),
    "huber": (lambda: tnn.HuberLoss(delta=0.4), lambda: torch.randn(64, 3, dtype=torch.float64)),
    "poisson": (tnn.PoissonNLLLoss, lambda: torch.poisson(torch.full((64, 3), 2.0, dtype=torch.float64))),
}


@pytest.mark.parametrize(("make", "target"), LOSSES.values(), ids=LOSSES)
def test_losses_equal_pytorchs_loop(make, target):
    compare(lambda module: to.SGD(module.parameters(), lr=0.05), make(), target(), batch=16)


@pytest.mark.parametrize(("make", "target"), LOSSES.values(), ids=LOSSES)
def test_the_history_has_pytorchs_loss(make, target):
    module, x, y, loss = network(), torch.randn(64, 5, dtype=torch.float64), target(), make()
    expected = loop(copy.deepcopy(module), x, y, loss, to.SGD(module.parameters(), lr=0.0), 1, 64)
    history = bridge.fit(module, x, y, loss=loss, optimizer=optim.SGD(0.0), epochs=1, batch_size="full", verbose=False)
    assert history["loss"] == pytest.approx(expected, rel=1e-12)


def test_every_loss_has_a_case():
    assert {type(make()) for make, _ in LOSSES.values()} == set(bridge.losses.LOSSES)


def test_fastnns_own_settings_are_those_of_a_trainer():
    """Loss, optimizer, schedule, metrics, validation: the same bits as of a Trainer on what from_torch makes."""
    module, x, y = network(torch.float32), torch.randn(64, 5, requires_grad=True), labels()
    model = bridge.from_torch(module)
    settings = {"schedule": optim.Cosine(), "metrics": ["accuracy"], "seed": 3, "clip_norm": 1.0}
    arguments = {"epochs": 3, "batch_size": 8, "verbose": False}
    rows, numbers = x.detach().numpy(), y.numpy()
    trainer = fastnn.Trainer(model, nn.CrossEntropy(0.1), optim.AdamW(0.01), **settings)
    expected = trainer.fit(rows, numbers, validation=(rows, numbers), **arguments)
    history = bridge.fit(
        module, x, y, loss=nn.CrossEntropy(0.1), optimizer=optim.AdamW(0.01), validation=(x, y), **settings, **arguments
    )
    assert history["val_accuracy"] == expected["val_accuracy"] and history["loss"] == expected["loss"]
    np.testing.assert_array_equal(bridge.from_torch(module).predict(rows), model.predict(rows))


def test_a_data_loader_gives_the_batches():
    x, y = torch.randn(64, 5), labels()
    ours, theirs = network(torch.float32), network(torch.float32)
    settings = {"loss": "cross_entropy", "optimizer": optim.SGD(0.1), "epochs": 2, "shuffle": False, "verbose": False}
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=16)
    one = bridge.fit(ours, loader, **settings)
    two = bridge.fit(theirs, x, y, batch_size=16, **settings)
    assert one["loss"] == two["loss"]
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_written_back_in_place():
    module = network()
    module[2].train(False)  # a mode of its own
    before = {name: (tensor, tensor.data_ptr()) for name, tensor in module.named_parameters()}
    modes = [part.training for part in module.modules()]
    values = {name: tensor.detach().clone() for name, tensor in module.named_parameters()}
    bridge.fit(module, torch.randn(64, 5), labels(), loss="cross_entropy", epochs=2, batch_size=16, verbose=False)
    for name, tensor in module.named_parameters():
        assert tensor is before[name][0] and tensor.data_ptr() == before[name][1]
        assert tensor.grad is None and tensor.requires_grad and not torch.equal(tensor, values[name])
    assert [part.training for part in module.modules()] == modes
    assert int(module[1].num_batches_tracked) == 8


def test_a_fit_that_fails_leaves_what_the_model_keeps():
    """Diverging: the parameters from before that epoch. Bad input: every bit as it was."""
    module, x = network(torch.float32), torch.randn(64, 5)
    before = copy.deepcopy(module.state_dict())
    for bad in (labels()[:5], labels() + 7):
        with pytest.raises(ValueError, match="y has"):
            bridge.fit(module, x, bad, loss="cross_entropy", verbose=False)
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in before.items())
    with pytest.raises(fastnn.DivergenceError):
        bridge.fit(module, x, labels(), loss="cross_entropy", optimizer=optim.SGD(1e30), batch_size=8, verbose=False)
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in before.items())

    kept = []
    backend = fastnn.backends.resolve(AUTOMATIC)

    def interrupted(plan, state, *arguments):
        losses = backend.train_steps(plan, state, *arguments)
        kept.append(state.parameters.copy())
        if len(kept) == 3:
            raise KeyboardInterrupt
        return losses

    changed = dataclasses.replace(backend, train_steps=interrupted)
    with pytest.raises(KeyboardInterrupt):
        bridge.fit(module, x, labels(), loss="cross_entropy", batch_size=8, backend=changed, verbose=False)
    expected = kept[2] if changed.atomic else kept[1]
    assert bridge.from_torch(module).state.parameters.tobytes() == expected.tobytes()
    assert int(module[1].num_batches_tracked) > 0


def inference_parameters():
    with torch.inference_mode():
        return tnn.Sequential(tnn.Linear(5, 3))


def inference_statistics():
    module = tnn.Sequential(tnn.Linear(5, 3), tnn.BatchNorm1d(3))
    with torch.inference_mode():
        module[1].running_var = torch.ones(3)
    return module


@pytest.mark.parametrize(
    ("make", "what"),
    [(inference_parameters, "module[0].weight"), (inference_statistics, "module[1].running_var")],
)
def test_what_cannot_be_written_back_is_refused_before_training(make, what):
    """Tensors made in inference mode can be changed there alone."""
    module, x, rounds = make(), torch.randn(64, 5), []
    before = copy.deepcopy(module.state_dict())
    watch = fastnn.Lambda(on_fit_begin=lambda run: rounds.append(0))
    arguments = {"loss": "cross_entropy", "epochs": 1, "verbose": False, "callbacks": [watch]}
    with pytest.raises(ValueError, match=re.escape(f"{what} was made in torch.inference_mode")):
        bridge.fit(module, x, labels(), **arguments)
    assert not rounds and all(torch.equal(value, module.state_dict()[name]) for name, value in before.items())
    with torch.inference_mode():
        bridge.fit(module, x, labels(), **arguments)
        assert rounds and not torch.equal(module[0].weight, before["0.weight"])


# What is refused -------------------------------------------------------------------------------------------


class Net(tnn.Module):
    def forward(self, x):
        return x


class Doubling(tnn.Sequential):
    def forward(self, x):
        return 2 * super().forward(x)


class MyLinear(tnn.Linear):
    pass


def hooked():
    linear = tnn.Linear(5, 2)
    linear.register_forward_hook(lambda module, inputs, output: output * 2)
    return linear


def tied():
    linear = tnn.Linear(5, 5)
    return tnn.Sequential(linear, tnn.ReLU(), linear)


BAD_MODULES = {
    "no module": (lambda: [tnn.ReLU()], TypeError, "module is list, expected a torch.nn.Sequential"),
    "a class of its own": (Net, TypeError, "module is Net, expected one of: BatchNorm1d, "),
    "unsupported": (
        lambda: tnn.Sequential(tnn.ReLU(), tnn.Sequential(tnn.Conv1d(1, 1, 1))),
        TypeError,
        r"module\[1\]\[0\] is Conv1d, expected one of: .*Linear.*nested Sequential",
    ),
    "another forward": (lambda: tnn.Sequential(Doubling(tnn.ReLU())), TypeError, r"module\[0\] is Doubling"),
    "a subclass": (lambda: tnn.Sequential(MyLinear(2, 2)), TypeError, r"module\[0\] is MyLinear"),
    "hooks": (lambda: tnn.Sequential(hooked()), TypeError, r"module\[0\] is Linear with hooks"),
    "parametrized": (
        lambda: tnn.Sequential(tnn.utils.parametrizations.weight_norm(tnn.Linear(2, 2))),
        TypeError,
        r"module\[0\] is ParametrizedLinear",
    ),
    "tied": (tied, ValueError, r"module\[2\] is Linear, which is in use already"),
    "log-softmax": (lambda: tnn.Sequential(tnn.LogSoftmax(1)), ValueError, r"module\[0\] is LogSoftmax.* logits"),
    "softmax of rows": (lambda: tnn.Sequential(tnn.Softmax(0)), ValueError, r"module\[0\] is Softmax: dim is 0"),
    "softmax's old default": (lambda: tnn.Sequential(tnn.Softmax()), ValueError, "dim is None"),
    "softplus beta": (lambda: tnn.Sequential(tnn.Softplus(2)), ValueError, "Softplus: beta is 2"),
    "softplus threshold": (lambda: tnn.Sequential(tnn.Softplus(1, 5)), ValueError, "threshold is 5"),
    "hardtanh": (lambda: tnn.Sequential(tnn.Hardtanh(0, 1)), ValueError, "min_val is 0"),
    "leaky": (lambda: tnn.Sequential(tnn.LeakyReLU(-0.1)), ValueError, "LeakyReLU: alpha"),
    "dropout": (lambda: tnn.Sequential(tnn.Dropout(1.0)), ValueError, "Dropout: rate is 1.0"),
    "affine": (lambda: tnn.Sequential(tnn.BatchNorm1d(2, affine=False)), ValueError, "BatchNorm1d: affine is False"),
    "statistics": (
        lambda: tnn.Sequential(tnn.BatchNorm1d(2, track_running_stats=False)),
        ValueError,
        "track_running_stats is False",
    ),
    "cumulative": (lambda: tnn.Sequential(tnn.BatchNorm1d(2, momentum=None)), ValueError, "momentum is None"),
    "momentum": (lambda: tnn.Sequential(tnn.BatchNorm1d(2, momentum=0.0)), ValueError, "momentum is 1.0"),
    "elementwise_affine": (
        lambda: tnn.Sequential(tnn.LayerNorm(2, elementwise_affine=False)),
        ValueError,
        "LayerNorm: it has no weight",
    ),
    "no bias": (lambda: tnn.Sequential(tnn.LayerNorm(2, bias=False)), ValueError, "LayerNorm: it has no bias"),
    "no gain": (
        lambda: tnn.Sequential(tnn.RMSNorm(2, elementwise_affine=False)),
        ValueError,
        "RMSNorm: it has no weight",
    ),
    "2-D": (lambda: tnn.Sequential(tnn.LayerNorm((2, 3))), ValueError, r"normalized_shape is \(2, 3\)"),
    "flatten": (lambda: tnn.Sequential(tnn.Flatten(0)), ValueError, "start_dim is 0"),
    "widths": (
        lambda: tnn.Sequential(tnn.Linear(2, 3), tnn.BatchNorm1d(4)),
        ValueError,
        r"module\[1\] is BatchNorm1d of 4 values, but 3 come out",
    ),
    "slopes": (lambda: tnn.Sequential(tnn.Linear(2, 3), tnn.PReLU(2)), ValueError, "PReLU of 2 values, but 3"),
    "no width": (lambda: tnn.Sequential(tnn.PReLU()), ValueError, "does not say how many values"),
    "half": (
        lambda: tnn.Sequential(tnn.Linear(2, 3)).half(),
        ValueError,
        r"module\[0\].weight has dtype torch.float16",
    ),
    "dtypes": (lambda: tnn.Sequential(tnn.Linear(2, 3), tnn.Linear(3, 3).double()), ValueError, "several dtypes"),
    "elsewhere": (
        lambda: tnn.Sequential(tnn.Linear(2, 3, device="meta")),
        ValueError,
        r"module\[0\].weight is on meta",
    ),
}


@pytest.mark.parametrize(("make", "error", "message"), BAD_MODULES.values(), ids=BAD_MODULES)
def test_modules_that_are_refused(make, error, message):
    module = make()
    for call in (bridge.from_torch, lambda m: bridge.fit(m, torch.ones(4, 2), torch.ones(4, 2), loss="mse")):
        with pytest.raises(error, match=message):
            call(module)


def test_layers_that_are_refused():
    for layer, message in (
        (nn.Dense(4, nn.Maxout()), r"layers\[1\] is Dense.* no such module"),
        (nn.Dense(4, "binary_step"), "activation is binary_step, which torch.nn does not have"),
        (nn.Activation("exponential"), r"layers\[1\] is Activation\('exponential'\)"),
    ):
        with pytest.raises(TypeError, match=message):
            bridge.to_torch(build(nn.Dense(2), layer))
    with pytest.raises(fastnn.NotFittedError):
        bridge.to_torch(fastnn.Sequential([nn.Dense(2)]))
    with pytest.raises(TypeError, match=r"expected a fastnn\.Sequential"):
        bridge.to_torch(tnn.Linear(2, 2))


def test_layers_without_a_module_are_named():
    """In the guide to the bridge, and by to_torch."""
    page = Path(__file__).parents[1] / "docs/torch.md"
    if not page.exists():
        pytest.skip("not a source tree")
    without = []
    for kind in ALL_LAYERS:
        try:
            bridge.to_torch(build(make_layer(kind), nn.Flatten(), inputs=row_shape(kind)))
        except TypeError:
            without.append(kind.__name__)
    assert {"Maxout", "Scale"} <= set(without)
    said = page.read_text(encoding="utf-8").partition("Of fastnn's layers")[2]
    for where, text in (("docs/torch.md", said), ("to_torch", bridge.to_torch.__doc__)):
        unnamed = [name for name in without if not re.search(rf"\b{name}\b", text)]
        assert not unnamed, f"{unnamed}: write them in torch/, or say in {where} that PyTorch has none"


def frozen(module):
    module[0].weight.requires_grad_(False)
    return module


def shared(module):
    module[3][0].bias = module[3][1].weight
    return module


def stepped(module):
    optimizer = to.Adam(module.parameters())
    module(torch.randn(4, 5, dtype=torch.float64)).sum().backward()
    optimizer.step()
    return optimizer


def stepped_sgd(module):
    optimizer = to.SGD(module.parameters(), momentum=0.9)
    module(torch.randn(4, 5, dtype=torch.float64)).sum().backward()
    optimizer.step()
    return optimizer


def two_rates(module):
    first, *others = module.parameters()
    return to.SGD([{"params": [first], "lr": 0.1}, {"params": others, "lr": 0.2}])


BAD_OPTIMIZERS = {
    "unsupported": (lambda m: to.Adamax(m.parameters()), TypeError, "optimizer is Adamax, expected one of: Adam, "),
    "dampening": (lambda m: to.SGD(m.parameters(), momentum=0.9, dampening=0.1), ValueError, "SGD with dampening=0.1"),
    "maximize": (lambda m: to.Adam(m.parameters(), maximize=True), ValueError, "Adam with maximize=True"),
    "centered": (lambda m: to.RMSprop(m.parameters(), centered=True), ValueError, "RMSprop with centered=True"),
    "momentum": (lambda m: to.RMSprop(m.parameters(), momentum=0.9), ValueError, "RMSprop with momentum=0.9"),
    "lr_decay": (lambda m: to.Adagrad(m.parameters(), lr_decay=0.1), ValueError, "Adagrad with lr_decay=0.1"),
    "initial": (
        lambda m: to.Adagrad(m.parameters(), initial_accumulator_value=0.1),
        ValueError,
        "initial_accumulator_value=0.1",
    ),
    "eps": (lambda m: to.Adam(m.parameters(), eps=0.0), ValueError, "optimizer is Adam: epsilon is 0.0"),
    "momentum of 1": (lambda m: to.SGD(m.parameters(), momentum=1.0), ValueError, "optimizer is SGD: beta is 1.0"),
    "stepped": (stepped, ValueError, "Adam, which has taken steps"),
    "stepped SGD": (stepped_sgd, ValueError, "SGD, which has taken steps"),
    "two rates": (two_rates, ValueError, r"SGD with lr=0.1 and, in group 1, 0.2"),
    "some left out": (
        lambda m: to.Adam(list(m.parameters())[1:]),
        ValueError,
        r"does not have the weight of module\[0\]",
    ),
    "no optimizer": (lambda m: "magic", ValueError, "optimizer is 'magic'"),
}


@pytest.mark.parametrize(("make", "error", "message"), BAD_OPTIMIZERS.values(), ids=BAD_OPTIMIZERS)
def test_optimizers_that_are_refused(make, error, message):
    module = network()
    optimizer = make(module)
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(error, match=message):
        bridge.fit(module, torch.randn(64, 5), labels(), loss="cross_entropy", optimizer=optimizer)
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in before.items())


BAD_LOSSES = {
    "unsupported": (tnn.NLLLoss, TypeError, "loss is NLLLoss, expected one of: CrossEntropyLoss, "),
    "sum": (
        lambda: tnn.MSELoss(reduction="sum"),
        ValueError,
        "MSELoss with reduction='sum', expected reduction='mean'",
    ),
    "weight": (lambda: tnn.CrossEntropyLoss(torch.ones(3)), ValueError, "CrossEntropyLoss with weight="),
    "ignored": (lambda: tnn.CrossEntropyLoss(ignore_index=0), ValueError, "ignore_index=0"),
    "pos_weight": (lambda: tnn.BCEWithLogitsLoss(pos_weight=torch.ones(3)), ValueError, "pos_weight="),
    "rates": (lambda: tnn.PoissonNLLLoss(log_input=False), ValueError, "log_input=False"),
    "full": (lambda: tnn.PoissonNLLLoss(full=True), ValueError, "full=True"),
    "no loss": (lambda: "magic", ValueError, "loss is 'magic'"),
}


@pytest.mark.parametrize(("make", "error", "message"), BAD_LOSSES.values(), ids=BAD_LOSSES)
def test_losses_that_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        bridge.fit(network(), torch.randn(64, 5), labels(), loss=make())


def test_a_loss_of_logits_behind_its_own_activation_is_refused():
    """PyTorch would take softmax twice; under fastnn's name it is fused, and taken once."""
    x, y = torch.randn(64, 5), labels()
    for last, loss in ((tnn.Softmax(1), tnn.CrossEntropyLoss()), (tnn.Sigmoid(), tnn.BCEWithLogitsLoss())):
        module = tnn.Sequential(tnn.Linear(5, 3), last, tnn.Dropout(0.0))
        with pytest.raises(ValueError, match="takes logits, but the module ends with"):
            bridge.fit(module, x, y, loss=loss)
    bridge.fit(tnn.Sequential(tnn.Linear(5, 3), tnn.Softmax(1)), x, y, loss="cross_entropy", verbose=False)


def test_what_cannot_be_trained_alike_is_refused():
    x, y = torch.randn(64, 5), labels()
    for module, message in (
        (frozen(network()), r"weight of module\[0\] does not require a gradient"),
        (shared(network()), "a parameter in two places"),
        (tnn.Sequential(tnn.Linear(5, 3), tnn.PReLU()), r"module\[1\] is PReLU with num_parameters=1, expected 3"),
        (tnn.Sequential(tnn.ReLU()), "nothing to learn"),
    ):
        with pytest.raises(ValueError, match=message):
            bridge.fit(module, x, y, loss="cross_entropy")
    bridge.fit(tnn.Sequential(tnn.Linear(5, 1), tnn.PReLU()), x, x[:, 0], loss="mse", epochs=1, verbose=False)
    with pytest.raises(TypeError, match="colour"):
        bridge.fit(network(), x, y, loss="cross_entropy", colour="red")


# Where it is missing ---------------------------------------------------------------------------------------


def test_without_pytorch_the_error_names_the_extra():
    result = run_python("""
        import sys
        sys.modules["torch"] = None
        import fastnn
        try:
            import fastnn.torch
        except ImportError as error:
            print(error)
    """)
    assert re.search(r"fastnn.torch needs PyTorch: .* extra \[torch\]", result.stdout), result.stderr


def test_importing_fastnn_does_not_import_pytorch():
    result = run_python("import sys, fastnn; print('torch' in sys.modules)")
    assert result.stdout.strip() == "False", result.stderr
    assert "torch" in sys.modules


@pytest.mark.parametrize(
    ("loss", "said"),
    [("mse", r"subtract its mean, or take module.double\(\)$"), ("poisson", r"take module.double\(\)$")],
)
def test_targets_that_are_rounded_away(loss, said):
    x = torch.linspace(-1, 1, 60).reshape(-1, 1)
    y = 1e8 + x.double().numpy()[:, 0]
    with pytest.warns(fastnn.PrecisionWarning, match=rf"^y spreads .* which float32 rounds away: {said}") as caught:
        bridge.fit(tnn.Sequential(tnn.Linear(1, 1)), x, y, loss=loss, optimizer=optim.SGD(0.0), epochs=1)
    assert len(caught) == 1

"""Whatever PyTorch would call in training, and fastnn does not, is refused before anything is touched."""

from __future__ import annotations

import contextlib
import copy

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn as tnn
from torch.nn.modules import module as torch_module
from torch.nn.utils import parametrizations, prune
from torch.optim import lr_scheduler, swa_utils
from torch.optim import optimizer as torch_optimizer

import fastnn.torch
from fastnn import optim

_generator = torch.Generator().manual_seed(0)
X = torch.randn(60, 4, generator=_generator)
Y = (X[:, 0] > 0).long()


def network():
    torch.manual_seed(0)
    return tnn.Sequential(tnn.Linear(4, 3), tnn.BatchNorm1d(3), tnn.Sequential(tnn.Tanh(), tnn.Linear(3, 2)))


def fit(net, **settings):
    return fastnn.torch.fit(net, X, Y, **{"loss": "cross_entropy", "epochs": 2, "seed": 0} | settings)


@contextlib.contextmanager
def refused(net, error, message, optimizer=None):
    """What is within must raise, and leave the module and the optimizer's groups as they are."""
    before = copy.deepcopy(net.state_dict())
    rates = [group["lr"] for group in optimizer.param_groups] if optimizer is not None else []
    with pytest.raises(error, match=message):
        yield
    after = net.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert rates == ([group["lr"] for group in optimizer.param_groups] if optimizer is not None else [])


def test_every_kind_of_hook_is_known():
    """A new version of torch with another kind fails here: it is to be refused, or said to be none of training."""
    module, tensor = tnn.Linear(1, 1), tnn.Parameter(torch.ones(1))
    optimizer = torch.optim.Adam([tensor])

    def registers(thing):
        return {name for name in dir(thing) if name.startswith("register_") and name.endswith("hook")}

    of_training = {"register_forward_hook", "register_forward_pre_hook", "register_backward_hook"}
    of_training |= {"register_full_backward_hook", "register_full_backward_pre_hook"}
    assert {name for name in registers(module) if "state_dict" not in name} <= of_training
    assert registers(tensor) <= {"register_hook", "register_post_accumulate_grad_hook"}
    steps = {"register_step_pre_hook", "register_step_post_hook"}
    assert {name for name in registers(optimizer) if "state_dict" not in name} <= steps
    for_all = {name for name in registers(torch_module) if "registration" not in name}
    assert for_all <= {name.replace("register_", "register_module_") for name in of_training}
    assert registers(torch_optimizer) <= {"register_optimizer_step_pre_hook", "register_optimizer_step_post_hook"}


# Modules ---------------------------------------------------------------------------------------------------------

MODULE_HOOKS = {
    "forward": lambda module: module.register_forward_hook(lambda m, x, y: y * 2),
    "forward always": lambda module: module.register_forward_hook(lambda m, x, y: None, always_call=True),
    "forward kwargs": lambda module: module.register_forward_hook(lambda m, x, k, y: None, with_kwargs=True),
    "forward-pre": lambda module: module.register_forward_pre_hook(lambda m, x: None),
    "forward-pre kwargs": lambda module: module.register_forward_pre_hook(lambda m, x, k: None, with_kwargs=True),
    "full backward": lambda module: module.register_full_backward_hook(lambda m, dx, dy: None),
    "full backward-pre": lambda module: module.register_full_backward_pre_hook(lambda m, dy: None),
    "backward": lambda module: module.register_backward_hook(lambda m, dx, dy: None),
}
PLACES = {
    "whole": lambda net: net,
    "linear": lambda net: net[0],
    "norm": lambda net: net[1],
    "nested": lambda net: net[2],
    "activation": lambda net: net[2][0],
}


@pytest.mark.parametrize("hook", MODULE_HOOKS)
@pytest.mark.parametrize("place", PLACES)
def test_hooks_of_modules(hook, place):
    net = network()
    handle = MODULE_HOOKS[hook](PLACES[place](net))
    with refused(net, TypeError, r"is \w+ with hooks"):
        fit(net)
    with pytest.raises(TypeError, match="with hooks"):
        fastnn.torch.from_torch(net)
    handle.remove()
    assert len(fit(net)) == 2


ALL_MODULES = {
    "forward": (torch_module.register_module_forward_hook, lambda m, x, y: None),
    "forward-pre": (torch_module.register_module_forward_pre_hook, lambda m, x: None),
    "full backward": (torch_module.register_module_full_backward_hook, lambda m, dx, dy: None),
    "full backward-pre": (torch_module.register_module_full_backward_pre_hook, lambda m, dy: None),
}


@pytest.mark.parametrize("kind", ALL_MODULES)
def test_hooks_of_all_modules(kind):
    register, hook = ALL_MODULES[kind]
    net, handle = network(), register(hook)
    try:
        with refused(net, TypeError, "all modules have"):
            fit(net)
    finally:
        handle.remove()
    assert len(fit(net)) == 2


def test_a_forward_set_on_the_object():
    net = network()
    net[0].forward = lambda x: x[:, :3]
    with refused(net, TypeError, r"module\[0\] is Linear with hooks, a forward of its own"):
        fit(net)


REPARAMETRIZED = {
    "weight_norm": (parametrizations.weight_norm, r"module\[0\] is ParametrizedLinear"),
    "spectral_norm": (parametrizations.spectral_norm, r"module\[0\] is ParametrizedLinear"),
    "orthogonal": (parametrizations.orthogonal, r"module\[0\] is ParametrizedLinear"),
    "former spectral_norm": (tnn.utils.spectral_norm, "with hooks, forward-pre hooks"),
    "pruned": (lambda linear: prune.l1_unstructured(linear, "weight", 0.5), "with hooks, forward-pre hooks"),
}


@pytest.mark.parametrize("kind", REPARAMETRIZED)
def test_weights_that_are_made_of_others(kind):
    change, message = REPARAMETRIZED[kind]
    net = network()
    change(net[0])
    with refused(net, TypeError, message):
        fit(net)


def test_hooks_of_state_dict_are_not_of_training():
    net = network()
    net[0].register_state_dict_post_hook(lambda *_: None)
    net[0].register_load_state_dict_post_hook(lambda *_: None)
    assert len(fit(net)) == 2


def test_hooks_of_the_loss():
    net, loss = network(), tnn.CrossEntropyLoss()
    loss.register_forward_hook(lambda m, x, y: y * 2)
    with refused(net, TypeError, "loss is CrossEntropyLoss with hooks"):
        fit(net, loss=loss)


# Parameters ------------------------------------------------------------------------------------------------------

PARAMETER_HOOKS = {
    "gradient": lambda tensor: tensor.register_hook(torch.zeros_like),
    "accumulated": lambda tensor: tensor.register_post_accumulate_grad_hook(lambda parameter: None),
    "several": lambda tensor: torch.autograd.graph.register_multi_grad_hook([tensor], lambda gradients: None),
}


@pytest.mark.parametrize("hook", PARAMETER_HOOKS)
@pytest.mark.parametrize("name", ["0.weight", "0.bias", "1.weight", "1.bias", "2.1.bias"])
def test_hooks_of_parameters(hook, name):
    net = network()
    handle = PARAMETER_HOOKS[hook](net.get_parameter(name))
    with refused(net, TypeError, r"has hooks of its (accumulated )?gradient"):
        fit(net)
    handle.remove()
    assert len(fit(net)) == 2
    PARAMETER_HOOKS[hook](net.get_parameter(name))
    fastnn.torch.from_torch(net)  # a copy for predictions has no gradients


@pytest.mark.parametrize("name", ["0.weight", "0.bias", "1.weight", "1.bias"])
def test_frozen_parameters(name):
    net = network()
    net.get_parameter(name).requires_grad_(False)
    with refused(net, ValueError, "does not require a gradient"):
        fit(net)


@pytest.mark.parametrize("memory", [False, True])
def test_tied_parameters(memory):
    net = tnn.Sequential(tnn.Linear(2, 2), tnn.Tanh(), tnn.Linear(2, 2))
    net[2].weight = tnn.Parameter(net[0].weight.data) if memory else net[0].weight
    with refused(net, ValueError, "module has a parameter in two places"):
        fastnn.torch.fit(net, X[:, :2], Y, loss="cross_entropy", epochs=1)


# Optimizers ------------------------------------------------------------------------------------------------------

SCHEDULERS = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: min(1.0, epoch / 5)),  # the usual warm-up: 0 at once
    "LinearLR": lr_scheduler.LinearLR,
    "ConstantLR": lr_scheduler.ConstantLR,
    "StepLR": lambda o: lr_scheduler.StepLR(o, 3),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [3]),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "PolynomialLR": lr_scheduler.PolynomialLR,
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 9),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 1e-6, 0.1, cycle_momentum=False),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=9),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda epoch: 0.9),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler([lr_scheduler.StepLR(o, 3)]),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o), lr_scheduler.StepLR(o, 3)], milestones=[2]
    ),
    "SWALR": lambda o: swa_utils.SWALR(o, 0.1),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", SCHEDULERS)
def test_attached_schedulers(kind):
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    SCHEDULERS[kind](optimizer)
    with refused(net, ValueError, r"optimizer is Adam with a learning rate scheduler attached .*schedule=", optimizer):
        fit(net, optimizer=optimizer)


def test_the_schedule_of_fit_takes_a_schedulers_place():
    net = network()
    history = fit(
        net, optimizer=torch.optim.SGD(net.parameters(), lr=0.1), schedule=optim.StepDecay(every=1, gamma=0.5)
    )
    np.testing.assert_allclose(history["lr"], [0.1, 0.05])


@pytest.mark.parametrize("kind", ["pre", "post"])
def test_hooks_of_an_optimizers_step(kind):
    net = network()
    optimizer = torch.optim.Adam(net.parameters())
    handle = getattr(optimizer, f"register_step_{kind}_hook")(lambda *_: None)
    with refused(net, TypeError, r"optimizer is Adam with hooks (before|after) a step", optimizer):
        fit(net, optimizer=optimizer)
    handle.remove()
    assert len(fit(net, optimizer=optimizer)) == 2


@pytest.mark.parametrize("kind", ["pre", "post"])
def test_hooks_of_all_optimizers(kind):
    net = network()
    optimizer = torch.optim.Adam(net.parameters())
    handle = getattr(torch_optimizer, f"register_optimizer_step_{kind}_hook")(lambda *_: None)
    try:
        with refused(net, TypeError, "all optimizers have hooks", optimizer):
            fit(net, optimizer=optimizer)
        assert len(fit(network(), optimizer="adam")) == 2  # fastnn's own is none of PyTorch's
    finally:
        handle.remove()


def test_a_step_that_was_replaced():
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    optimizer.step = lambda *_: None
    with refused(net, TypeError, "a step that was replaced", optimizer):
        fit(net, optimizer=optimizer)


def test_hooks_of_an_optimizers_state_dict_are_not_of_training():
    net = network()
    optimizer = torch.optim.Adam(net.parameters())
    optimizer.register_state_dict_post_hook(lambda *_: None)
    optimizer.register_load_state_dict_pre_hook(lambda *_: None)
    assert len(fit(net, optimizer=optimizer)) == 2

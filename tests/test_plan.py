"""Plan and State: places of tensors, fused activations, segments, live views."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from common import LAYERS, build, features, make_layer, parameters

from fastnn import Sequential, Trainer, nn, optim
from fastnn.formulas.losses import LOSSES
from fastnn.plan import ALIGNMENT, BUFFERS, FREE, Penalty, aligned

DTYPES = [np.float32, np.float64]


def everything(dtype=np.float32) -> Sequential:
    layers = [nn.Normalize(), nn.Dense(5, "prelu"), nn.BatchNorm(), nn.Dense(7, "maxout", bias=False), nn.LayerNorm()]
    return Sequential([*layers, nn.Dense(1, "tanh")], dtype=dtype).build(3, seed=0)


# Buffers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_tensor_lies_on_a_cache_line_of_its_own(dtype):
    model = everything(dtype)
    for tensor in model.plan.tensors:
        assert model.state.views[tensor.name].ctypes.data % ALIGNMENT == 0, tensor.name
    for name in BUFFERS:
        buffer = getattr(model.state, name)
        tensors = sorted((t for t in model.plan.tensors if t.buffer == name), key=lambda t: t.offset)
        assert tensors[0].offset == 0
        for left, right in pairwise(tensors):
            assert left.offset + left.size <= right.offset < left.offset + left.size + ALIGNMENT // buffer.itemsize
        assert tensors[-1].slice.stop <= len(buffer) == model.plan.size(name)
        assert buffer.dtype == (np.float64 if name == "scaling" else dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_padding_stays_zero(dtype):
    """Every optimizer's update runs over it: it must not turn into NaN and not count in the norm."""
    model = everything(dtype)
    for optimizer in optim.OPTIMIZERS:
        Trainer(model, "mse", optimizer, seed=0, clip_norm=1.0, backend="numpy").fit(
            features(8), features(8, 1), epochs=2, batch_size=4, verbose=False
        )
        for buffer in (model.state.parameters, *model.state.slots):
            used = np.zeros(len(buffer), dtype=bool)
            for tensor in model.plan.tensors:
                if tensor.trainable:
                    used[tensor.slice] = True
            assert not used.all()
            np.testing.assert_array_equal(buffer[~used], 0)


@pytest.mark.parametrize("shape", [0, 1, 7, (3, 5), (0, 4), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [*DTYPES, np.int32, np.uint8])
def test_aligned(shape, dtype):
    array = aligned(shape, np.dtype(dtype))
    assert array.shape == ((shape,) if isinstance(shape, int) else shape)
    assert array.dtype == dtype
    assert array.flags.c_contiguous
    assert array.ctypes.data % ALIGNMENT == 0 or array.size == 0
    assert not array.any()


def test_a_size_beyond_64_bits_is_an_error():
    """8 x 2^62 wraps around to 0 in int64: that must not pass for an empty layer."""
    model = Sequential([nn.Dense(2**62)])
    with pytest.raises((ValueError, MemoryError)):
        model.build(8)
    assert not model.built


def test_names_are_layer_and_role():
    names = [tensor.name for tensor in everything().plan.tensors]
    assert names == [
        *("0.shift", "0.scale"),
        *("1.weight", "1.bias", "1.slope"),
        *("2.gamma", "2.beta", "2.running_mean", "2.running_var"),
        *("3.weight", "3.bias"),
        *("4.gamma", "4.beta"),
        *("5.weight", "5.bias"),
    ]


def test_what_an_optimizer_may_change():
    fixed = {tensor.name for tensor in everything().plan.tensors if not tensor.trainable}
    assert fixed == {"0.shift", "0.scale", "2.running_mean", "2.running_var", "3.bias"}


def test_parameter_count():
    """3 x 5 + 5 + 5, 2 x 5, 5 x 14 without bias, 2 x 7, 7 + 1."""
    assert everything().plan.parameter_count == 25 + 10 + 70 + 14 + 8


# Views ---------------------------------------------------------------------------------------------------------


def test_writing_into_a_view_changes_the_prediction():
    model = build(nn.Dense(4, "tanh"), nn.Dense(2))
    X = features(5)
    before = model.predict(X)
    model.layers[1].bias[...] += 1.0
    np.testing.assert_allclose(model.predict(X), before + 1.0)
    model.layers[1].weight[...] = 0.0
    np.testing.assert_array_equal(model.predict(X), np.tile(model.layers[1].bias, (5, 1)))


def test_training_changes_the_view():
    model = build(nn.Dense(4, "prelu"), nn.BatchNorm(), nn.Dense(2))
    views = dict(model.state.views)
    before = parameters(model)
    Trainer(model, "mse", seed=0).fit(features(8), features(8, 2), epochs=2, verbose=False)
    for name, view in views.items():
        assert (view != before[name]).any(), name
        assert view is model.state.views[name]


@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_attributes_of_a_layer_are_its_tensors(kind):
    layer = make_layer(kind)
    model = Sequential([layer]).build(4, seed=0)
    for tensor in model.plan.tensors:
        place, _, role = tensor.name.rpartition(".")
        view = getattr(next(part for _, part in layer.parts() if str(part.index) == place), role)
        assert view.shape == tensor.shape
        assert np.shares_memory(view, model.state.views[tensor.name])
        assert not view.flags.owndata


ROLES = ("weight", "bias", "slope", "gamma", "beta", "running_mean", "running_var", "shift", "scale", "factor")
VIEWS = [(kind, role) for kind in LAYERS for role in ROLES if isinstance(getattr(kind, role, None), property)]


@pytest.mark.parametrize(("kind", "role"), VIEWS, ids=lambda value: getattr(value, "__name__", value))
def test_attributes_before_the_model_is_built_say_so(kind, role):
    with pytest.raises(AttributeError, match=rf"this {kind.__name__} has no {role} yet: fit its model"):
        getattr(make_layer(kind), role)


def test_every_role_is_an_attribute():
    made = Sequential([make_layer(kind) for kind in LAYERS if kind is not nn.Flatten and kind is not nn.Normalize])
    model = Sequential([nn.Flatten(), nn.Normalize(), nn.Dense(4)]).build(4, seed=0)
    names = [*made.build(4, seed=0).state.views, *model.state.views]
    assert {name.rpartition(".")[2] for name in names} == {role for _, role in VIEWS} == set(ROLES)


def test_building_again_draws_again_and_forgets():
    model = build(nn.Dense(3))
    Trainer(model, "mse", seed=0).fit(features(8), features(8, 3), epochs=1, verbose=False)
    model.build(5, seed=1)
    assert model.state.step == 0
    assert model.state.slots == ()
    assert model.layers[0].weight.shape == (5, 3)


# Fusing --------------------------------------------------------------------------------------------------------


def kinds(*layers: nn.Layer, inputs: int = 4) -> list[str]:
    plan = Sequential(layers).build(inputs, seed=0).plan
    return [f"{op.kind}:{op.activation}" if op.activation.name != "identity" else op.kind for op in plan.ops]


def test_an_activation_becomes_the_dense_layers_own():
    assert kinds(nn.Dense(3), nn.Activation("relu")) == ["dense:relu"]
    assert kinds(nn.Dense(3, "relu")) == ["dense:relu"]


def test_only_one_activation_is_fused():
    assert kinds(nn.Dense(3, "relu"), nn.Activation("tanh")) == ["dense:relu", "activation:tanh"]
    assert kinds(nn.Dense(3), nn.BatchNorm(), nn.Activation("relu")) == ["dense", "batch_norm", "activation:relu"]
    assert kinds(nn.Activation("relu"), nn.Dense(3)) == ["activation:relu", "dense"]


@pytest.mark.parametrize("name", nn.ACTIVATIONS)
def test_fusing_changes_no_prediction(name):
    fused, apart = build(nn.Dense(4), nn.Activation(name)), build(nn.Dense(4), nn.Dropout(0.5), nn.Activation(name))
    np.testing.assert_array_equal(fused.predict(features()), apart.predict(features()))


@pytest.mark.parametrize(
    ("layer", "operations"),
    [
        (nn.Dense(4, "maxout"), ["dense", "maxout"]),
        (nn.Dense(4, "softmax"), ["dense", "softmax"]),
        (nn.Dense(4, "prelu"), ["dense", "prelu"]),
        (nn.Dense(4, nn.RReLU(0.1, 0.2)), ["dense", "rrelu"]),
        (nn.Activation("prelu"), ["prelu"]),
        (nn.Flatten(), []),
        (nn.Dropout(0.0), []),
        (nn.Dropout(0.1), ["dropout"]),
    ],
    ids=repr,
)
def test_operations_of_a_layer(layer, operations):
    assert kinds(layer) == operations


@pytest.mark.parametrize("loss", LOSSES.values(), ids=str)
def test_training_leaves_out_the_losses_own_link(loss):
    links = [other.link for other in LOSSES.values() if other.link]
    for name in links:
        for layers in ([nn.Dense(3, name)], [nn.Dense(3, "relu"), nn.Activation(name)]):
            plan = Sequential(layers).build(4, seed=0).plan
            trained = plan.training_ops(loss)
            if name != loss.link:
                assert trained == plan.ops
            elif name == "softmax":
                assert trained == plan.ops[:-1]
            else:
                assert trained[:-1] == plan.ops[:-1]
                assert trained[-1].activation.name == "identity"


def test_a_model_without_operations():
    """Flatten alone, or dropout at rate 0, passes its rows on."""
    for layer in (nn.Flatten(), nn.Dropout(0.0)):
        model = Sequential([layer], dtype=np.float64)
        Trainer(model, "cross_entropy", seed=0).fit(features(6), [0, 1, 2, 0, 1, 2], epochs=1, verbose=False)
        np.testing.assert_array_equal(model.predict(features(6)), features(6))


# Segments ------------------------------------------------------------------------------------------------------


def test_segments_cover_every_parameter_once_in_order():
    model = Sequential([nn.Dense(5, l2=0.1), nn.PReLU(), nn.BatchNorm(), nn.Dense(3, l2=0.1, decay=0.2)]).build(
        4, seed=0
    )
    segments = model.plan.segments()
    for (left, _), (right, _) in pairwise(segments):
        assert left.stop <= right.start
    for tensor in (tensor for tensor in model.plan.tensors if tensor.trainable):
        holding = [penalty for where, penalty in segments if where.start <= tensor.offset < where.stop]
        assert holding == [tensor.penalty]
    own = [penalty for _, penalty in segments]
    assert own == [Penalty(l2=0.1), FREE, Penalty(l2=0.1, decay=0.2), FREE]


def test_neighbours_without_penalty_are_one_segment():
    plan = Sequential([nn.BatchNorm(), nn.PReLU(), nn.LayerNorm()]).build(4, seed=0).plan
    assert len(plan.segments()) == 1


# Slots ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_slots_belong_to_a_rule(name):
    """The same rule goes on with them; another one starts from zeros at step 0."""
    model, rule = build(nn.Dense(2)), optim.OPTIMIZERS[name]().rule
    model.state.prepare_slots(rule)
    assert len(model.state.slots) == len(rule.slots)
    for slot in model.state.slots:
        assert len(slot) == len(model.state.parameters)
        assert slot.ctypes.data % ALIGNMENT == 0
        slot[...] = 7.0
    model.state.step = 5
    model.state.prepare_slots(rule)
    assert model.state.step == 5
    assert all((slot == 7.0).all() for slot in model.state.slots)
    other = optim.OPTIMIZERS["nadam" if name != "nadam" else "adam"]().rule
    model.state.prepare_slots(other)
    assert model.state.step == 0
    assert not any(slot.any() for slot in model.state.slots)

"""The peers as runners: PyTorch, torch.compile, JAX and scikit-learn, each trained as a competent user would.

Imported in the workers only, and only the library whose turn it is.
"""

from __future__ import annotations

import os
import warnings

import numpy as np

from fastnn.bench.runners import Runner, Spec
from fastnn.bench.workloads import BETA1, BETA2, EPSILON, LEARNING_RATE, Workload


class Torch(Runner):
    """Eager PyTorch without a DataLoader (which copies row by row): batches by index, fused Adam."""

    def __init__(self, workload: Workload, threads: int | None) -> None:
        import torch

        super().__init__(workload, threads)
        self.torch = torch
        if threads is not None:
            torch.set_num_threads(threads)
        self.x, self.y = torch.from_numpy(self.x), torch.from_numpy(self.y)

    @property
    def version(self) -> str:
        return f"torch {self.torch.__version__}"

    def reset(self) -> None:
        nn = self.torch.nn
        activation = {"relu": nn.ReLU, "tanh": nn.Tanh, "identity": nn.Identity}[self.workload.activation]
        layers: list[nn.Module] = []
        for w, b in self.workload.parameters():
            dense = nn.Linear(*w.shape)
            with self.torch.no_grad():
                dense.weight.copy_(self.torch.from_numpy(w.T.copy()))
                dense.bias.copy_(self.torch.from_numpy(b))
            layers += [dense, activation()]
        self.model = nn.Sequential(*layers[:-1])
        self.loss = nn.CrossEntropyLoss() if self.workload.loss == "cross_entropy" else nn.MSELoss()
        self.adam = self.torch.optim.Adam(
            self.model.parameters(), lr=LEARNING_RATE, betas=(BETA1, BETA2), eps=EPSILON, fused=True
        )

    def forward(self, x, y):
        return self.loss(self.model(x), y)

    def _step(self, x, y):
        self.adam.zero_grad(set_to_none=True)
        loss = self.forward(x, y)
        loss.backward()
        self.adam.step()
        return loss

    def step(self, rows: slice) -> float:
        return self._step(self.x[rows], self.y[rows]).item()

    def train(self, epochs: int) -> None:
        batch = self.workload.batch
        for _ in range(epochs):
            order = self.torch.randperm(len(self.x))
            for start in range(0, len(order), batch):
                rows = order[start : start + batch]
                self._step(self.x[rows], self.y[rows])


class TorchCompile(Torch):
    """torch.compile of the whole step: loss, gradient and Adam in one graph, which Inductor makes into C++ (it
    needs a compiler). The optimizer is written out for it: compiled optimizers of torch.optim stay outside of
    the graph of the gradient."""

    def reset(self) -> None:
        if not hasattr(self, "compiled"):  # once: it is compiled again for another module
            super().reset()
            self.compiled = self._compile()
        torch, parameters = self.torch, dict(self.model.named_parameters())
        self.state = {
            "p": {name: p.detach().clone() for name, p in parameters.items()},
            "m": {name: torch.zeros_like(p, requires_grad=False) for name, p in parameters.items()},
            "v": {name: torch.zeros_like(p, requires_grad=False) for name, p in parameters.items()},
            "t": torch.zeros(()),
        }

    def _compile(self):
        torch, names = self.torch, [name for name, _ in self.model.named_parameters()]

        def loss_of(p, x, y):
            return self.loss(torch.func.functional_call(self.model, p, (x,)), y)

        def step(state, x, y):
            gradients, loss = torch.func.grad_and_value(loss_of)(state["p"], x, y)
            state["t"] += 1
            rate = LEARNING_RATE / (1 - BETA1 ** state["t"])
            root = torch.rsqrt(1 - BETA2 ** state["t"])
            for name in names:
                p, m, v, g = state["p"][name], state["m"][name], state["v"][name], gradients[name]
                m.mul_(BETA1).add_(g, alpha=1 - BETA1)
                v.mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
                p.sub_(rate * m / (v.sqrt() * root + EPSILON))
            return loss

        torch._dynamo.reset()  # the limit of compilations is one for all workloads
        return torch.compile(step, fullgraph=True, dynamic=False)

    def _step(self, x, y):
        return self.compiled(self.state, x, y)


class Jax(Runner):
    """jit of a whole epoch: lax.scan over its batches, which are drawn inside, Adam written out, and the state
    donated, so that it is updated in place."""

    def __init__(self, workload: Workload, threads: int | None) -> None:
        if threads == 1:  # beside NPROC=1, which sizes its thread pool
            os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
        import jax

        super().__init__(workload, threads)
        self.jax = jax
        self.x, self.y = jax.device_put(self.x), jax.device_put(self.y.astype(np.int32) if self.y.ndim == 1 else self.y)
        self.one = jax.jit(self._one, donate_argnums=0)
        self.epoch = jax.jit(self._epoch, donate_argnums=0)

    @property
    def version(self) -> str:
        return f"jax {self.jax.__version__}"

    def reset(self) -> None:
        jnp, initial = self.jax.numpy, self.workload.parameters()
        zeros = [[(jnp.zeros(w.shape), jnp.zeros(b.shape)) for w, b in initial] for _ in range(2)]
        self.state = ([(jnp.array(w), jnp.array(b)) for w, b in initial], *zeros, jnp.zeros(()))
        self.key = self.jax.random.key(0)

    def step(self, rows: slice) -> float:
        self.state, loss = self.one(self.state, self.x[rows], self.y[rows])
        return float(loss)

    def train(self, epochs: int) -> None:
        for _ in range(epochs):
            self.state, self.key, losses = self.epoch(self.state, self.key, self.x, self.y)
        losses.block_until_ready()

    def _loss(self, parameters, x, y):
        jax, a = self.jax, x
        activation = {"relu": jax.nn.relu, "tanh": jax.numpy.tanh}.get(self.workload.activation)
        for w, b in parameters[:-1]:
            a = activation(a @ w + b)
        z = a @ parameters[-1][0] + parameters[-1][1]
        if self.workload.loss == "mse":
            return ((z - y) ** 2).mean()
        return -jax.numpy.take_along_axis(jax.nn.log_softmax(z), y[:, None], axis=1).mean()

    def _one(self, state, x, y):
        jax, (p, m, v, t) = self.jax, state
        loss, g = jax.value_and_grad(self._loss)(p, x, y)
        t = t + 1
        m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, g)
        v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, g)
        rate, root = LEARNING_RATE / (1 - BETA1**t), (1 - BETA2**t) ** -0.5
        p = jax.tree.map(lambda p, m, v: p - rate * m / (jax.numpy.sqrt(v) * root + EPSILON), p, m, v)
        return (p, m, v, t), loss

    def _epoch(self, state, key, x, y):
        key, now = self.jax.random.split(key)
        state, losses = self._scan(state, self.jax.random.permutation(now, len(x)), x, y)
        return state, key, losses

    def _scan(self, state, order, x, y):
        def body(state, rows):
            return self._one(state, x[rows], y[rows])

        return self.jax.lax.scan(body, state, order.reshape(-1, self.workload.batch))


class JaxHostShuffle(Jax):
    """The same with the order of the rows drawn by NumPy: XLA sorts random keys for a permutation, 40 times
    slower on the CPU, which is most of the time of an epoch of small networks."""

    def __init__(self, workload: Workload, threads: int | None) -> None:
        super().__init__(workload, threads)
        self.scan = self.jax.jit(self._scan, donate_argnums=0)
        self.rng = np.random.default_rng(0)

    def train(self, epochs: int) -> None:
        for _ in range(epochs):
            order = self.rng.permutation(len(self.x)).astype(np.int32)
            self.state, losses = self.scan(self.state, order, self.x, self.y)
        losses.block_until_ready()


class Sklearn(Runner):
    """MLPClassifier and MLPRegressor with their own Adam and shuffle, no penalty and no early stop. `fit` goes
    on from the weights there are (warm_start); its checks of the data are paid once for all epochs of a round.

    Of two classes scikit-learn trains a single logistic output (logreg): less work than the softmax of two, and
    steps half as large. Its Adam adds epsilon before the bias correction, as if it were 30 times larger in the
    first steps, which shows where gradients are small (gemm)."""

    def __init__(self, workload: Workload, threads: int | None) -> None:
        super().__init__(workload, threads)
        import sklearn

        self.library = sklearn
        self.binary = workload.loss == "cross_entropy" and workload.sizes[-1] == 2
        if workload.loss == "mse" and workload.sizes[-1] == 1:
            self.y = self.y[:, 0]

    @property
    def version(self) -> str:
        return f"scikit-learn {self.library.__version__}"

    def reset(self) -> None:
        from sklearn.neural_network import MLPClassifier, MLPRegressor

        classifies = self.workload.loss == "cross_entropy"
        self.model = (MLPClassifier if classifies else MLPRegressor)(
            hidden_layer_sizes=self.workload.sizes[1:-1],
            activation=self.workload.activation,
            solver="adam",
            alpha=0.0,
            batch_size=self.workload.batch,
            learning_rate_init=LEARNING_RATE,
            beta_1=BETA1,
            beta_2=BETA2,
            epsilon=EPSILON,
            shuffle=True,
            random_state=0,
            tol=0.0,
            n_iter_no_change=10**9,
        )
        first = slice(0, self.workload.batch)
        if classifies:
            self.model.partial_fit(self.x[first], self.y[first], classes=np.arange(self.workload.sizes[-1]))
        else:
            self.model.partial_fit(self.x[first], self.y[first])
        initial = self.workload.parameters()
        if self.binary:
            w, b = initial[-1]
            initial[-1] = (w[:, 1:] - w[:, :1], b[1:] - b[:1])
        for index, (w, b) in enumerate(initial):
            self.model.coefs_[index][...], self.model.intercepts_[index][...] = w, b
        del self.model._optimizer  # its moments are of the step that made the arrays

    def step(self, rows: slice) -> float:
        self.model.set_params(warm_start=False)  # with it, each batch has to have every class
        self.model.partial_fit(self.x[rows], self.y[rows])
        return self.model.loss_ * (2.0 if self.workload.loss == "mse" else 1.0)  # its squared error is halved

    def train(self, epochs: int) -> None:
        self.model.set_params(max_iter=epochs, warm_start=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has not converged
            self.model.fit(self.x, self.y)


PEERS = (
    Spec("torch", f"{__name__}:Torch", "torch"),
    Spec("torch.compile", f"{__name__}:TorchCompile", "torch"),
    Spec("jax", f"{__name__}:Jax", "jax"),
    Spec("jax.host", f"{__name__}:JaxHostShuffle", "jax"),
    Spec("sklearn", f"{__name__}:Sklearn", "sklearn", close=("logreg", "gemm")),
)

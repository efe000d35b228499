"""The peers as runners: PyTorch, torch.compile, JAX and scikit-learn, each trained as a competent user would.

Imported in the workers only, and only the library whose turn it is.
"""

from __future__ import annotations

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


PEERS = (Spec("torch", f"{__name__}:Torch", "torch"),)

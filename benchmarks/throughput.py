"""Measure collecting and optimising in env steps per second, relative to the machine's speed.

Usage: `python -m benchmarks.throughput [overrides of the config]`. The bound is the machine's rate
of matrix products, measured in the same process with the shapes of the recurrent product: a loop at
100 % would only compute the matrix products that the network needs.
"""

import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import DictConfig
from rich import box, get_console
from rich.table import Table

from rl2_lightning import session
from rl2_lightning.build import build_data, build_learner, build_trainer
from rl2_lightning.callbacks.outcome import callbacks_of
from rl2_lightning.callbacks.throughput import Throughput
from rl2_lightning.config import register_schemas

CONFIGS = Path(__file__).parents[1] / "configs"
HIDDEN_SIZES = (64, 256)
WARM_UP, MEASURED = 2, 8  # iterations
WORKLOAD = [
    "collection.num_trials=2000",
    "collection.total_env_steps=1000000000",
    "learner.num_epochs=4",
    "learner.num_minibatches=2",
    f"trainer.max_epochs={WARM_UP + MEASURED}",
    "trainer.check_val_every_n_epoch=1000",
]
PARTS = {"collect": "collecting", "optimise": "optimising", "train": "the whole"}


class IterationRates(Callback):
    """Records the rates of each iteration."""

    def __init__(self) -> None:
        self.steps: dict[str, list[float]] = {part: [] for part in PARTS}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the rates of the previous iteration."""
        for part, seen in self.steps.items():
            if f"{part}/steps_per_second" in trainer.callback_metrics:
                seen.append(trainer.callback_metrics[f"{part}/steps_per_second"].item())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the rates of the last iteration."""
        self.on_train_epoch_start(trainer, pl_module)

    def rate(self, part: str) -> float:
        """The median rate after the warm-up, in env steps per second."""
        return median(self.steps[part][WARM_UP:])


class Rates(IterationRates):
    """Also records the machine's rate, measured just before each iteration.

    The speed of a shared machine changes from second to second, so that only simultaneous
    measurements can be compared.

    Args:
        product: one matrix product in the shapes of the recurrent product.
    """

    def __init__(self, product: "RecurrentProduct") -> None:
        super().__init__()
        self._product = product
        self.products: list[float] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the rates of the previous iteration, and measure the machine's."""
        super().on_train_epoch_start(trainer, pl_module)
        self.products.append(self._product.rate())

    def share(self, part: str, operations_per_step: float) -> float:
        """The median share of the machine's rate, measured before and after the iteration."""
        around = [(before + after) / 2 for before, after in pairwise(self.products)]
        rates = zip(self.steps[part], around, strict=True)
        return median([steps * operations_per_step / own for steps, own in rates][WARM_UP:])


class RecurrentProduct:
    """The product `[rows, H] x [H, 3 H]` that a GRU computes at each step.

    Args:
        rows: number of trials of a minibatch.
        hidden_size: H.
    """

    def __init__(self, rows: int, hidden_size: int) -> None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._operations = 2 * rows * hidden_size * 3 * hidden_size
        self._states = torch.randn(rows, hidden_size, device=device)
        self._weights = torch.randn(3 * hidden_size, hidden_size, device=device)
        self._bias = torch.randn(3 * hidden_size, device=device)

    def rate(
        self, repeats: int = 15, calls: int = 10, clock: Callable[[], float] = perf_counter
    ) -> float:
        """The floating-point operations per second of a clock, as the median of short runs."""

        def lap() -> float:
            start = clock()
            for _ in range(calls):
                torch.nn.functional.linear(self._states, self._weights, self._bias)
            if self._states.is_cuda:
                torch.cuda.synchronize()
            return clock() - start

        return self._operations * calls / median(lap() for _ in range(repeats))


def operations(cfg: DictConfig) -> tuple[float, float, float]:
    """The floating-point operations of the matrix products for one env step.

    Every weight is used in one product per step. Learning takes three: the forward pass, the
    gradient of the weight, and the gradient of the input. The gradients of the agent's inputs and
    of the memory's first state are not needed.

    Returns:
        The numbers for collecting, for optimising, and for both.
    """
    data = build_data(cfg)
    products = {"inputs": 0, "states": 0, "heads": 0}
    for name, weight in build_learner(cfg, data).named_parameters():
        kind = "states" if "weight_hh" in name else "inputs" if "weight_ih" in name else "heads"
        products[kind] += 2 * weight.numel() if weight.ndim == 2 else 0
    collect = sum(products.values())
    unneeded = products["inputs"] + products["states"] / data.world.specimen.max_steps
    optimise = cfg.learner.num_epochs * (3 * collect - unneeded)
    return collect, optimise, collect + optimise


def fit(cfg: DictConfig, *callbacks: Callback) -> None:
    """Run the iterations of a config."""
    data = build_data(cfg)
    learner = build_learner(cfg, data)
    trainer = build_trainer(cfg, data, learner)
    callbacks_of(trainer).extend(callbacks)
    session.fit(trainer, learner, data, cfg)


def measure(hidden_size: int, overrides: list[str]) -> list[list[str]]:
    """The rows of the table for one size of the memory."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [*WORKLOAD, f"memory.hidden_size={hidden_size}", *overrides]
        cfg = compose("train", [f"output_dir={folder}", *settings])
        # Leave out the callbacks of a normal run, which write files and draw.
        cfg.callbacks, cfg.logger = {}, {}
        rows = cfg.collection.num_trials // cfg.learner.num_minibatches
        rates = Rates(RecurrentProduct(rows, hidden_size))
        fit(cfg, rates, Throughput())
    return [
        [
            f"{hidden_size}",
            title,
            f"{rates.rate(part):,.0f}",
            f"{count / 1e6:.3f}",
            f"{median(rates.products) / count:,.0f}",
            f"{rates.share(part, count):.0%}",
        ]
        for (part, title), count in zip(PARTS.items(), operations(cfg), strict=True)
    ]


def main() -> None:
    """Print the table."""
    session.quieten()
    register_schemas()
    table = Table(box=box.SIMPLE_HEAD, title="Throughput on bandits (n=10, k=5)")
    table.add_column("GRU")
    table.add_column("part")
    for title in ("env steps/s", "Mflop/env step", "allowed env steps/s", "share"):
        table.add_column(title, justify="right")
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        for hidden_size in HIDDEN_SIZES:
            for row in measure(hidden_size, sys.argv[1:]):
                table.add_row(*row)
    get_console().print(table)


if __name__ == "__main__":
    main()

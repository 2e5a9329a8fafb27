"""What all learners share: the agent, the count of env steps, and the held-out curves."""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Protocol

import lightning.pytorch as pl
import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from rl2_lightning.algorithms.ranks import over_all_ranks
from rl2_lightning.errors import NonFiniteLossError
from rl2_lightning.evaluation.adaptation_curve import AdaptationCurve, Curve, episode_returns
from rl2_lightning.networks.actor_critic import ActorCritic

EVALUATION_MODES = ("greedy", "sampled")
COUNTERS = ("env_steps_done", "iterations_collected")


class Plan(Protocol):
    """What a run will collect, as far as a learner needs to know it."""

    def spent_before(self, iteration: int) -> float:
        """How much of the budget is spent when an iteration begins, in [0, 1]."""

    def trial_length_at(self, iteration: int) -> int:
        """Length of the trials of an iteration."""


class Learner(pl.LightningModule):
    """Learns from trials, one iteration a Lightning epoch.

    Args:
        network: the agent.
        num_episodes: most episodes that a trial can have.
        plan: what the run will collect; schedules are stretched on it.
        num_epochs: passes over the windows of an iteration.
        num_minibatches: minibatches of a pass.
    """

    env_steps_done: Tensor
    iterations_collected: Tensor

    def __init__(
        self,
        network: ActorCritic,
        *,
        num_episodes: int,
        plan: Plan,
        num_epochs: int,
        num_minibatches: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.num_episodes = num_episodes
        self.plan = plan
        self.num_epochs = num_epochs
        self.num_minibatches = num_minibatches
        for counter in COUNTERS:
            self.register_buffer(counter, torch.zeros((), dtype=torch.int64))
        self.adaptation_curves = nn.ModuleDict(
            {mode: AdaptationCurve(num_episodes) for mode in EVALUATION_MODES}
        )
        self.latest_curves: dict[str, Curve] = {}
        self._diagnostics: dict[str, list[Tensor]] = defaultdict(list)

    def take_weights(self, state: Mapping[str, Tensor], lengthened: float) -> None:
        """Begins with what another training has learnt, and counts anew.

        Args:
            state: the state dict of a learner alike.
            lengthened: how many times longer the first trials are than the other's were.
        """
        self.load_state_dict({**state, **{name: getattr(self, name) for name in COUNTERS}})

    @abstractmethod
    def prepare_trials(self, trials: TensorDictBase) -> TensorDictBase:
        """Adds to collected trials `[B, T]` what the loss needs; called once an iteration."""

    @property
    def env_steps(self) -> int:
        """Env steps that all ranks have collected so far."""
        return int(self.env_steps_done)

    @property
    def iteration(self) -> int:
        """Iterations whose trials have been collected so far."""
        return int(self.iterations_collected)

    @property
    def progress(self) -> float:
        """How much of the budget of env steps is spent, in [0, 1]; idle steps count."""
        return self.plan.spent_before(self.iteration)

    def count_iteration(self, num_steps: Tensor) -> None:
        """Counts an iteration with the env steps, an integer `[]`, that this rank has collected."""
        self.env_steps_done += over_all_ranks(num_steps.reshape(1)).sum()
        self.iterations_collected += 1

    def note(self, diagnostics: Mapping[str, Tensor]) -> None:
        """Keeps diagnostics of a minibatch, each `[]`; their means are logged for the iteration."""
        for name, value in diagnostics.items():
            self._diagnostics[name].append(value.detach())

    def on_train_epoch_end(self) -> None:
        """Logs the iteration's diagnostics."""
        means = {f"train/{name}": torch.stack(v).mean() for name, v in self._diagnostics.items()}
        self._diagnostics.clear()
        self.log_dict(means, sync_dist=True)
        self.log("train/env_steps", float(self.env_steps))

    def require_finite(self, name: str, value: Tensor) -> None:
        """Stops the run before a non-finite value reaches the weights.

        Raises:
            NonFiniteLossError: the value, `[]`, is infinite or not a number.
        """
        if not torch.isfinite(value):
            raise NonFiniteLossError(
                f"{name} is {value.item()} after {self.env_steps} env steps: lower "
                "algorithm.learning_rate, and see that the environment gives finite numbers"
            )

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Measures the gradient's norm before clipping."""
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        if not gradients:
            return
        norm = nn.utils.get_total_norm(gradients)
        # With float16 the gradient scaler itself skips steps whose gradient overflows.
        if getattr(self.trainer.precision_plugin, "scaler", None) is None:
            self.require_finite("the gradient's norm", norm)
        self.note({"gradient_norm": norm})

    def on_train_batch_end(self, outputs: Any, batch: TensorDictBase, batch_index: int) -> None:
        """Looks at the weights after an update, before anything is done with them."""
        weights = [parameter.detach() for parameter in self.network.parameters()]
        self.require_finite("the weights' norm", nn.utils.get_total_norm(weights))

    def validation_step(
        self, trials: TensorDictBase, batch_index: int, dataloader_idx: int = 0
    ) -> None:
        """Adds played trials `[B, T]` to the curve of their mode, greedy or sampled."""
        curve = self.adaptation_curves[EVALUATION_MODES[dataloader_idx]]
        assert isinstance(curve, AdaptationCurve)
        curve.update(*episode_returns(trials, self.num_episodes))

    def on_validation_epoch_end(self) -> None:
        """Computes the curves over all ranks."""
        self._finish_evaluation("validation")

    def test_step(self, trials: TensorDictBase, batch_index: int, dataloader_idx: int = 0) -> None:
        """As `validation_step`, on the tasks of the test."""
        self.validation_step(trials, batch_index, dataloader_idx)

    def on_test_epoch_end(self) -> None:
        """Computes the curves over all ranks."""
        self._finish_evaluation("test")

    def _finish_evaluation(self, stage: str) -> None:
        for mode, metric in self.adaptation_curves.items():
            assert isinstance(metric, AdaptationCurve)
            self.latest_curves[mode] = metric.compute()
            metric.reset()
            self.log(f"{stage}/return_{mode}", self.latest_curves[mode].trial_return)

"""What all learners share: the agent, the clock, the schedules, and the watch over the numbers."""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import lightning.pytorch as pl
import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from rl2_lightning.agents.agent import Agent
from rl2_lightning.data.clock import Clock
from rl2_lightning.data.plan import CollectionPlan
from rl2_lightning.data.sources import TrialSource
from rl2_lightning.errors import NonFiniteLossError
from rl2_lightning.learners.ranks import of_any_rank, over_all_ranks
from rl2_lightning.settings import Settings


@dataclass(frozen=True)
class RunShape:
    """What a run is like, for a learner's settings to be held against.

    Attributes:
        num_trials: trials of an iteration over all ranks, by the field that sets them.
        num_ranks: processes that train together.
        precision: of Lightning's trainer.
    """

    num_trials: Mapping[str, int]
    num_ranks: int
    precision: str


@dataclass
class LearnerSettings(Settings):
    """What can be set of a learner."""

    def check_run(self, run: RunShape) -> None:
        """Looks at what depends on the run.

        Raises:
            UserError: the run cannot be trained with these settings.
        """


class Learner(pl.LightningModule):
    """Learns from trials, one iteration a Lightning epoch.

    A learner says where its minibatches come from (`make_source`), adds to collected trials what
    its loss needs (`prepare`), and learns from a minibatch (`training_step`), by Lightning's
    automatic optimisation wherever its method allows. What it has besides the agent, critics and
    the like, are modules of its own.

    Args:
        agent: who learns.
        settings: its `Settings`.
        plan: what the run will collect; schedules are stretched on it.
        task_sizes: how many numbers each parameter of a task has, by (dotted) name.

    Attributes:
        Settings: dataclass of what can be set.
        keeps_features: whether collected trials are to hold the agent's features.
        reads_tasks: whether windows are to hold the parameters of their tasks.
        clock: counts iterations and env steps.
    """

    Settings: ClassVar[type[LearnerSettings]] = LearnerSettings
    keeps_features: bool = False
    reads_tasks: bool = False

    def __init__(
        self,
        agent: Agent,
        settings: LearnerSettings,
        *,
        plan: CollectionPlan,
        task_sizes: Mapping[str, int],
    ) -> None:
        super().__init__()
        self.agent = agent
        self.plan = plan
        self.clock = Clock()
        self._diagnostics: dict[str, list[Tensor]] = defaultdict(list)

    @abstractmethod
    def make_source(
        self,
        collect: Callable[[], TensorDictBase],
        shuffle_seed: Callable[[int], int],
    ) -> TrialSource:
        """Where the minibatches of an iteration come from.

        Args:
            collect: plays the trials of the iteration and cuts them into windows, `[N]`.
            shuffle_seed: gives a seed for each pass over data, from the index of the pass.
        """

    @abstractmethod
    def prepare(self, trials: TensorDictBase, state_steps: Sequence[int]) -> TensorDictBase:
        """Adds to collected trials what the loss needs; called once an iteration.

        It has to count the iteration by `count_iteration`.

        Args:
            trials: `[B]`, as `families.play.play` gives them.
            state_steps: steps before which windows, or their burn-ins, begin.

        Returns:
            The trials, whose steps `[B, T]` hold what windows are to hold.
        """

    @property
    def progress(self) -> float:
        """How much of the budget of env steps is spent, in [0, 1]; idle steps count."""
        return self.plan.spent_before(self.clock.iterations)

    def linear(self, first: float, last: float) -> float:
        """A schedule over the budget: a resumed run needs no state of it."""
        return first + self.progress * (last - first)

    def count_iteration(self, num_steps: Tensor) -> None:
        """Counts an iteration with the env steps, an integer `[]`, that this rank has collected."""
        self.clock.tick(over_all_ranks(num_steps.reshape(1)).sum())

    def take_weights(self, state: Mapping[str, Tensor]) -> None:
        """Begins with what another training has learnt, and counts anew.

        Args:
            state: the state dict of a learner alike.
        """
        self.load_state_dict(state)
        self.clock.restart()

    def note(self, diagnostics: Mapping[str, Tensor]) -> None:
        """Keeps diagnostics of a minibatch, each `[]`.

        Their means over the iteration and all ranks are logged.
        """
        for name, value in diagnostics.items():
            self._diagnostics[name].append(value.detach())

    def on_train_epoch_end(self) -> None:
        """Logs the iteration's diagnostics."""
        means = {f"train/{name}": mean for name, mean in self._means().items()}
        self._diagnostics.clear()
        self.log_dict(means, sync_dist=True)
        # Loggers take `step` for their horizontal axis.
        env_steps = float(self.clock.env_steps)
        self.log_dict({"train/env_steps": env_steps, "step": env_steps})

    def _means(self) -> dict[str, Tensor]:
        """Means of the diagnostics over the minibatches of all ranks.

        A rank may have noted what another has not, whose minibatches held no step: all ranks reduce
        the same names, for one alone would wait for ever.
        """
        names = of_any_rank(self._diagnostics)
        if not names:
            return {}
        noted = [self._diagnostics.get(name, []) for name in names]
        nothing = torch.zeros((), device=self.device)
        sums = torch.stack([sum((value.float() for value in one), nothing) for one in noted])
        counts = torch.tensor([float(len(one)) for one in noted], device=self.device)
        together = over_all_ranks(torch.cat([sums, counts]))
        totals, numbers = together.view(-1, 2, len(names)).sum(dim=0)
        return dict(zip(names, totals / numbers, strict=True))

    def require_finite(self, name: str, value: Tensor) -> None:
        """Stops the run before a non-finite value reaches the weights.

        Raises:
            NonFiniteLossError: the value, `[]`, is infinite or not a number.
        """
        if not torch.isfinite(value):
            raise NonFiniteLossError(
                f"{name} is {value.item()} after {self.clock.env_steps} env steps: lower "
                "learner.learning_rate, and see that the environment gives finite numbers"
            )

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Measures the gradient's norm before clipping."""
        self.watch_gradient(self.parameters())

    def watch_gradient(self, parameters: Iterable[nn.Parameter]) -> None:
        """Notes the norm of the gradient of some parameters.

        Raises:
            NonFiniteLossError: it is not finite.
        """
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            return
        norm = nn.utils.get_total_norm(gradients)
        # With float16 the gradient scaler itself skips steps whose gradient overflows.
        if getattr(self.trainer.precision_plugin, "scaler", None) is None:
            self.require_finite("the gradient's norm", norm)
        self.note({"gradient_norm": norm})

    def on_train_batch_end(self, outputs: Any, batch: TensorDictBase, batch_index: int) -> None:
        """Looks at the weights after an update, before anything is done with them."""
        weights = [parameter.detach() for parameter in self.parameters()]
        self.require_finite("the weights' norm", nn.utils.get_total_norm(weights))

    def validation_step(
        self, steps: TensorDictBase, batch_index: int, dataloader_idx: int = 0
    ) -> None:
        """Nothing is learnt from held-out trials; what they tell is the callbacks' business."""

    def test_step(self, steps: TensorDictBase, batch_index: int, dataloader_idx: int = 0) -> None:
        """As `validation_step`."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what an agent is built from, so that it can be loaded without this learner."""
        from rl2_lightning.checkpoint import describe

        checkpoint.update(describe(self.agent.spec.to_plain()))


def zero_loss(module: nn.Module) -> Tensor:
    """A loss without effect that all parameters take part in; other ranks wait for its gradient."""
    return 0 * torch.stack([parameter.sum() for parameter in module.parameters()]).sum()

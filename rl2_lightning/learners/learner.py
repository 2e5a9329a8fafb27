"""The base class of learners: agent, clock, schedules, logging and checks for finite values."""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

import lightning.pytorch as pl
import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from rl2_lightning.agents.agent import Agent
from rl2_lightning.data.actor import AgentActor
from rl2_lightning.data.clock import Clock
from rl2_lightning.data.plan import CollectionPlan
from rl2_lightning.data.sources import TrialSource
from rl2_lightning.errors import NonFiniteLossError, UserError
from rl2_lightning.families.play import Actor
from rl2_lightning.learners.iteration_log import STEP, write_metrics
from rl2_lightning.learners.normalisation import measure_inputs, update_spreads
from rl2_lightning.learners.pending_checks import Check, PendingChecks
from rl2_lightning.learners.ranks import of_any_rank, over_all_ranks
from rl2_lightning.settings import Settings


@dataclass(frozen=True)
class RunShape:
    """What a learner's settings are checked against.

    Attributes:
        num_trials: trials of an iteration over all ranks, by the field that sets them.
        num_ranks: processes that train together.
        precision: precision of Lightning's trainer.
        trial_steps: maximum number of env steps of a trial.
        continues: whether trials are cuts of longer lives.
        expected_rewards: whether learners get the means of rewards in place of what was drawn.
    """

    num_trials: Mapping[str, int]
    num_ranks: int
    precision: str
    trial_steps: int
    continues: bool
    expected_rewards: bool


@dataclass
class LearnerSettings(Settings):
    """Settings of a learner."""

    def check_run(self, run: RunShape) -> None:
        """Check the settings that depend on the run.

        Raises:
            UserError: the run cannot be trained with these settings.
        """


class Learner(pl.LightningModule):
    """Trains an agent on trials, with one iteration per Lightning epoch.

    A learner provides its minibatches (`make_source`), adds to collected trials what its loss needs
    (`prepare`), and computes the loss of a minibatch (`training_step`), with Lightning's automatic
    optimisation if the method allows it. Critics and other networks are its own submodules.

    Args:
        agent: the agent to train.
        settings: an instance of its `Settings`.
        plan: what the run will collect; schedules span it.
        task_sizes: number of elements of each task parameter, by (dotted) name.

    Attributes:
        Settings: dataclass of its settings.
        reads_tasks: whether windows need the parameters of their tasks.
        reads_places: whether its constructor also takes `places`, those of the family or None.
        num_following: number of steps that windows need beyond their end.
        rate_fields: the fields of the learning rates that weights depend on, for error messages.
        can_be_recorded: whether its actor and its loss can be recorded as CUDA graphs: Python code
            computes no number that changes from one iteration to the next. Each class says so of
            itself; it is not inherited.
        clock: counts iterations and env steps.
        uses_graphs: whether they are.
    """

    Settings: ClassVar[type[LearnerSettings]] = LearnerSettings
    reads_tasks: bool = False
    reads_places: ClassVar[bool] = False
    num_following: int = 0
    rate_fields: ClassVar[Sequence[str]] = ("learner.learning_rate",)
    can_be_recorded: ClassVar[bool] = False

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
        self.uses_graphs = False
        self._pending = PendingChecks()
        self._diagnostics: dict[str, list[Tensor]] = defaultdict(list)
        self._metrics: dict[str, float] = {}
        self._uses_log = False

    @abstractmethod
    def make_source(
        self,
        collect: Callable[[], TensorDictBase],
        shuffle_seed: Callable[[int], int],
    ) -> TrialSource:
        """The source of an iteration's minibatches.

        Args:
            collect: plays the trials of the iteration and cuts them into windows, `[N]`.
            shuffle_seed: maps the index of a pass over the data to a seed.
        """

    @abstractmethod
    def prepare(self, trials: TensorDictBase, state_steps: Sequence[int]) -> TensorDictBase:
        """Add to collected trials what the loss needs; called once per iteration.

        It has to call `count_iteration`.

        Args:
            trials: `[B]`, as `families.play.play` returns them.
            state_steps: steps before which windows, or their burn-ins, begin.

        Returns:
            The trials; the windows get all entries of their steps, `[B, T]`.
        """

    def make_actor(self, generator: torch.Generator) -> Actor:
        """The actor that plays the trials of an iteration: the agent, if not overridden.

        Args:
            generator: generator of the actions, on the agent's device.
        """
        return AgentActor(self.agent, generator)

    def begin_collection(self) -> None:
        """Take over the spread of the inputs that has been measured before this iteration.

        Within an iteration it does not change, so that the policy that learns is the one that
        played.
        """
        update_spreads(self)

    def note_inputs(self, steps: TensorDictBase) -> None:
        """Measure the spread of the inputs of this rank's collected steps, `[B, T]`."""
        measure_inputs(self, steps)

    @property
    def progress(self) -> float:
        """The spent fraction of the budget of env steps, in [0, 1]; idle steps count."""
        return self.plan.spent_before(self.clock.iterations)

    def linear(self, first: float, last: float) -> float:
        """A linear schedule over the budget, without state, so that runs resume exactly."""
        return first + self.progress * (last - first)

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of the first optimiser for an iteration, and log it."""
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate
        self.log_iteration({"train/learning_rate": rate})

    def count_iteration(self, num_steps: Tensor) -> None:
        """Count an iteration and the env steps that this rank has collected, an integer `[]`."""
        self.clock.tick(over_all_ranks(num_steps.reshape(1)).sum())

    def take_weights(self, state: Mapping[str, Tensor]) -> None:
        """Load the weights of another training, and restart the clock.

        Args:
            state: state dict of a learner with the same modules.
        """
        self.load_state_dict(state)
        self.clock.restart()

    def note(self, diagnostics: Mapping[str, Tensor]) -> None:
        """Record diagnostics of a minibatch, each `[]`.

        Their means over the iteration and all ranks are logged.
        """
        for name, value in diagnostics.items():
            self._diagnostics[name].append(value.detach())

    def log(self, *arguments: Any, **options: Any) -> None:
        """Lightning's `log`; see `log_iteration` for numbers that an iteration has once."""
        self._uses_log = self._uses_log or self.trainer.training
        super().log(*arguments, **options)

    def log_iteration(self, metrics: Mapping[str, float]) -> None:
        """Log numbers of this iteration, which all ranks know; they are written at its end.

        Args:
            metrics: the numbers by name.
        """
        self._metrics |= metrics

    def on_train_epoch_end(self) -> None:
        """Log the iteration's diagnostics, and what `log_iteration` has been given."""
        self.log_iteration({f"train/{name}": mean for name, mean in self._means().items()})
        self._diagnostics.clear()
        env_steps = float(self.clock.env_steps)
        self.log_iteration({"train/env_steps": env_steps, STEP: env_steps})
        metrics, self._metrics = self._metrics, {}
        if self._uses_log:
            # Where Lightning's `log` was called, it writes all of them, in the same rows.
            self.log_dict(metrics)
            self._uses_log = False
        else:
            write_metrics(self.trainer, metrics)

    def _means(self) -> dict[str, float]:
        """Means of the diagnostics over the minibatches of all ranks.

        A rank whose minibatches contained no step lacks diagnostics that another has. All ranks
        reduce the same names; otherwise a rank would wait forever.
        """
        names = of_any_rank(self._diagnostics)
        if not names:
            return {}
        noted = [self._diagnostics.get(name, []) for name in names]
        nothing = torch.zeros((), device=self.device)
        sums = torch.stack([sum((value.float() for value in one), nothing) for one in noted])
        # Filled on the device: a copy would wait for the work of a GPU.
        counts = torch.stack([nothing.new_full((), float(len(one))) for one in noted])
        together = over_all_ranks(torch.cat([sums, counts]))
        totals, numbers = together.view(-1, 2, len(names)).sum(dim=0)
        return dict(zip(names, (totals / numbers).tolist(), strict=True))

    def require_finite(self, name: str, value: Tensor, remedy: str | None = None) -> None:
        """Stop the run before a non-finite value reaches the weights.

        With CUDA graphs all values of an iteration are checked after its last update, before the
        weights are used or stored.

        Args:
            name: what it is, for the error message.
            value: the value, `[]`.
            remedy: what to do about it; None to lower the learning rates.

        Raises:
            NonFiniteLossError: the value is infinite or NaN.
        """
        check = Check(name, value, remedy)
        if self.uses_graphs:
            self._pending.add(check)
        elif not torch.isfinite(value):
            self.stop_at(check)

    def stop_at(self, failed: Check) -> NoReturn:
        """Stop the run at a value that is not finite; see `require_finite`."""
        remedy = failed.remedy or f"lower {' or '.join(self.rate_fields)}"
        raise NonFiniteLossError(
            f"{failed.name} is {failed.value.item()} after {self.clock.env_steps} env steps: "
            f"{remedy}, and check that the environment returns finite numbers"
        )

    def on_fit_start(self) -> None:
        """Forget the checks of another training that has ended early."""
        self._pending = PendingChecks()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Measure the gradient's norm before clipping."""
        self.watch_gradient(self.parameters())

    def watch_gradient(
        self, parameters: Iterable[nn.Parameter], name: str = "gradient_norm"
    ) -> None:
        """Record the norm of the gradient of some parameters as a diagnostic.

        Args:
            parameters: the parameters.
            name: name of the diagnostic.

        Raises:
            NonFiniteLossError: it is not finite.
        """
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            return
        norm = nn.utils.get_total_norm(gradients)
        # With float16 the gradient scaler skips steps whose gradient overflows.
        if getattr(self.trainer.precision_plugin, "scaler", None) is None:
            self.require_finite("the gradient's norm", norm)
        self.note({name: norm})

    def on_train_batch_end(self, outputs: Any, batch: TensorDictBase, batch_index: int) -> None:
        """Check the weights after an update, before they are used."""
        if self.uses_graphs and not self.trainer.is_last_batch:
            return
        weights = [parameter.detach() for parameter in self.parameters()]
        self.require_finite("the weights' norm", nn.utils.get_total_norm(weights))
        if (failed := self._pending.first_failed()) is not None:
            self.stop_at(failed)

    def validation_step(
        self, steps: TensorDictBase, batch_index: int, dataloader_idx: int = 0
    ) -> None:
        """Do nothing: held-out trials are evaluated by callbacks."""

    def test_step(self, steps: TensorDictBase, batch_index: int, dataloader_idx: int = 0) -> None:
        """Do nothing; see `validation_step`."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the agent's spec, so that the agent can be loaded without this learner.

        At the end of an iteration Lightning does not count it yet, after the last one it does: the
        same state would have two numbers.
        """
        from rl2_lightning.checkpoint import describe

        checkpoint.update(describe(self.agent.spec.to_plain()))
        checkpoint["epoch"] = self.clock.iterations


def require_division(name: str, value: int, parts: int, into: str) -> None:
    """Check that a number divides into parts.

    Args:
        name: config field of the number.
        value: the number.
        parts: number of the parts.
        into: the parts in words.

    Raises:
        UserError: it does not.
    """
    if value % parts:
        nearest = max(1, round(value / parts)) * parts
        raise UserError(f"{name}={value} does not divide into {into}: set {name}={nearest}")


def zero_loss(module: nn.Module) -> Tensor:
    """A zero loss that depends on all parameters; other ranks wait for its gradient."""
    return 0 * torch.stack([parameter.sum() for parameter in module.parameters()]).sum()

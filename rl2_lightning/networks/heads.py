"""From the memory's features to a distribution over actions, and to a value."""

from collections.abc import Sequence

import torch
from tensordict import TensorDictBase
from tensordict.nn import (
    InteractionType,
    ProbabilisticTensorDictModule,
    ProbabilisticTensorDictSequential,
    TensorDictModule,
)
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution
from torchrl.data import Bounded, Composite, TensorSpec
from torchrl.data import Categorical as CategoricalSpec
from torchrl.modules import MLP

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.networks.initialisation import initialise_linear
from rl2_lightning.networks.squashed_normal import SquashedNormal, SquashedNormalParameters


def actor_head(
    num_features: int, action_spec: TensorSpec, hidden_sizes: Sequence[int], *, in_key: str
) -> ProbabilisticTensorDictSequential:
    """The policy's head: a distribution over actions, of which it writes one.

    For discrete actions it is categorical: the action is `[...]`, int64. For bounded continuous
    ones it is a normal distribution squeezed between the bounds: the action is `[..., A]`, float32.
    Either way its log-probability is written, `[...]`, float32, and the parameters.

    Args:
        num_features: width of the actor's features.
        action_spec: unbatched spec of the action.
        hidden_sizes: widths of the layers before the distribution's parameters.
        in_key: where the features stand.

    Raises:
        UserError: the actions are neither discrete nor a vector of bounded numbers.
    """
    layers, parameter_keys, distribution = _distribution(num_features, action_spec, hidden_sizes)
    return ProbabilisticTensorDictSequential(
        TensorDictModule(layers, in_keys=[in_key], out_keys=parameter_keys),
        ProbabilisticTensorDictModule(
            in_keys=parameter_keys,
            out_keys=[keys.ACTION],
            distribution_class=distribution,
            # Validation would wait for the device at every step.
            distribution_kwargs={"validate_args": False},
            default_interaction_type=InteractionType.RANDOM,
            return_log_prob=True,
            log_prob_key=keys.ACTION_LOG_PROB,
        ),
    )


def _distribution(
    num_features: int, action_spec: TensorSpec, hidden_sizes: Sequence[int]
) -> tuple[nn.Module, list[str], type[Distribution]]:
    """Layers from features to the parameters of a distribution, their keys, and its class."""
    if isinstance(action_spec, CategoricalSpec):
        layers = _layers(num_features, hidden_sizes, action_spec.space.n, output_gain=0.01)
        return layers, [keys.LOGITS], Categorical
    if _is_bounded_vector(action_spec):
        num_outputs = 2 * action_spec.shape[0]
        layers = _layers(num_features, hidden_sizes, num_outputs, output_gain=0.01)
        bounds = SquashedNormalParameters(action_spec)
        return nn.Sequential(layers, bounds), keys.SQUASHED_NORMAL, SquashedNormal
    raise UserError(
        f"actions of {type(action_spec).__name__} {list(action_spec.shape)} have no policy head; "
        "use discrete actions, or a vector of numbers between finite bounds"
    )


def _is_bounded_vector(action_spec: TensorSpec) -> bool:
    """Whether actions are `[A]`, with finite bounds on each number."""
    if not isinstance(action_spec, Bounded) or len(action_spec.shape) != 1:
        return False
    bounds = torch.stack([action_spec.space.low, action_spec.space.high])
    return bool(bounds.isfinite().all())


class TimedValue(nn.Module):
    """Fully connected layers from features and the elapsed fraction of the trial to a value.

    They may see the task, too. The first layer is that of the concatenation of all these, as
    terms: this spares a copy of the features, and one of the task for each step of its trial.

    Args:
        num_features: width of the features.
        hidden_sizes: widths of the layers before the value; the first of them, or 1, is C.
        task_spec: unbatched spec of a task's parameters, where the value depends on them.
    """

    def __init__(
        self, num_features: int, hidden_sizes: Sequence[int], task_spec: Composite | None = None
    ) -> None:
        super().__init__()
        if hidden_sizes:
            first, *rest = hidden_sizes
            self.layers = nn.Sequential(nn.ReLU(), _layers(first, rest, 1, output_gain=1.0))
        else:
            first, self.layers = 1, nn.Sequential()
        self.of_features = nn.Linear(num_features, first)
        self.of_elapsed = nn.Linear(1, first, bias=False)
        gain = 2**0.5 if hidden_sizes else 1.0
        initialise_linear(self.of_features, gain)
        initialise_linear(self.of_elapsed, gain)
        if task_spec is not None:
            self._task_keys = sorted(task_spec.keys(True, True), key=str)
            size = sum(task_spec[key].shape.numel() for key in self._task_keys)
            self.of_task = nn.Linear(size, first, bias=False)
            initialise_linear(self.of_task, gain)

    def step_term(self, features: Tensor, elapsed: Tensor) -> Tensor:
        """What features `[..., F]` and elapsed fraction `[..., 1]` give the first layer."""
        return self.of_features(features) + self.of_elapsed(elapsed)

    def task_term(self, tasks: TensorDictBase) -> Tensor:
        """What tasks `[N]` give the first layer, `[N, C]`."""
        parts = [tasks.get(key).reshape(len(tasks), -1).float() for key in self._task_keys]
        return self.of_task(torch.cat(parts, dim=-1))

    def forward(self, features: Tensor, elapsed: Tensor, task_term: Tensor | None = None) -> Tensor:
        """The value, `[..., 1]`.

        Args:
            features: `[..., F]`.
            elapsed: elapsed fraction of the trial, `[..., 1]`.
            task_term: of the trial's task, `[..., C]`, where the value depends on it.
        """
        step_term = self.step_term(features, elapsed)
        return self.layers(step_term if task_term is None else step_term + task_term)


def critic_head(
    num_features: int,
    hidden_sizes: Sequence[int],
    *,
    in_key: str,
    task_spec: Composite | None = None,
) -> TensorDictModule:
    """The critic's head, which also sees the elapsed fraction of the trial, and may see the task.

    It writes the value `[..., 1]`, in units of the running value scale.

    Args:
        num_features: width of the critic's features.
        hidden_sizes: widths of the layers before the value.
        in_key: where the features stand.
        task_spec: unbatched spec of a task's parameters, where the critic sees them.
    """
    task_keys = [] if task_spec is None else [keys.TASK_TERM]
    return TensorDictModule(
        TimedValue(num_features, hidden_sizes, task_spec),
        in_keys=[in_key, keys.ELAPSED, *task_keys],
        out_keys=[keys.STATE_VALUE],
    )


def _layers(
    num_features: int, hidden_sizes: Sequence[int], num_outputs: int, *, output_gain: float
) -> MLP:
    layers = MLP(num_features, num_outputs, num_cells=list(hidden_sizes), activation_class=nn.ReLU)
    initialise_linear(layers, gain=2**0.5)
    initialise_linear(layers[-1], gain=output_gain)
    return layers

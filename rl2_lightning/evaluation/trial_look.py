"""What an agent does in trials: which action when, what its memory holds, what it reacts to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from tensordict import TensorDictBase
from torch import Tensor
from torch.distributions import kl_divergence

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.agents.spaces import Discrete
from rl2_lightning.data.actor import AgentActor, require_finite
from rl2_lightning.data.windows import inputs_of
from rl2_lightning.data.world import World
from rl2_lightning.evaluation.adaptation_curve import Curve
from rl2_lightning.evaluation.look_plots import actions_figure, memory_figure, reactions_figure
from rl2_lightning.families.play import play
from rl2_lightning.families.record import require_whole_episodes
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.inputs import Observation

SMALLEST_SHARE = 0.1  # of the trials; the mean over fewer says nothing


@dataclass(frozen=True)
class Played:
    """Trials that an agent has played, B at once.

    Attributes:
        agent: the agent.
        steps: their steps, `[B, T]`.
        features: the memory's output for the policy, `[B, T, H]`.
        tasks: parameters of the tasks by name, flattened, `[B, ...]`.
        ranks: place of each action by what it pays, the best one first, `[B, K]`, int64; None where
            that is not the same in all steps, or actions are not discrete.
        greedy: whether it took the most likely actions instead of sampling.
    """

    agent: Agent
    steps: TensorDictBase
    features: Tensor
    tasks: Mapping[str, Tensor]
    ranks: Tensor | None
    greedy: bool

    @property
    def mask(self) -> Tensor:
        """Which steps count, `[B, T]`, bool."""
        return self.steps[keys.MASK].squeeze(-1)


@torch.no_grad()
def play_to_look(
    agent: Agent, world: World, tasks: TensorDictBase, seed: int, *, greedy: bool = False
) -> Played:
    """Let an agent play trials, and keep what it has in mind.

    Args:
        agent: the agent, on a CPU.
        world: creates the environment of the trials.
        tasks: the tasks, `[B]`.
        seed: seed of all draws.
        greedy: whether to take the most likely actions instead of sampling.

    Raises:
        NonFiniteLossError: a reward or a probability is not finite.
    """
    env = world.trials(len(tasks), torch.device("cpu"))
    env.set_seed(seed)
    env.begin(tasks)
    ranks = _ranks_of(agent, env)
    env.set_seed(seed)
    actor = AgentActor(
        agent, torch.Generator().manual_seed(seed), greedy=greedy, keeps_features=True
    )
    steps = play(actor, env, tasks)[keys.STEPS]
    require_whole_episodes(steps, env)
    require_finite(steps, agent, env)
    parameters = {
        str(name): one.reshape(len(tasks), -1).float() for name, one in tasks.flatten_keys().items()
    }
    return Played(agent, steps, steps[keys.FEATURES], parameters, ranks, greedy)


def plays_greedily(curves: Mapping[str, Curve]) -> bool:
    """Whether an agent earns clearly more by its most likely actions than by sampling.

    A Q-learner does, since only the order of its values means something.

    Args:
        curves: its curves, "greedy" and "sampled".
    """
    greedy, sampled = curves["greedy"], curves["sampled"]
    gain = greedy.trial_return - sampled.trial_return
    return gain > greedy.trial_half_width + sampled.trial_half_width


def _ranks_of(agent: Agent, env: TrialEnv) -> Tensor | None:
    """See `Played.ranks`; only an episode of one step has a payout that no state changes."""
    space = agent.spec.actions
    if not isinstance(space, Discrete) or env.task_env.max_episode_steps > 1:
        return None
    num = env.task_env.num_tasks
    paid = [env.task_env.expected_reward(torch.full((num,), arm)) for arm in range(space.n)]
    if any(one is None for one in paid):
        return None
    payouts = torch.cat([one for one in paid if one is not None], dim=1)
    return payouts.argsort(dim=1, descending=True, stable=True).argsort(dim=1)


def figures_of(played: Played) -> dict[str, Figure]:
    """The figures of played trials that suit the agent, by name."""
    told, figures = f"{len(played.mask):,} held-out tasks", {}
    told += " played greedily" if played.greedy else " played by sampling"
    if isinstance(played.agent.spec.actions, Discrete):
        title = f"which action when, in {told}"
        figures["actions"] = actions_figure(action_shares(played), played.ranks is not None, title)
    title = f"the memory's path through trials of {told}"
    figures["memory"] = memory_figure(*memory_paths(played), *task_numbers(played), title)
    title = f"what the policy reacts to, in {told}"
    figures["reactions"] = reactions_figure(reactions(played), title)
    return figures


def action_shares(played: Played) -> Tensor:
    """How often each action is taken at each step, `[K, T]`: shares of the trials that play it.

    Where actions have ranks, K are the ranks, the best one first. The shares of steps that less
    than a tenth of the trials play are NaN.
    """
    action, space = played.steps[keys.ACTION], played.agent.spec.actions
    assert isinstance(space, Discrete)
    if played.ranks is not None:
        action = played.ranks.gather(1, action)
    counts = torch.nn.functional.one_hot(action, space.n) * played.mask.unsqueeze(-1)
    playing = played.mask.sum(0)
    shares = (counts.sum(0) / playing.clamp(min=1).unsqueeze(-1)).T
    return shares.masked_fill(playing < len(action) * SMALLEST_SHARE, torch.nan)


def memory_paths(played: Played) -> tuple[Tensor, Tensor]:
    """The two principal components of the memory's features over all steps that count.

    Returns:
        The path of each trial, `[B, T, 2]`, NaN where it does not count, and the share of the
        variance that each component explains, `[2]`.
    """
    mask, features = played.mask, played.features.double()
    counted = features[mask]
    centre = counted.mean(0)
    _, spread, directions = torch.linalg.svd(counted - centre, full_matrices=False)
    num = min(2, len(directions))
    paths = torch.zeros(*mask.shape, 2, dtype=torch.float64)
    paths[..., :num] = (features - centre) @ directions[:num].T
    shares = torch.zeros(2, dtype=torch.float64)
    shares[:num] = spread[:num].square() / spread.square().sum().clamp(min=1e-12)
    return paths.masked_fill(~mask.unsqueeze(-1), torch.nan), shares


def task_numbers(played: Played) -> tuple[Tensor, str]:
    """A number for each task that tells tasks apart, `[B]`, and what it is.

    It is the best action, from 1 on, where actions have ranks; the only parameter that varies; the
    place of the one in the only parameter, from 1 on, if it is one-hot; or else the first principal
    component of all parameters.
    """
    if played.ranks is not None:
        return played.ranks.argmin(dim=1).double() + 1, "best action"
    columns = torch.cat(list(played.tasks.values()), dim=1).double()
    names = [name for name, one in played.tasks.items() for _ in range(one.shape[1])]
    if len(played.tasks) == 1 and _is_one_hot(columns):
        return columns.argmax(dim=1).double() + 1, names[0].replace("_", " ")
    varies = columns.std(dim=0) > 0
    if int(varies.sum()) == 1:
        return columns[:, varies].squeeze(1), names[int(varies.int().argmax())].replace("_", " ")
    centred = columns[:, varies] - columns[:, varies].mean(0)
    if not centred.numel():
        return torch.zeros(len(columns), dtype=torch.float64), "task"
    _, _, directions = torch.linalg.svd(centred / centred.std(dim=0), full_matrices=False)
    name = "first principal component of the task's parameters"
    return (centred / centred.std(dim=0)) @ directions[0], name


def _is_one_hot(columns: Tensor) -> bool:
    has_kinds = columns.shape[1] > 1 and bool(((columns == 0) | (columns == 1)).all())
    return has_kinds and bool((columns.sum(dim=1) == 1).all())


@torch.no_grad()
def reactions(played: Played) -> dict[str, np.ndarray]:
    """What the policy reacts to: how far it changes if an input comes from another trial.

    For each input that the agent sees, all its entries of a trial are replaced by those of the next
    trial, and the agent passes through the trial again.

    Returns:
        For each input the KL divergence of the policy after the change from the one before, in
        nats, the mean over trials at each step, `[T]`; NaN where less than a tenth of them play.
    """
    agent, inputs, mask = played.agent, inputs_of(played.steps), played.mask
    state = agent.initial_state(len(mask))
    before = agent.policy(agent.unroll(inputs, state, playing=mask.unsqueeze(-1))[0])
    other = torch.arange(len(mask)).roll(1)
    found = {}
    for name in agent.encoder.fields:
        replaced: dict[str, Any] = {name: _rows(getattr(inputs, name), other)}
        changed = inputs._replace(**replaced)
        after = agent.policy(agent.unroll(changed, state, playing=mask.unsqueeze(-1))[0])
        divergence = kl_divergence(before, after).double()
        counts = mask & mask[other]
        total = divergence.masked_fill(~counts, 0.0).sum(0)
        few = counts.sum(0) < len(mask) * SMALLEST_SHARE
        found[name] = (total / counts.sum(0)).masked_fill(few, torch.nan).numpy()
    return found


def _rows(entry: Observation, rows: Tensor) -> Observation:
    if isinstance(entry, Tensor):
        return entry[rows]
    return {name: one[rows] for name, one in entry.items()}

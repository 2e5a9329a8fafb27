"""MDPs to play."""

from tensordict import TensorDict
from torch import Tensor

from rl2_lightning.families.play import play_reference
from rl2_lightning.families.player import Player
from rl2_lightning.families.tabular_mdp import TabularMDP
from rl2_lightning.families.tabular_mdp.players import MEAN_REWARDS, TRANSITION_PROBABILITIES
from rl2_lightning.families.tabular_mdp.posterior import Model
from tests.families.draws import seeded


def mdps(mean_rewards: Tensor, transition_probabilities: Tensor) -> TensorDict:
    """Tasks with these mean rewards, `[B, S, A]`, and transitions, `[B, S, A, S]`."""
    tasks = {MEAN_REWARDS: mean_rewards, TRANSITION_PROBABILITIES: transition_probabilities}
    return TensorDict(tasks, [len(mean_rewards)], "cpu")


def random_mdps(num_tasks: int, seed: int, num_states: int = 10, num_actions: int = 5):
    """Tasks from the prior."""
    env = TabularMDP(1, num_states=num_states, num_actions=num_actions)
    env.set_seed(seed)
    return env.sample_tasks(num_tasks)


def model_of(tasks: TensorDict) -> Model:
    return Model(tasks[MEAN_REWARDS], tasks[TRANSITION_PROBABILITIES].movedim(-1, 0))


def returns_of(
    player: Player, tasks: TensorDict, num_episodes: int, seed: int = 0, horizon: int = 10
) -> Tensor:
    """Returns of the episodes, `[B, num_episodes]`."""
    _, num_states, num_actions = tasks[MEAN_REWARDS].shape
    sizes = {"num_states": num_states, "num_actions": num_actions, "horizon": horizon}
    env = TabularMDP(len(tasks), tasks.device, **sizes)
    return play_reference(player, env, tasks, num_episodes, seeded(seed, tasks.device.type))

"""Control cart-poles of unknown physics: `python -m examples.control ckpt_path=outputs/a_run`.

Each cart-pole has a mass, a pole and a gravity of its own, and a motor that may be connected the
wrong way round. The agent is told none of these: it sees where the cart and the pole are, and how
its actions turn out, and keeps its memory from one episode to the next.
"""

from __future__ import annotations

import sys
from typing import Any

import gymnasium
import numpy as np
from rich.table import Table

from rl2_lightning.agents.agent import Agent
from rl2_lightning.arguments import REQUIRED, read_arguments
from rl2_lightning.command_line import one_line_errors
from rl2_lightning.console import print_table
from rl2_lightning.errors import UserError
from rl2_lightning.families.gymnasium.bridge import Bridge
from rl2_lightning.run_folder import checkpoint_in

ARGUMENTS = {
    "ckpt_path": REQUIRED,  # of experiment=cart_pole: a checkpoint, or a run's folder
    "tasks": 100,  # cart-poles
    "episodes": 4,  # of each of them
    "seed": 1,  # of the physics and the first states
}
ENV_ID = "CartPole-v1"
# As in configs/env/cart_pole.yaml.
LONGEST_EPISODE = 200  # env steps
LARGEST_START = {"low": -0.1, "high": 0.1}  # of each number of an episode's first state
PHYSICS = {"masscart": (1.0, 4.0), "length": (0.05, 0.5), "gravity": (5.0, 20.0)}
SHOWN = [0, 2]  # position and angle, without their velocities


class UnknownCartPole(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Gymnasium's CartPole with physics of its own, seen by position and angle alone.

    In half of the cart-poles the two actions are swapped: which way they push has to be found out.

    Args:
        numbers: draw the physics.
    """

    def __init__(self, numbers: np.random.Generator) -> None:
        super().__init__(gymnasium.make(ENV_ID, max_episode_steps=LONGEST_EPISODE))
        physics: Any = self.unwrapped
        for name, (low, high) in PHYSICS.items():
            setattr(physics, name, numbers.uniform(low, high))
        physics.total_mass = physics.masscart + physics.masspole
        physics.polemass_length = physics.masspole * physics.length
        self.is_swapped = bool(numbers.random() < 0.5)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (len(SHOWN),))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; see `gymnasium.Env.reset`."""
        observation, info = super().reset(seed=seed, options=LARGEST_START | (options or {}))
        return observation[SHOWN], info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Push the cart; see `gymnasium.Env.step`."""
        pushed = 1 - action if self.is_swapped else action
        observation, reward, terminated, truncated, info = super().step(pushed)
        return observation[SHOWN], float(reward), terminated, truncated, info


def control(
    agent: Agent, env: gymnasium.Env[Any, Any], num_episodes: int, *, forgets: bool, seed: int
) -> list[float]:
    """Let an agent control an environment for some episodes.

    Args:
        agent: the agent.
        env: the environment.
        num_episodes: number of episodes.
        forgets: whether its memory is emptied after each of them.
        seed: seed of the environment.

    Returns:
        The return of each episode.

    Raises:
        UserError: the agent was trained on an environment with other observations or actions.
    """
    session, bridge = agent.session(1, greedy=True), Bridge(env)
    observation, _ = env.reset(seed=seed)
    returns = []
    for _ in range(num_episodes):
        total, done = 0.0, False
        while not done:
            (action,) = bridge.actions(session.act(bridge.observations([observation])))
            observation, reward, terminated, truncated, _ = env.step(action)
            done = terminated or truncated
            total += float(reward)
            session.observe([reward], [done])
        returns.append(total)
        observation, _ = env.reset()
        if forgets:
            session.drop(0)
            session.add(0)
    return returns


def control_at_random(env: gymnasium.Env[Any, Any], num_episodes: int, *, seed: int) -> list[float]:
    """The returns of random actions."""
    env.action_space.seed(seed)
    env.reset(seed=seed)
    returns = []
    for _ in range(num_episodes):
        total, done = 0.0, False
        while not done:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            done = terminated or truncated
            total += float(reward)
        returns.append(total)
        env.reset()
    return returns


def table_of(returns: dict[str, list[list[float]]]) -> Table:
    """The mean return of each episode, with its 95 % interval.

    Args:
        returns: of each task's episodes, by who has played.
    """
    table = Table("episode", *returns)
    columns = [np.array(one) for one in returns.values()]
    for episode in range(columns[0].shape[1]):
        shown = [column[:, episode] for column in columns]
        cells = [
            f"{one.mean():.1f} ± {1.96 * one.std(ddof=1) / np.sqrt(len(one)):.1f}" for one in shown
        ]
        table.add_row(str(episode + 1), *cells)
    return table


def main() -> None:
    """Run the command line."""
    with one_line_errors():
        given = read_arguments(sys.argv[1:], ARGUMENTS)
        checkpoint = checkpoint_in(given["ckpt_path"], "ckpt_path")
        lowest = {"tasks": 2, "episodes": 1, "seed": 0}
        for name, low in lowest.items():
            if not given[name].isdecimal() or int(given[name]) < low:
                raise UserError(f"{name}={given[name]}: give a whole number of at least {low}")
        num_tasks, num_episodes, seed = (int(given[name]) for name in lowest)
        agent = Agent.load(checkpoint)
        numbers = np.random.default_rng(seed)
        returns: dict[str, list[list[float]]] = {
            name: [] for name in ("agent", "memory emptied each episode", "random actions")
        }
        for task in range(num_tasks):
            env = UnknownCartPole(numbers)
            played = [
                *(
                    control(agent, env, num_episodes, forgets=one, seed=task)
                    for one in (False, True)
                ),
                control_at_random(env, num_episodes, seed=task),
            ]
            for known, new in zip(returns.values(), played, strict=True):
                known.append(new)
        print_table(table_of(returns))


if __name__ == "__main__":
    main()

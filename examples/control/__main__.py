"""Control cart-poles of unknown physics: `python -m examples.control ckpt_path=outputs/a_run`.

Each cart-pole has a mass, a pole, a gravity and a force of its own. The agent is told none of them:
it sees what Gymnasium's CartPole shows, and how its actions turn out, and keeps its memory from one
episode to the next.
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
    "ckpt_path": REQUIRED,  # of experiment=gymnasium_cart_pole: a checkpoint, or a run's folder
    "tasks": 100,  # cart-poles
    "episodes": 2,  # of each of them
    "seed": 1,  # of the physics and the first states
}
ENV_ID = "CartPole-v1"
LONGEST_EPISODE = 200  # env steps, as in training
# As in configs/experiment/gymnasium_cart_pole.yaml.
PHYSICS = {
    "masscart": (0.5, 4.0),
    "length": (0.3, 1.0),
    "gravity": (5.0, 20.0),
    "force_mag": (5.0, 15.0),
}


def drawn_cart_pole(numbers: np.random.Generator) -> gymnasium.Env[Any, Any]:
    """A cart-pole with physics of its own."""
    env = gymnasium.make(ENV_ID, max_episode_steps=LONGEST_EPISODE)
    physics: Any = env.unwrapped
    for name, (low, high) in PHYSICS.items():
        setattr(physics, name, numbers.uniform(low, high))
    physics.total_mass = physics.masscart + physics.masspole
    physics.polemass_length = physics.masspole * physics.length
    return env


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
            env = drawn_cart_pole(numbers)
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

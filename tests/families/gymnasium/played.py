"""Play trials through the bridge, and by hand."""

from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rl2_lightning.families.execution import Execution
from rl2_lightning.families.gymnasium import GymnasiumTasks
from rl2_lightning.families.trial_env import TrialEnv
from tests.families.gymnasium import envs

ENVS = "tests.families.gymnasium.envs"
NUM_TASKS, NUM_EPISODES, HORIZON = 5, 3, 6


def tasks_of(name: str, backend: str = "batched", num_workers: int = 2, **settings: Any):
    own = {"id": f"{ENVS}:{name}", "horizon": HORIZON} if name in vars(envs) else {"id": name}
    execution = Execution(backend, num_workers, worker_timeout=60)
    return GymnasiumTasks(NUM_TASKS, execution=execution, **{**own, **settings})


def by_hand(
    env: gymnasium.Env, actions: Tensor, horizon: int, decode: Any, **first_reset: Any
) -> dict[str, list[Any]]:
    """Step an environment for one trial, episode by episode."""
    found: dict[str, list[Any]] = {"reward": [], "shown": [], "last": [], "ended": []}
    shown, _ = env.reset(**first_reset)
    episodes = length = 0
    for action in actions:
        if episodes == NUM_EPISODES:
            break
        found["shown"].append(shown)
        shown, reward, terminated, truncated, _ = env.step(decode(action))
        length += 1
        ended = terminated or truncated or length == horizon
        found["reward"].append(reward)
        found["ended"].append(ended)
        if ended:
            found["last"].append(shown)
            episodes, length = episodes + 1, 0
            again = {} if "options" not in first_reset else {"options": first_reset["options"]}
            shown, _ = env.reset(**again)
    env.close()
    return found


def play(env: TrialEnv, actions: Tensor) -> dict[str, list[Any]]:
    """The same of all rows of the bridge, without what idle rows return."""
    found: dict[str, list[Any]] = {"reward": [], "shown": [], "last": [], "ended": [], "mask": []}
    step = env.begin()
    for action in actions:
        found["mask"].append(step.playing)
        found["shown"].append(step.inputs.observation)
        result = env.advance(action)
        found["reward"].append(result.reward)
        found["ended"].append(result.episode_done)
        found["last"].append(result.last_observation)
        step = result.following
    return found


def compare(found: dict[str, list[Any]], row: int, expected: dict[str, list[Any]], see: Any):
    """Compare a row of what the bridge played with what was played by hand."""
    playing = [t for t, mask in enumerate(found["mask"]) if mask[row]]
    assert playing == list(range(len(expected["reward"])))
    assert [found["reward"][t][row].item() for t in playing] == [
        float(np.float32(one)) for one in expected["reward"]
    ]
    assert [bool(found["ended"][t][row]) for t in playing] == expected["ended"]
    for t, one in zip(playing, expected["shown"], strict=True):
        see(found["shown"][t], row, one)
    ends = [t for t in playing if found["ended"][t][row]]
    for t, one in zip(ends, expected["last"], strict=True):
        see(found["last"][t], row, one)


def see_vector(shown: Tensor, row: int, expected: np.ndarray) -> None:
    assert shown[row].tolist() == expected.tolist()


def see_several(shown: dict[str, Tensor], row: int, expected: dict[str, Any]) -> None:
    assert set(shown) == {"number", "picture", "flags", "inner_double"}
    assert shown["number"][row].argmax() + 1 == expected["number"]
    assert shown["number"][row].sum() == 1
    assert torch.equal(shown["picture"][row], torch.tensor(expected["picture"]).permute(2, 0, 1))
    assert shown["flags"][row].tolist() == expected["flags"].tolist()
    assert shown["inner_double"][row].item() == np.float32(expected["inner"]["double"][0])


def play_fault(fault: str, backend: str, timeout: float = 60) -> None:
    env = GymnasiumTasks(
        3,
        execution=Execution(backend, 2, timeout),
        id=f"{ENVS}:Faulty",
        kwargs={"fault": fault},
        horizon=6,
        training_tasks=[1, 1, 2],
        held_out_tasks=[1],
        task_by="method",
    )
    try:
        env.reset()
        for _ in range(3):
            env.play(torch.ones(3, dtype=torch.int64), torch.ones(3, 1, dtype=torch.bool))
    finally:
        env.close()

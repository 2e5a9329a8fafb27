"""An agent needs nothing else: neither a trainer nor an environment."""

import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from torch.utils._pytree import tree_map

from rl2_lightning import keys
from rl2_lightning.build import build_data, build_learner, build_trainer
from rl2_lightning.data.seeding import Purpose, derive_seed
from rl2_lightning.data.windows import inputs_of
from tests.builders import MEMORIES, ROOT, compose_config

TINY = (
    "collection.num_trials=16",
    "trial.episodes_per_trial=3",
    "evaluation.validation_tasks=4",
    "evaluation.test_tasks=4",
    "learner.num_epochs=1",
    "learner.num_minibatches=2",
    "learner.learning_rate=0.05",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=3",
)
WORLDS = {
    "discrete": ("env=bernoulli_bandit",),
    "action queries": (
        "env=bernoulli_bandit",
        "agent.policy_head=action_queries",
        "agent.policy_hidden_sizes=[8]",
    ),
    "hypernetwork": ("env=tabular_mdp", "env.horizon=3", "agent.policy_head=hypernetwork"),
    "belief": ("env=grid_navi", "env.horizon=4", "agent=belief"),
    "samples of a belief": (
        "env=grid_navi",
        "env.horizon=4",
        "agent=belief",
        "agent.belief.form=samples",
    ),
    "continuous": ("env=point_robot", "env.horizon=4"),
    "images": ("env=visual_maze", "env.size=2", "env.horizon=3", "trial.episodes_per_trial=2"),
}

# Plays trials again like a user: with the recorded observations and the agent's own actions. Each
# line names a checkpoint and a trial; the answer is whether they were played the same.
PLAY_AGAIN = """
import sys
import traceback

BLOCKED = ("lightning", "pytorch_lightning", "hydra", "torchrl", "tensordict")

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED or name.startswith("rl2_lightning.families"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Block())

import torch
import rl2_lightning

def play_again(checkpoint, trial):
    played = torch.load(trial, weights_only=True)
    agent = rl2_lightning.Agent.load(checkpoint)
    generator = torch.Generator().manual_seed(played["seed"])
    state = agent.initial_state(played["num_trials"], generator)
    inputs = None
    for t, (shown, action, log_probability) in enumerate(played["steps"]):
        observation, _, reward, done, _ = shown
        if inputs is None:
            inputs = agent.first_inputs(observation)
        else:
            inputs = agent.next_inputs(inputs, step.action, observation, reward, done)
        for one, other in zip(inputs, shown, strict=True):
            assert one.dtype == other.dtype and torch.equal(one, other), ("inputs", t)
        step = agent.act(inputs, state, generator=generator)
        assert torch.equal(step.action, action), ("action", t)
        assert torch.equal(step.log_probability, log_probability), ("log-probability", t)
        state = step.state
    assert t > 1

for line in sys.stdin:
    try:
        play_again(*line.rstrip("\\n").split("\\t"))
        print("played the same", flush=True)
    except Exception:
        print(repr(traceback.format_exc()), flush=True)
"""


class Recorder(Callback):
    """Saves a checkpoint before the last iteration collects, and records its trials."""

    def __init__(self, folder: Path) -> None:
        self.checkpoint = folder / "before.ckpt"

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        if trainer.current_epoch != 2:
            return
        trainer.save_checkpoint(self.checkpoint)
        prepare = pl_module.prepare

        def spy(trials, state_steps):
            self.steps = trials[keys.STEPS].clone()
            return prepare(trials, state_steps)

        pl_module.prepare = spy


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """A process that plays trials again."""
    with subprocess.Popen(
        [sys.executable, "-c", PLAY_AGAIN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path_factory.mktemp("user"),
        env={"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    ) as process:
        yield process
        process.stdin.close()


# Each memory in one world, and each world with one memory; the slow part has the others.
KINDS = [
    pytest.param(
        memory,
        world,
        marks=[] if memory == "gru" or world == "discrete" else pytest.mark.slow,
    )
    for memory, world in product(MEMORIES, WORLDS)
]


@pytest.mark.parametrize(("memory", "world"), KINDS)
def test_agent_needs_nothing_else(
    tmp_path: Path, user: subprocess.Popen[str], memory: str, world: str
) -> None:
    cfg = compose_config(tmp_path, *WORLDS[world], *TINY, f"memory={memory}")
    data = build_data(cfg)
    learner = build_learner(cfg, data)
    trainer = build_trainer(cfg, data, learner)
    recorder = Recorder(tmp_path)
    trainer.callbacks = [recorder]
    trainer.fit(learner, data)

    steps = recorder.steps
    assert steps[keys.MASK].all()
    played = [
        tree_map(
            torch.clone,
            (tuple(inputs_of(step)), step[keys.ACTION], step[keys.ACTION_LOG_PROB]),
        )
        for step in steps.unbind(1)
    ]
    content = {
        "num_trials": len(steps),
        "seed": derive_seed(Purpose.ACTIONS, cfg.seed, 0, 2),
        "steps": played,
    }
    torch.save(content, tmp_path / "trial.pt")
    print(recorder.checkpoint, tmp_path / "trial.pt", sep="\t", file=user.stdin, flush=True)
    assert user.stdout.readline() == "played the same\n"

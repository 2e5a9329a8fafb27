"""Agents learn small bandits to a threshold, and the README's figure is reached."""

from pathlib import Path

import pytest

from rl2_lightning.build import build_data, build_learner, build_trainer
from rl2_lightning.callbacks.outcome import evaluation_of
from tests.builders import MEMORIES, compose_config

SMALL = (
    "env.num_arms=2",
    "trial.episodes_per_trial=8",
    "collection.num_trials=256",
    "collection.total_env_steps=102400",  # 50 iterations
    "learner.num_minibatches=4",
    "learner.learning_rate=1e-2",
    "learner.entropy_coefficient=0.01",
    "memory.hidden_size=32",
    "evaluation.validation_tasks=10",
    "evaluation.test_tasks=4000",
    "trainer.accelerator=cpu",
)
CHANCE = 8 * 0.5


def shares(folder: Path, *overrides: str) -> tuple[float, float]:
    """Train, and return the greedy agent's return and its share of the reference's."""
    cfg = compose_config(folder, *overrides)
    data = build_data(cfg)
    learner = build_learner(cfg, data)
    trainer = build_trainer(cfg, data, learner)
    trainer.fit(learner, data)
    trainer.test(learner, data, verbose=False)
    curve = evaluation_of(trainer).curves["greedy"]
    share = data.held_out["test"].share_of_reference(curve)
    assert share is not None
    return curve.trial_return, share


@pytest.mark.parametrize(
    "memory",
    [name if name == "gru" else pytest.param(name, marks=pytest.mark.slow) for name in MEMORIES],
)
def test_a_small_bandit_is_learnt_in_seconds(tmp_path: Path, memory: str) -> None:
    _, share = shares(tmp_path, *SMALL, f"memory={memory}")
    assert share > 0.97


def test_trpo_learns_a_small_bandit(tmp_path: Path) -> None:
    own = ("learner=trpo", "~learner.value_coefficient", "collection.total_env_steps=61440")
    _, share = shares(tmp_path, *SMALL, *own)  # 30 iterations
    assert share > 0.97


@pytest.mark.slow
@pytest.mark.parametrize(("learner", "least"), [("r2d2", 0.98), ("r2d2_ppo", 0.99), ("trpo", 0.99)])
def test_other_learners_reach_the_optimum(tmp_path: Path, learner: str, least: float) -> None:
    few = ("trainer.accelerator=cpu", "trainer.check_val_every_n_epoch=1000")
    _, share = shares(tmp_path, f"experiment=mab_n10_k5_{learner}", *few)
    assert share >= least


@pytest.mark.slow
@pytest.mark.parametrize("learner", ["a2c", "meta_gradient"])
def test_one_pass_over_trials_learns_a_small_bandit(tmp_path: Path, learner: str) -> None:
    own = (f"learner={learner}", "learner.num_minibatches=8", "collection.total_env_steps=204800")
    _, share = shares(tmp_path, *SMALL, *own)  # 100 iterations
    assert share > 0.92  # a random player has 0.84


def test_without_the_reward_as_input_the_agent_stays_at_chance(tmp_path: Path) -> None:
    inputs = "agent.inputs=[observation,previous_action,previous_done]"
    trial_return, _ = shares(tmp_path, *SMALL, inputs)
    assert trial_return == pytest.approx(CHANCE, abs=0.15)


def test_a_critic_that_sees_the_task_explains_more(tmp_path: Path) -> None:
    def explained(*overrides: str) -> float:
        cfg = compose_config(
            tmp_path,
            *SMALL,
            "collection.total_env_steps=10240",  # 5 iterations
            "learner.gae_lambda=1.0",  # targets are returns, independent of the values
            "learner.critic.hidden_sizes=[32]",
            "learner.critic.separate=false",
            "collection.expected_rewards=false",
            "trainer.check_val_every_n_epoch=10",
            *overrides,
        )
        data = build_data(cfg)
        learner = build_learner(cfg, data)
        trainer = build_trainer(cfg, data, learner)
        trainer.fit(learner, data)
        return trainer.callback_metrics["train/explained_variance"].item()

    # 0.42 to 0.50 without and 0.68 to 0.69 with it, for four seeds.
    sees, does_not = (f"learner.critic.sees_task={sees}" for sees in ("true", "false"))
    assert explained(sees) > explained(does_not) + 0.1


@pytest.mark.slow
def test_windows_learn_as_well(tmp_path: Path) -> None:
    _, share = shares(tmp_path, *SMALL, "collection.window=4", "collection.burn_in=2")
    assert share > 0.97


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_ten_pulls_of_five_arms_reach_the_optimum(tmp_path: Path, seed: int) -> None:
    trial_return, share = shares(tmp_path, f"seed={seed}")
    assert trial_return >= 6.60
    assert share >= 0.985

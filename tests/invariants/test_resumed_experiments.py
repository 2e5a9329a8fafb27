"""Every shipped experiment, at a small size, resumes bit for bit from its folder alone."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from rl2_lightning.build import build_data
from tests.builders import compose_config
from tests.command_line.program import run_program
from tests.command_line.test_configs import OWN
from tests.invariants.test_runs import assert_same_run, contents, train, validations

QUICK = ("gymnasium_cart_pole", "gymnasium_mountain_car")
LARGEST = {
    "collection.num_trials": 16,
    "trial.episodes_per_trial": 4,
    "env.horizon": 10,
    "memory.hidden_size": 8,
    "learner.num_epochs": 2,
    "learner.num_updates": 4,
    "learner.target_period": 6,
    "evaluation.validation_tasks": 8,
    "evaluation.test_tasks": 8,
}
FOUR_ITERATIONS = (
    "start_from=null",
    "trainer.accelerator=cpu",
    "trainer.check_val_every_n_epoch=2",
    "callbacks.checkpoint.every_n_epochs=1",
)


def tiny(experiment: str) -> tuple[str, ...]:
    """Overrides for four tiny iterations of an experiment, one of them for each of its stages."""
    chosen = f"experiment={experiment}"
    shipped = compose_config(Path("unused"), chosen)
    sizes = {
        field: min(size, largest)
        for field, largest in LARGEST.items()
        if (size := OmegaConf.select(shipped, field)) is not None
    }
    given = [chosen, *FOUR_ITERATIONS, *(f"{field}={size}" for field, size in sizes.items())]
    small = compose_config(Path("unused"), *given, "collection.uses_curriculum=false")
    num_trials, num_episodes = small.collection.num_trials, small.trial.episodes_per_trial
    steps_of_episodes = build_data(small).plan.stages[0].steps_per_iteration // num_episodes
    lengths = {
        name: stage.trial_length and number
        for number, (name, stage) in enumerate(shipped.collection.curriculum.items(), 1)
    }
    total = (4 - len(lengths)) * num_episodes * steps_of_episodes
    for name, length in lengths.items():
        steps = (length or num_episodes) * steps_of_episodes
        total += steps
        stage = f"collection.curriculum.{name}"
        given += [f"{stage}.num_trials={num_trials}", f"{stage}.env_steps={steps}"]
        given += [f"{stage}.trial_length={length or 'null'}"]
    return (*given, f"collection.total_env_steps={total}")


@pytest.mark.parametrize(
    "experiment",
    [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in OWN],
)
def test_an_experiment_resumes_bitwise_from_its_folder_alone(
    tmp_path: Path, experiment: str
) -> None:
    given = tiny(experiment)
    whole = train(compose_config(tmp_path / "whole", *given))
    half = train(compose_config(tmp_path / "half", *given, "trainer.max_epochs=2"))
    assert (contents(half)["epoch"], contents(whole)["epoch"]) == (2, 4)
    resumed = tmp_path / "resumed"
    more = (f"ckpt_path={half.parent}", "trainer.max_epochs=null", f"hydra.run.dir={resumed}")
    done = run_program(tmp_path, *more)
    assert done.returncode == 0, done.stderr
    assert_same_run(whole, resumed / "last.ckpt")
    assert validations(resumed) == validations(tmp_path / "whole")[-len(validations(resumed)) :]

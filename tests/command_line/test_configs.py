"""Every shipped YAML composes against its schema, and runs."""

import json
import re
from dataclasses import asdict, fields
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf, open_dict

from rl2_lightning.agents.settings import AgentSettings
from rl2_lightning.build import build_data, build_learner
from rl2_lightning.config import register_schemas
from rl2_lightning.config_checks import check
from rl2_lightning.stored import require_matching_checkpoint
from tests.builders import ROOT, compose_config
from tests.command_line.program import SMALL, call_program
from tests.extras.experiments import EXPERIMENTS, WITH_EXTRA

CONFIGS = ROOT / "configs"
TAKING_LONG = ("maze_5x5", "maze_9x9")  # like maze_3x3, with more cells
FAMILIES = sorted(path.stem for path in (CONFIGS / "env").glob("*.yaml"))
YAMLS = sorted(path.relative_to(CONFIGS) for path in CONFIGS.rglob("*.yaml"))
CHOICES = [f"{path.parent}={path.stem}" for path in YAMLS if path.parent.name]
DEFAULTS = yaml.safe_load((CONFIGS / "train.yaml").read_text())["defaults"]
DEFAULT_CHOICES = {
    f"{g}={c}" for entry in DEFAULTS if isinstance(entry, dict) for g, c in entry.items()
}


def small_for(*overrides: str) -> list[str]:
    """The overrides of a small run, without those for another learner."""
    learner = get_class(compose_config(Path("unused"), *overrides).learner["_target_"])
    names = {one.name for one in fields(learner.Settings)}
    few = ["learner.num_updates=2"] if "num_updates" in names else []
    of_learner = re.compile(r"learner\.(\w+)")
    found = {text: of_learner.match(text) for text in SMALL}
    return [*(text for text, name in found.items() if name is None or name[1] in names), *few]


def run_small(folder: Path, *overrides: str) -> None:
    """Train, validate and test with small sizes."""
    call_program(folder, *small_for(*overrides), *overrides, f"hydra.run.dir={folder}")
    assert (folder / "last.ckpt").exists()
    lines = (folder / "adaptation_curve.csv").read_text().splitlines()
    assert {line.partition(",")[0] for line in lines} == {"stage", "validation", "test"}
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["iterations"], summary["num_tasks"]) == (1, 6)


def choices_of(experiment: str) -> frozenset[str]:
    """The files of groups that an experiment chooses, itself or through what it extends."""
    content = yaml.safe_load((CONFIGS / "experiment" / f"{experiment}.yaml").read_text())
    defaults = content.get("defaults", [])
    extended = [choices_of(one) for one in defaults if isinstance(one, str) and one != "_self_"]
    own = [one for one in defaults if isinstance(one, dict)]
    chosen = {f"{group}={file}" for one in own for group, file in one.items()}
    return frozenset(chosen).union(*extended)


OWN = [name for name in EXPERIMENTS if name not in WITH_EXTRA]  # the others are in tests/extras/
# Of each family, memory and learner the quick part runs one experiment, the slow part all.
FIRST = {
    *{
        one: name for name in reversed(OWN) if name not in TAKING_LONG for one in choices_of(name)
    }.values(),
    "default",
}


@pytest.mark.parametrize("experiment", OWN)
def test_experiment_is_built(tmp_path: Path, experiment: str) -> None:
    whole = compose_config(tmp_path, f"experiment={experiment}")
    check(whole, num_cores=1, multirun=False)
    data = build_data(whole)
    assert data.plan.num_iterations > 1
    build_learner(whole, data)


@pytest.mark.parametrize(
    "experiment",
    [pytest.param(name, marks=[] if name in FIRST else pytest.mark.slow) for name in OWN],
)
def test_experiment_runs(tmp_path: Path, experiment: str) -> None:
    run_small(tmp_path, f"experiment={experiment}", "start_from=null")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_starts_from_weights_that_fit_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: str
) -> None:
    cfg = compose_config(tmp_path, f"experiment={experiment}")
    if cfg.start_from is None:
        return
    monkeypatch.chdir(ROOT)
    require_matching_checkpoint(cfg, "start_from")


@pytest.mark.parametrize("experiment", sorted({*EXPERIMENTS} - {"default"}))
def test_experiment_opens_with_its_command(experiment: str) -> None:
    lines = (CONFIGS / "experiment" / f"{experiment}.yaml").read_text().splitlines()
    assert lines[1].endswith(f": python train.py experiment={experiment}")


ELSEWHERE = ("experiment=", "sweep=", "debug=", "logger=wandb")  # run by other tests
OTHERS = [
    choice
    for choice in CHOICES
    if choice not in DEFAULT_CHOICES and not choice.startswith(ELSEWHERE)
]


@pytest.mark.parametrize(
    "overrides",
    [
        *OTHERS,
        "learner.critic.separate=true",
        "learner.critic.sees_task=true",
        "env=tabular_mdp learner.critic.sees_task=true learner.critic.hidden_sizes=[4]",
        "memory=lstm learner.critic.separate=true memory.num_layers=2",
        "agent.inputs=[previous_action,previous_reward] agent.encoder_hidden_sizes=[4]",
        "env=tabular_mdp agent.inputs=[observation,previous_observation,previous_reward]",
        "collection.window=3 collection.burn_in=1 trial.episodes_per_trial=4",
        "trial.episodes_per_trial=null trial.steps_per_trial=3",
        "trial.continues=true learner.gamma=0.9",
        "learner.target_kl=0.01 learner.value_clip=0.2",
    ],
)
def test_choice_runs(tmp_path: Path, overrides: str) -> None:
    run_small(tmp_path, *overrides.split())


def test_a_run_whose_critic_saw_the_task_is_tested_and_resumed(tmp_path: Path) -> None:
    sees = ("learner.critic.sees_task=true", "learner.critic.separate=true")
    (tmp_path / "trained").mkdir()
    run_small(tmp_path / "trained", *sees)
    checkpoint = f"ckpt_path={tmp_path / 'trained' / 'last.ckpt'}"
    summaries = []
    for given in ("mode=test", "trainer.max_epochs=2"):
        folder = tmp_path / given
        call_program(tmp_path, *SMALL, *sees, given, checkpoint, f"hydra.run.dir='{folder}'")
        summaries.append(json.loads((folder / "summary.json").read_text()))
    trained = json.loads((tmp_path / "trained" / "summary.json").read_text())
    assert summaries[0]["agent"] == trained["agent"]
    assert summaries[1]["iterations"] == 2


@pytest.mark.parametrize("choice", CHOICES)
def test_choice_composes(choice: str) -> None:
    if choice == "sweep=optuna":
        pytest.importorskip("optuna", reason="pip install rl2-lightning[optuna]")
    group, _, name = choice.partition("=")
    settings, cfg = compose_with_hydra(choice)
    assert settings.runtime.choices[group] == name
    assert not OmegaConf.missing_keys(cfg)


def test_sweep_over_seeds() -> None:
    settings, _ = compose_with_hydra("sweep=seeds")
    assert settings.sweeper.params.seed == "1,2,3"


def compose_with_hydra(*overrides: str) -> tuple[DictConfig, DictConfig]:
    """Hydra's own settings, and the config."""
    register_schemas()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", ["output_dir=.", *overrides], return_hydra_config=True)
    with open_dict(cfg):
        return cfg.pop("hydra"), cfg


CLASSES = [
    (path.parent.name, path.stem)
    for path in YAMLS
    if path.parent.name in ("env", "memory", "learner")
]


@pytest.mark.parametrize(("group", "name"), CLASSES)
def test_a_yaml_tells_all_fields_of_its_class_with_their_defaults(group: str, name: str) -> None:
    told = OmegaConf.to_container(OmegaConf.load(CONFIGS / group / f"{name}.yaml"))
    told = told["env"] if group == "env" else told
    schema = get_class(told.pop("_target_")).Settings
    told.pop("defaults", None)  # choices in other groups
    assert told == asdict(schema())


def test_the_yaml_of_agents_tells_all_fields_with_their_defaults() -> None:
    told = yaml.safe_load((CONFIGS / "agent" / "default.yaml").read_text())
    assert told == asdict(AgentSettings())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_alone_has_trials_and_a_budget_of_its_own(tmp_path: Path, family: str) -> None:
    content = yaml.safe_load((CONFIGS / "env" / f"{family}.yaml").read_text())
    groups = {"env", "trial", "collection"}
    if family == "gymnasium":
        groups.add("evaluation")
        assert content["evaluation"]["batch_size"] <= 64, "each task is an environment of its own"
    assert content.keys() == groups
    cfg = compose_config(tmp_path, f"env={family}", "tuned=none")
    check(cfg, num_cores=1, multirun=False)
    assert cfg.trial.episodes_per_trial == content["trial"]["episodes_per_trial"]
    assert cfg.collection.total_env_steps == content["collection"]["total_env_steps"]
    data = build_data(cfg)
    assert data.plan.num_iterations > 10
    build_learner(cfg, data)


def test_a_config_is_printed_without_references(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call_program(tmp_path, "--cfg", "job", "--resolve", "seed=3")
    printed = OmegaConf.create(capsys.readouterr().out)
    assert printed.output_dir == "(made when the run starts)"
    assert printed.callbacks.summary.seed == 3
    assert "${" not in OmegaConf.to_yaml(printed)
    assert not list(tmp_path.iterdir())

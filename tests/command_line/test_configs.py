"""Every YAML that is shipped composes against its schema, and runs."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigNode, ConfigStore
from omegaconf import DictConfig, OmegaConf, open_dict

from rl2_lightning.build import build_data, build_learner, require_matching_checkpoint
from rl2_lightning.config import check, register_schemas
from tests.builders import ROOT, compose_config
from tests.command_line.program import SMALL, call_program

CONFIGS = ROOT / "configs"
# Groups whose fields others define, and stages, which are named freely: composing checks theirs.
FREE = ("hydra", "callbacks", "logger", "collection.curriculum.")
EXPERIMENTS = sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))
YAMLS = sorted(path.relative_to(CONFIGS) for path in CONFIGS.rglob("*.yaml"))
CHOICES = [f"{path.parent}={path.stem}" for path in YAMLS if path.parent.name]
DEFAULTS = yaml.safe_load((CONFIGS / "train.yaml").read_text())["defaults"]
DEFAULT_CHOICES = {
    f"{g}={c}" for entry in DEFAULTS if isinstance(entry, dict) for g, c in entry.items()
}


def run_small(folder: Path, *overrides: str) -> None:
    """Trains, validates and tests in small."""
    call_program(folder, *SMALL, *overrides, f"hydra.run.dir={folder}")
    assert (folder / "last.ckpt").exists()
    lines = (folder / "adaptation_curve.csv").read_text().splitlines()
    assert {line.partition(",")[0] for line in lines} == {"stage", "validation", "test"}
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["iterations"], summary["num_tasks"]) == (1, 6)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_runs(tmp_path: Path, experiment: str) -> None:
    whole = compose_config(tmp_path, f"experiment={experiment}")
    check(whole, num_cores=1, multirun=False)
    data = build_data(whole)
    assert data.plan.num_iterations > 1
    build_learner(whole, data)
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


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_opens_with_its_command(experiment: str) -> None:
    lines = (CONFIGS / "experiment" / f"{experiment}.yaml").read_text().splitlines()
    assert lines[1].endswith(f": python train.py experiment={experiment}")


OTHERS = [
    choice
    for choice in CHOICES
    if choice not in DEFAULT_CHOICES and not choice.startswith(("experiment=", "sweep=", "debug="))
]


@pytest.mark.parametrize(
    "overrides",
    [
        *OTHERS,
        "network.separate=true",
        "network.critic_sees_task=true",
        "env=tabular_mdp network.critic_sees_task=true network.critic_hidden_sizes=[4]",
        "network=lstm network.separate=true network.memory.num_layers=2",
        "network.inputs=[previous_action,previous_reward] network.encoder_hidden_sizes=[4]",
        "env=tabular_mdp network.inputs=[observation,previous_observation,previous_reward]",
        "collection.window=3 collection.burn_in=1 trial.episodes_per_trial=4",
        "trial.episodes_per_trial=null trial.steps_per_trial=3",
        "trial.continues=true algorithm.gamma=0.9",
        "algorithm.target_kl=0.01 algorithm.value_clip=0.2",
    ],
)
def test_choice_runs(tmp_path: Path, overrides: str) -> None:
    run_small(tmp_path, *overrides.split())


def test_a_run_whose_critic_saw_the_task_is_tested_and_resumed(tmp_path: Path) -> None:
    sees = ("network.critic_sees_task=true", "network.separate=true")
    (tmp_path / "trained").mkdir()
    run_small(tmp_path / "trained", *sees)
    checkpoint = f"ckpt_path={tmp_path / 'trained' / 'last.ckpt'}"
    for mode in ("test", "train"):
        folder = tmp_path / mode
        call_program(
            folder.parent, *SMALL, *sees, f"mode={mode}", checkpoint, f"hydra.run.dir={folder}"
        )
        summaries = [
            json.loads((place / "summary.json").read_text())["agent"]
            for place in (tmp_path / "trained", folder)
        ]
        assert summaries[0] == summaries[1]


@pytest.mark.parametrize("choice", CHOICES)
def test_choice_composes(choice: str) -> None:
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


def leaves(config: DictConfig | dict, prefix: str) -> Iterator[str]:
    """The dotted names of all fields that are no groups."""
    for key in config:
        node = config._get_node(key) if isinstance(config, DictConfig) else config[key]
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(node, DictConfig | dict) and len(node) > 0:
            yield from leaves(node, name)
        else:
            yield name


def yaml_fields() -> set[str]:
    """The fields that some YAML sets."""
    found = set()
    for path in YAMLS:
        text = (CONFIGS / path).read_text()
        prefix = "" if "@package _global_" in text else ".".join(path.parent.parts)
        content = yaml.safe_load(text) or {}
        content.pop("defaults", None)
        found |= set(leaves(content, prefix))
    return {name for name in found if not name.startswith(FREE)}


def schema_fields() -> dict[str, bool]:
    """The fields of the schemas, and whether a YAML must set them."""
    register_schemas()
    found: dict[str, bool] = {}

    def walk(repository: dict[str, object], group: str) -> None:
        for name, entry in repository.items():
            if isinstance(entry, dict):
                walk(entry, f"{group}.{name}" if group else name)
            elif isinstance(entry, ConfigNode) and is_ours(entry.node):
                missing = OmegaConf.missing_keys(entry.node)
                for field in leaves(entry.node, ""):
                    found[f"{group}.{field}" if group else field] = field in missing

    def is_ours(node: object) -> bool:
        module = getattr(OmegaConf.get_type(node), "__module__", "")
        return module in ("rl2_lightning.config", "rl2_lightning.schemas")

    walk(ConfigStore.instance().repo, "")
    # What another schema fills is no field, but the place of a group.
    groups = {name for name in found if any(other.startswith(f"{name}.") for other in found)}
    return {
        name: needed
        for name, needed in found.items()
        if name not in groups and not name.startswith(FREE)
    }


def test_every_field_of_a_yaml_is_in_a_schema() -> None:
    assert not yaml_fields() - schema_fields().keys()


def test_every_field_of_a_schema_is_in_a_yaml() -> None:
    needed = {name for name, without_default in schema_fields().items() if without_default}
    assert len(needed) > 40
    assert not needed - yaml_fields()

"""Compare the settings that a checkpoint was trained with to those of the run that loads it.

The stored values are merged into the settings of the run's own classes, or rejected by name; no
class that a file names is ever looked up.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from rl2_lightning.agents.settings import AgentSettings
from rl2_lightning.checkpoint import Checkpoint
from rl2_lightning.config import CollectionConfig, TrialConfig
from rl2_lightning.errors import UserError
from rl2_lightning.parts import PARTS, TARGET, find_class, read_settings
from rl2_lightning.settings import Settings, stored_settings
from rl2_lightning.stored_choices import choice_of

SCHEMAS: Mapping[str, type[Settings]] = {
    "agent": AgentSettings,
    "trial": TrialConfig,
    "collection": CollectionConfig,
}


def stored_groups(cfg: DictConfig, checkpoint: Checkpoint, field: str) -> dict[str, dict[str, Any]]:
    """The settings of a training by group, with types checked.

    The learner's settings are left out if it is not the run's learner, unless the training is
    resumed: a test or a new training does not need them.

    Args:
        cfg: the composed config of the run.
        checkpoint: checkpoint of the training.
        field: the config field that names the checkpoint.

    Raises:
        UserError: a class differs from the run's, or a value does not fit.
    """
    stored, said = checkpoint.config, f"{field}={cfg[field]}"
    groups: dict[str, dict[str, Any]] = {}
    for group, base in PARTS.items():
        if group == "learner" and not (is_resumed(cfg, field) or is_of_learner(cfg, checkpoint)):
            continue
        values = _mapping(stored, group, said)
        theirs, ours = values.pop(TARGET, None), cfg[group][TARGET]
        if theirs != ours:
            choice = choice_of(group, theirs)
            remedy = f"{group}.{TARGET}={theirs}" if choice is None else f"{group}={choice}"
            raise UserError(
                f"{said} was trained with {group}.{TARGET}={theirs}, this run has {ours}: set "
                f"{remedy} or give another checkpoint"
            )
        schema = find_class(cfg, group, base).Settings
        groups[group] = {TARGET: ours, **asdict(stored_settings(schema, values, group, said))}
    for group, schema in SCHEMAS.items():
        values = _mapping(stored, group, said)
        groups[group] = asdict(stored_settings(schema, values, group, said))
    return groups


def run_groups(cfg: DictConfig) -> dict[str, dict[str, Any]]:
    """The settings of a run, in the same form as those of `stored_groups`."""
    groups: dict[str, dict[str, Any]] = {
        group: {
            TARGET: cfg[group][TARGET],
            **asdict(read_settings(cfg, group, find_class(cfg, group, base).Settings)),
        }
        for group, base in PARTS.items()
    }
    for group in SCHEMAS:
        groups[group] = cast(dict[str, Any], OmegaConf.to_container(cfg[group], resolve=True))
    return groups


def require_matching_checkpoint(cfg: DictConfig, field: str = "ckpt_path") -> Checkpoint:
    """Read a checkpoint, and check that this run can use it.

    Args:
        cfg: the composed config.
        field: the config field that names the checkpoint.

    Raises:
        UserError: it cannot be read, or is for another family of tasks or another agent; or a
            training is to be resumed from weights alone, or with another critic, trial or seed.
    """
    checkpoint = Checkpoint.read(cfg[field], field)
    theirs, ours = stored_groups(cfg, checkpoint, field), run_groups(cfg)
    resumed = is_resumed(cfg, field)
    for group in ("env", "memory", "agent", *(("learner", "trial") if resumed else ())):
        if group == "env" and takes_other_sizes(cfg, field):
            continue
        for key, (their, our) in differences(theirs[group], ours[group]).items():
            if not _has_to_match(group, key, ours[group]):
                continue
            raise UserError(
                f"{field}={cfg[field]} was trained with {group}.{key}={their}, "
                f"this run has {our}: set {group}.{key}={their} or give another checkpoint"
            )
    if resumed:
        _require_same_count(cfg, field, theirs["collection"], ours["collection"])
        checkpoint.require_optimizer()
        seed = checkpoint.config.get("seed")
        if type(seed) is not int or seed != cfg.seed:
            raise UserError(
                f"{field}={cfg[field]} was trained with seed={seed}, this run has {cfg.seed}: set "
                f"seed={seed} or start a new training with start_from"
            )
    if field == "ckpt_path":
        checkpoint.require_clock()
    return checkpoint


def _has_to_match(group: str, key: str, ours: Mapping[str, Any]) -> bool:
    """Whether weights of another value of a field cannot be used."""
    if group == "learner":
        return "." in key  # its parts, such as the critic, but not how it learns
    # Fields of a policy head or a belief that the agent does not have change nothing.
    if key == "belief.size":
        return bool(ours["belief"]["form"] != "none")
    return not key.startswith("action_queries.") or ours["policy_head"] == "action_queries"


def _require_same_count(
    cfg: DictConfig, field: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]
) -> None:
    """Require the same iteration sizes: schedules follow from the number of iterations done."""
    for key, (their, our) in differences(theirs, ours).items():
        if key.partition(".")[0] in ("num_trials", "curriculum", "uses_curriculum"):
            raise UserError(
                f"{field}={cfg[field]} was trained with collection.{key}={their}, this run has "
                f"{our}: a training cannot change it half way; set collection.{key}={their}, or "
                "start a new training with start_from"
            )


def is_resumed(cfg: DictConfig, field: str) -> bool:
    """Whether a run resumes the training of a checkpoint."""
    return field == "ckpt_path" and bool(cfg.mode == "train")


def is_of_learner(cfg: DictConfig, checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint names the learner of this run."""
    learner = checkpoint.config.get("learner")
    target = learner.get(TARGET) if isinstance(learner, Mapping) else None
    return bool(target == cfg.learner[TARGET])


def has_same_parts(cfg: DictConfig, checkpoint: Checkpoint, field: str) -> bool:
    """Whether all weights of a checkpoint have to fit: it is of this learner, critic and family."""
    if not is_of_learner(cfg, checkpoint):
        return False
    theirs, ours = stored_groups(cfg, checkpoint, field), run_groups(cfg)
    nested = [key for key in differences(theirs["learner"], ours["learner"]) if "." in key]
    return not nested and not differences(theirs["env"], ours["env"])


def takes_other_sizes(cfg: DictConfig, field: str) -> bool:
    """Whether a checkpoint may come from other tasks of the family than this run's."""
    return field == "start_from" or bool(cfg.mode == "test" and cfg.evaluation.other_sizes)


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The fields in which two settings differ, by dotted name; "null" for a missing one."""
    left, right = (
        {name: "null" if value is None else value for name, value in flat(one).items()}
        for one in (theirs, ours)
    )
    names = sorted(left.keys() | right.keys())
    pairs = {name: (left.get(name, "null"), right.get(name, "null")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """The values within nested mappings, by dotted name."""
    if not isinstance(node, Mapping):
        return {prefix: node}
    parts = [flat(node[name], f"{prefix}.{name}" if prefix else name) for name in node]
    return {name: value for part in parts for name, value in part.items()}


def _mapping(stored: Mapping[str, Any], group: str, said: str) -> dict[str, Any]:
    values = stored.get(group)
    if not isinstance(values, Mapping):
        raise UserError(f"{said} has no settings of {group}: it is not from this program")
    return dict(values)

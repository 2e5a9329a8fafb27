"""The experiments that play Gymnasium's environments, and the extras that they need."""

from typing import Any

import yaml

from tests.builders import ROOT
from tests.extras.packages import PACKAGES

FOLDER = ROOT / "configs" / "experiment"
EXPERIMENTS = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def env_id(experiment: str) -> str | None:
    """The environment that an experiment, or the one that it extends, names; None without one."""
    content: dict[str, Any] = yaml.safe_load((FOLDER / f"{experiment}.yaml").read_text())
    if "id" in content.get("env", {}):
        return content["env"]["id"]
    extended = [one for one in content.get("defaults", []) if isinstance(one, str)]
    return env_id(extended[0]) if extended else None


def extra_of(experiment: str) -> str | None:
    """The extra that an experiment's environment needs, if any."""
    module = (env_id(experiment) or "").partition(":")[0].split(".")
    extra = module[2] if module[:2] == ["rl2_lightning", "families"] else None
    return extra if extra in PACKAGES else None


# Of Gymnasium's environments, and of those the ones that need an extra.
GYMNASIUM = [name for name in EXPERIMENTS if env_id(name) is not None]
WITH_EXTRA = {name: extra for name in GYMNASIUM if (extra := extra_of(name)) is not None}

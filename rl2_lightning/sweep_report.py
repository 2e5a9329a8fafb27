"""Report the jobs of a sweep and their results."""

import json
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich import box, get_console
from rich.table import Table

from rl2_lightning.run_folder import OVERRIDES, SUMMARY


class SweepReport(Callback):
    """Print each job of a sweep as it starts, and a table of all of them at the end."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the folder of the sweep."""
        self._print(f"sweep in {config.hydra.sweep.dir}")

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the job that starts."""
        job = HydraConfig.get().job
        if config.hydra.mode.name == "MULTIRUN":
            self._print(f"job {job.num}: {' '.join(HydraConfig.get().overrides.task)}")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the results of each job, read from its folder."""
        folders = [one.parent for one in Path(config.hydra.sweep.dir).glob(f"*/{OVERRIDES}")]
        table = Table(box=box.SIMPLE_HEAD, title=config.hydra.sweep.dir, title_justify="left")
        for name in ("job", "overrides", "greedy", "sampled", "env steps"):
            table.add_column(name, justify="left" if name in ("job", "overrides") else "right")
        for folder in sorted(folders, key=lambda one: one.stat().st_mtime):
            overrides = " ".join((folder / OVERRIDES).read_text(encoding="utf-8").splitlines())
            table.add_row(folder.name, overrides, *_reached(folder))
        get_console().print(table)

    def _print(self, line: str) -> None:
        get_console().print(line, soft_wrap=True, highlight=False)


def _reached(folder: Path) -> list[str]:
    """The agent's mean returns and its env steps; "not finished" for a job without a summary."""
    summary = folder / SUMMARY
    if not summary.exists():
        return ["not finished", "", ""]
    found = json.loads(summary.read_text(encoding="utf-8"))
    agents = [found["agent"][mode] for mode in ("greedy", "sampled")]
    return [*(f"{one['trial_return']:.4g}" for one in agents), f"{found['env_steps']:,}"]

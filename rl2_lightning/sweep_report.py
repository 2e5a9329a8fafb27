"""Report the jobs of a sweep and their results."""

import json
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich import box, get_console
from rich.table import Table

from rl2_lightning.console import print_table
from rl2_lightning.run_folder import OVERRIDES, SUMMARY

# The failed jobs of the sweep by the names of their folders: their overrides and errors.
_failed: dict[str, tuple[str, str]] = {}


def goes_on_after(line: str) -> bool:
    """Report a failed job, unless another had the same error; whether those after it can run.

    Only Hydra's own sweeper and launcher need this: they run the jobs in this process, and would
    end without a table. Others count failed jobs by the errors that these raise.

    Args:
        line: the error.
    """
    config = HydraConfig.get()
    if any("core_plugins" not in one._target_ for one in (config.sweeper, config.launcher)):
        return False
    if line not in {told for _, told in _failed.values()}:
        sys.stderr.write(f"{line}\n")
    overrides = " ".join(config.overrides.task)
    _failed[Path(config.runtime.output_dir).name] = (overrides, line)
    return True


class SweepReport(Callback):
    """Print each job of a sweep as it starts, and a table of all of them at the end."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the folder of the sweep."""
        _failed.clear()
        self._print(f"sweep in {config.hydra.sweep.dir}")

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the job that starts."""
        job = HydraConfig.get().job
        if config.hydra.mode.name == "MULTIRUN":
            self._print(f"job {job.num}: {' '.join(HydraConfig.get().overrides.task)}")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the results of each job, read from its folder.

        Raises:
            SystemExit: with exit code 1, if a job has failed.
        """
        everything = Path(config.hydra.sweep.dir).iterdir()
        folders = [one for one in everything if one.name in _failed or (one / OVERRIDES).exists()]
        table = Table(box=box.SIMPLE_HEAD, title=config.hydra.sweep.dir, title_justify="left")
        table.add_column("job")
        table.add_column("overrides", overflow="fold")
        for name in ("greedy", "sampled", "env steps"):
            table.add_column(name, justify="right")
        for folder in sorted(folders, key=lambda one: one.stat().st_mtime):
            table.add_row(folder.name, _overrides(folder), *_reached(folder))
        print_table(table)
        if _failed:
            sys.exit(1)

    def _print(self, line: str) -> None:
        get_console().print(line, soft_wrap=True, highlight=False)


def _overrides(folder: Path) -> str:
    if folder.name in _failed:
        return _failed[folder.name][0]
    return " ".join((folder / OVERRIDES).read_text(encoding="utf-8").splitlines())


def _reached(folder: Path) -> list[str]:
    """The agent's mean returns and its env steps, or what has become of a job without a summary."""
    summary = folder / SUMMARY
    if folder.name in _failed or not summary.exists():
        return ["failed" if folder.name in _failed else "not finished", "", ""]
    found = json.loads(summary.read_text(encoding="utf-8"))
    agents = [found["agent"][mode] for mode in ("greedy", "sampled")]
    return [*(f"{one['trial_return']:.4g}" for one in agents), f"{found['env_steps']:,}"]

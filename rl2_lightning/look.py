"""Pictures that explain an agent: `python -m rl2_lightning.look ckpt_path=outputs/a_run`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from rich import get_console

from rl2_lightning.arguments import REQUIRED, read_arguments, without_config_dir
from rl2_lightning.command_line import one_line_errors
from rl2_lightning.errors import UserError
from rl2_lightning.run_folder import checkpoint_in

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARGUMENTS = {
    "ckpt_path": REQUIRED,  # a checkpoint, or the folder of a run
    "path": "",  # a new folder for the pictures; empty for `look` beside the checkpoint
    "num_tasks": 500,  # held-out tasks that are played
}


def look(checkpoint: str, folder: Path, num_tasks: int) -> list[Path]:
    """Play the family's test tasks with an agent, and write the pictures that suit the family.

    Args:
        checkpoint: path of the checkpoint.
        folder: folder of the pictures, which must not have any yet.
        num_tasks: number of tasks.

    Returns:
        Paths of the pictures.

    Raises:
        UserError: the checkpoint cannot be read, or the folder has files.
    """
    from matplotlib.image import imsave

    from rl2_lightning.agents.agent import Agent
    from rl2_lightning.build import build_held_out, build_world
    from rl2_lightning.evaluation.images import render
    from rl2_lightning.evaluation.pictures import pictures_of
    from rl2_lightning.resumed_config import config_of

    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"path={folder} has files, which are not overwritten: give a new folder")
    cfg = config_of(checkpoint, [f"evaluation.test_tasks={num_tasks}"])
    agent = Agent.load(checkpoint)
    written = []
    with closing(build_world(cfg)) as world:
        held_out = build_held_out(cfg, world)["test"]
        folder.mkdir(parents=True, exist_ok=True)
        for pictures in (pictures_of(agent, world, held_out), _over_training(checkpoint)):
            for name, content in pictures:
                is_film = isinstance(content, bytes)
                written.append(folder / f"{name}.{'gif' if is_film else 'png'}")
                if isinstance(content, bytes):
                    written[-1].write_bytes(content)
                else:
                    imsave(written[-1], render(content))
    return written


def _over_training(checkpoint: str) -> Iterator[tuple[str, Figure]]:
    """How adaptation emerged, if the checkpoint is in the folder of its run."""
    from rl2_lightning.callbacks.adaptation_curve import TABLE
    from rl2_lightning.callbacks.adaptation_over_training import read_validations, title_of
    from rl2_lightning.evaluation.over_training import over_training_figure

    validations = read_validations(Path(checkpoint).parent / TABLE)
    if len(validations) > 1:
        yield "adaptation_over_training", over_training_figure(validations, title_of(validations))


def main() -> None:
    """Run the command line."""
    with one_line_errors():
        given = read_arguments(without_config_dir(sys.argv[1:]), ARGUMENTS)
        checkpoint = checkpoint_in(given["ckpt_path"], "ckpt_path")
        num_tasks = given["num_tasks"]
        if not num_tasks.isdigit() or int(num_tasks) < 2:
            raise UserError(f"num_tasks={num_tasks}: give a number of at least 2")
        folder = Path(given["path"] or Path(checkpoint).parent / "look")

        from rl2_lightning.session import quieten

        quieten()
        for path in look(checkpoint, folder, int(num_tasks)):
            get_console().print(str(path), soft_wrap=True)


if __name__ == "__main__":
    main()

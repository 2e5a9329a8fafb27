"""Pictures that explain an agent: `python -m rl2_lightning.look ckpt_path=outputs/a_run`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from rich import get_console

from rl2_lightning.arguments import REQUIRED, read_arguments
from rl2_lightning.command_line import one_line_errors
from rl2_lightning.errors import UserError
from rl2_lightning.run_folder import checkpoint_in

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rl2_lightning.agents.agent import Agent
    from rl2_lightning.data.world import World
    from rl2_lightning.evaluation.held_out import HeldOut

ARGUMENTS = {
    "ckpt_path": REQUIRED,  # a checkpoint, or the folder of a run
    "path": "",  # a new folder for the pictures; empty for `look` beside the checkpoint
    "num_tasks": 500,  # held-out tasks that are played
}
NUM_MAPS = 3  # trials whose paths are drawn
IMAGE_DIMS = 3  # channels, height and width
SEED = 1


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
    from rl2_lightning.resumed_config import config_of

    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"path={folder} has files, which are not overwritten: give a new folder")
    cfg = config_of(checkpoint, [f"evaluation.test_tasks={num_tasks}"])
    agent = Agent.load(checkpoint)
    written = []
    with closing(build_world(cfg)) as world:
        held_out = build_held_out(cfg, world)["test"]
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in _pictures(agent, world, held_out):
            written.append(folder / name)
            if isinstance(content, bytes):
                written[-1].write_bytes(content)
            else:
                imsave(written[-1], render(content))
    return written


def _pictures(
    agent: Agent, world: World, held_out: HeldOut
) -> Iterator[tuple[str, Figure | bytes]]:
    """The pictures by the names of their files."""
    from rl2_lightning.evaluation.evaluate import evaluate
    from rl2_lightning.evaluation.look_plots import regret_figure
    from rl2_lightning.evaluation.plots import adaptation_curve_figure
    from rl2_lightning.evaluation.trial_look import figures_of, play_to_look

    told = f"{len(held_out):,} held-out tasks"
    curves = {f"agent {name}": one for name, one in evaluate(agent, held_out).curves.items()}
    references, reference = held_out.reference_curves(), held_out.reference
    title = f"return by episode on {told}"
    yield (
        "adaptation_curve.png",
        adaptation_curve_figure(curves, title, references, reference),
    )
    if reference is not None:
        yield "regret.png", regret_figure(curves, references, reference, f"regret on {told}")
    played = play_to_look(agent, world, held_out.tasks, SEED)
    for name, figure in figures_of(played).items():
        yield f"{name}.png", figure
    yield from _maps(agent, held_out)


def _maps(agent: Agent, held_out: HeldOut) -> Iterator[tuple[str, Figure | bytes]]:
    """Paths and a film, for families that are played in the plane."""
    from rl2_lightning import keys
    from rl2_lightning.evaluation.film import as_gif, film
    from rl2_lightning.evaluation.paths import legs_of, paths_figure

    num = min(NUM_MAPS, len(held_out))
    scenes = [held_out.task_env.scene(task) for task in held_out.tasks[:num]]
    drawn = [(number, scene) for number, scene in enumerate(scenes) if scene is not None]
    if not drawn:
        return
    trials = held_out.play(agent, list(range(num)), greedy=True, shows_position=True)
    title = f"greedy play of {len(drawn)} held-out tasks, from light to dark, and returns"
    legs = [(scene, legs_of(trials[number], scene)) for number, scene in drawn]
    yield "paths.png", paths_figure(legs, title)
    shown = held_out.task_env.observation_spec_unbatched[keys.OBSERVATION]
    if len(shown.shape) == IMAGE_DIMS:
        number, scene = drawn[0]
        yield "film.gif", as_gif(film(trials[number], scene))


def main() -> None:
    """Run the command line."""
    with one_line_errors():
        given = read_arguments(sys.argv[1:], ARGUMENTS)
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

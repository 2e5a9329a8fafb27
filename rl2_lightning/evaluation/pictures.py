"""The pictures that explain an agent, as its family allows."""

from collections.abc import Iterator

from matplotlib.figure import Figure

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.data.world import World
from rl2_lightning.evaluation.evaluate import evaluate
from rl2_lightning.evaluation.film import as_gif, film
from rl2_lightning.evaluation.held_out import HeldOut
from rl2_lightning.evaluation.look_plots import RANDOM, regret_figure
from rl2_lightning.evaluation.paths import PATHS_TITLE, legs_of, paths_figure
from rl2_lightning.evaluation.plots import adaptation_curve_figure
from rl2_lightning.evaluation.trial_look import figures_of, play_to_look, plays_greedily

NUM_MAPS = 3  # trials whose paths are drawn
IMAGE_DIMS = 3  # channels, height and width
SEED = 1


def pictures_of(
    agent: Agent, world: World, held_out: HeldOut
) -> Iterator[tuple[str, Figure | bytes]]:
    """Let an agent play held-out tasks, and draw what it does.

    Args:
        agent: the agent, on a CPU.
        world: creates the environments of the trials.
        held_out: the tasks.

    Returns:
        Figures by name, and a film as the bytes of a GIF file.
    """
    told = f"{len(held_out):,} held-out tasks"
    found = evaluate(agent, held_out).curves
    curves = {f"agent {name}": one for name, one in found.items()}
    references, reference = held_out.reference_curves(), held_out.reference
    title = f"return by episode on {told}"
    yield "adaptation_curve", adaptation_curve_figure(curves, title, references, reference)
    if reference is not None and reference != RANDOM:
        yield "regret", regret_figure(curves, references, reference, f"regret on {told}")
    greedy = plays_greedily(found)
    played = play_to_look(agent, world, held_out.tasks, SEED, greedy=greedy)
    yield from figures_of(played).items()
    yield from _maps(agent, held_out)


def _maps(agent: Agent, held_out: HeldOut) -> Iterator[tuple[str, Figure | bytes]]:
    """Paths and a film, for families that are played in the plane."""
    num = min(NUM_MAPS, len(held_out))
    scenes = [held_out.task_env.scene(task) for task in held_out.tasks[:num]]
    drawn = [(number, scene) for number, scene in enumerate(scenes) if scene is not None]
    if not drawn:
        return
    trials = held_out.play(agent, list(range(num)), greedy=True, shows_position=True)
    title = f"greedy play of {len(drawn)} held-out tasks: {PATHS_TITLE}"
    legs = [(scene, legs_of(trials[number], scene)) for number, scene in drawn]
    yield "paths", paths_figure(legs, title)
    shown = held_out.task_env.observation_spec_unbatched[keys.OBSERVATION]
    if len(shown.shape) == IMAGE_DIMS:
        number, scene = drawn[0]
        yield "film", as_gif(film(trials[number], scene))

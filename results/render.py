"""Render the tables and the adaptation curves: `python -m results.render`."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from results.cells import FOLDER, Cell, all_cells, read_rows
from results.comparison_tables import learners_figure, learners_text, memories_text
from results.curves import read_curves
from results.tables import (
    AGENTS,
    WRONG_PRIOR,
    Rows,
    cell_text,
    measures_table,
    paper_table,
    players_table,
    worlds_table,
)
from rl2_lightning.callbacks.files import write_atomically
from rl2_lightning.evaluation.plots import draw_adaptation_curves

TITLES = {
    "mab": "Bernoulli bandits",
    "mdp": "Tabular MDPs",
    "worlds": "Other families",
    "gymnasium": "Gymnasium environments",
}
WITH_EPISODES = ("worlds", "gymnasium")  # tables that show the returns of the first episodes
COLUMNS_OF_PANELS = 3


def curves_figure(cells: Sequence[Cell], rows: Rows, folder: Path) -> Figure | None:
    """A figure with a panel for each evaluated cell, with its first row."""
    shown = [(cell, rows[cell.name][0]) for cell in cells if rows[cell.name]]
    if not shown:
        return None
    columns = min(COLUMNS_OF_PANELS, len(shown))
    height = -(-len(shown) // columns)
    figure = Figure(figsize=(6.5 * columns, 5.6 * height), dpi=90, layout="constrained")
    panels = figure.subplots(height, columns, squeeze=False).flatten()
    for axes, (cell, row) in zip(panels, shown, strict=False):
        _, agents = read_curves(folder / f"{row['name']}.csv")
        _, curves = read_curves(folder / f"{cell.name}_oracles.csv")
        references = {name: curves[name] for name in curves if not name.endswith(WRONG_PRIOR)}
        labelled = {label: agents[name] for name, label in AGENTS.items()}
        draw_adaptation_curves(axes, labelled, references, reference=list(references)[-1])
        axes.set_title(f"{cell_text(cell)}, {row['agent']}, seed {row['seed']}", loc="left")
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(-0.02, -0.14),
            ncols=2,
            frameon=False,
            fontsize="small",
            title="mean return of a trial ± 95 %",
            title_fontsize="small",
            alignment="left",
        )
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    return figure


def render(folder: Path) -> None:
    """Write `README.md` and the figures next to the tables."""
    cells = all_cells()
    parts, commands = [INTRODUCTION], []
    for table, title in TITLES.items():
        own = [cell for cell in cells.values() if cell.table == table]
        found = read_rows(folder, table)
        rows = {cell.name: [row for row in found if cell.is_of(row)] for cell in own}
        commands += [row["command"] for row in found]
        parts += [f"## {title}", RETURNS[table]]
        if table in WITH_EPISODES:
            parts.append(worlds_table(own, rows, folder / "curves"))
            if measured := measures_table(own, rows):
                parts += [MEASURES, measured]
            parts += _pictures(folder, rows)
        else:
            parts.append(paper_table(own, rows))
        figure = curves_figure(own, rows, folder / "curves")
        if figure is not None:
            if table in PLAYERS:
                parts += [PLAYERS[table], players_table(own, rows)]
            figure.savefig(folder / f"{table}.png", metadata={"Software": None})
            parts.append(f"![Adaptation curves]({table}.png)")
    if compared := memories_text(folder):
        parts += ["## Memories", MEMORIES, compared]
    if (figure := learners_figure(folder)) is not None:
        parts += ["## Learners", LEARNERS, learners_text(folder)]
        figure.savefig(folder / "learners.png", metadata={"Software": None})
        parts.append("![Returns against env steps](learners.png)")
    if commands:
        parts += ["## To repeat", REPEAT, "\n".join(["```bash", *commands, "```"])]
    write_atomically(folder / "README.md", "\n\n".join(parts) + "\n")


def _pictures(folder: Path, rows: Rows) -> list[str]:
    """Links to the pictures of the rows' analyses."""
    names = {row["name"] for of_cell in rows.values() for row in of_cell}
    drawn = sorted((folder / "analyses").glob("*/*.png"))
    drawn = [path for path in drawn if path.parent.name in names]
    return [f"![{path.parent.name}]({path.relative_to(folder).as_posix()})" for path in drawn]


INTRODUCTION = """\
# Results

Written by `python -m results.render` from the CSV files of this folder; \
[docs/results.md](../docs/results.md) describes how these are made. The weights are in \
`checkpoints/`.

- The last checkpoint of a training counts, on 10 000 tasks unless its command says otherwise, \
± 95 %. No training sees these tasks, and runs use others for their own tests; a cell that was \
trained again with other settings was evaluated on them again.
- *Greedy* takes the most likely action at each step, *sampled* draws one.
- The *bar* is the target of greedy play. Cells that miss it are listed with their result; "open" \
cells have not been trained yet.
- During training, an agent may learn from the mean reward of an action instead of the drawn one \
(`collection.expected_rewards`), and its critic may see the task (`learner.critic.sees_task`); see \
the experiment files. Neither is used in tests. In MDPs and in the cart-pole the agent also sees \
the previous observation, in addition to the inputs of RL²; in the cells "without reward" it does \
not see the reward."""
RETURNS = {
    "mab": "Total reward of a trial: n pulls of k arms, p ~ U[0, 1].",
    "mdp": "Total reward of a trial: n episodes of 10 steps, 10 states, 5 actions.",
    "worlds": (
        "Total reward of a trial, and that of its first two episodes in greedy play. "
        "[environments.md](../docs/environments.md) describes the families, and what their "
        "reference players know."
    ),
    "gymnasium": (
        "The same, of environments that need an extra, listed in "
        "[gymnasium.md](../docs/gymnasium.md), as far as a training on two CPU cores goes. Random "
        "play is the reference. RL² as published: the return of an episode after 10⁸ env steps, "
        "with an older version of MuJoCo ([arXiv 2210.11348](https://arxiv.org/abs/2210.11348))."
    ),
}
PLAYERS = {
    "mab": (
        "The reference players on the same tasks, and in brackets as published, on 1000 tasks. The "
        "constants of ε-greedy and UCB1 are tuned on separate tasks; the published ones were tuned "
        "on the reported tasks. Our Gittins indices take into account how many pulls are left."
    ),
    "mdp": (
        "The reference players on the same tasks, with the tasks' own prior. Those *as published* "
        "expect mean rewards around 0, whereas the tasks have 1; greedy, ε-greedy and UCRL2 among "
        "them start with almost no prior. The published figures, in brackets, on 1000 tasks, are "
        "to be compared with these. They are left out of the figure. The optimal policy knows the "
        "MDP, which no learner does."
    ),
}
MEASURES = "Figures of the families' own analyses for the agent, ± 95 %:"
MEMORIES = (
    "Each memory on the same tasks, with the same env steps within a table, one seed, and settings "
    "that were not tuned for it. *Collecting* and *optimising* are env steps per second relative "
    "to the GRU of the table, measured one after the other on one core. Each row was made by "
    "`python -m results.memories <task> <memory>`. "
    "[memories.md](../docs/memories.md) explains the memories and when to use which; "
    "`results/memories.py` has the settings."
)
LEARNERS = (
    "Each learner in its own experiment, one seed; the numbers of env steps differ, and so do the "
    "settings. *Env steps to* counts until three validations of the greedy agent in a row reach "
    "this share of the reference's return on the same tasks. Each row was made by `python -m "
    "results.learners <task> <learner>`. [r2d2_ppo.md](../docs/r2d2_ppo.md), "
    "[r2d2.md](../docs/r2d2.md) and [trpo.md](../docs/trpo.md) explain the learners."
)
REPEAT = "Each row can be reproduced from its weights, without training:"


if __name__ == "__main__":
    render(FOLDER)

"""Compare the learners: train and test one on one task.

`python -m results.learners grid_navi trpo` trains the experiment `grid_navi_trpo` in
`outputs/learners/grid_navi/trpo`, continues a run that was stopped there, and writes its row into
`results/learners.csv`. PPO trains the experiment without a suffix.
"""

from results.cells import experiment_file
from results.comparison import Comparison

TASKS = ("mab_n10_k5", "mab_n100_k10", "grid_navi", "point_robot")
LEARNERS = ("ppo", "r2d2_ppo", "r2d2", "trpo")


def experiment_of(task: str, learner: str) -> str:
    """The experiment that trains a learner on a task."""
    return task if learner == "ppo" else f"{task}_{learner}"


COMPARISON = Comparison(
    table="learners",
    column="learner",
    names={
        task: [name for name in LEARNERS if experiment_file(experiment_of(task, name)).exists()]
        for task in TASKS
    },
    own_overrides=lambda task, learner: [f"experiment={experiment_of(task, learner)}"],
    num_validations=50,
)


if __name__ == "__main__":
    COMPARISON.main()

"""Compare the memories: train and test one on one task, with the task's budget.

`python -m results.memories mdp_n10 snail` trains in `outputs/memories/mdp_n10/snail`, continues a
run that was stopped there, and writes its row into `results/memories.csv`.
`python -m results.memories mdp_n10 speed` measures how fast each memory collects and optimises.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.throughput import IterationRates, fit
from results.cells import Row
from results.comparison import Comparison

NUM_ITERATIONS = 7  # of a measurement of speed, of which the first two do not count


@dataclass(frozen=True)
class Task:
    """What all memories are trained on.

    Attributes:
        overrides: experiment and settings, the same for all memories.
        length: env steps of a trial.
        queries: the settings of action queries, if these are compared, too.
    """

    overrides: tuple[str, ...]
    length: int
    queries: tuple[str, ...] = ()


ASKING = (
    "memory=matrix",
    "memory.num_layers=0",
    "memory.hidden_size=16",
    "agent.encoder_hidden_sizes=[]",
    "agent.policy_head=action_queries",
    "agent.policy_hidden_sizes=[64,64]",
)
# An arm's key says which one was pulled; nothing else may distinguish arms.
OF_ARMS = ("agent.inputs=[observation,previous_reward,previous_done]",)
OF_PAIRS = ("agent.action_queries.of_observation=true", "agent.action_queries.key_size=8")
TASKS: Mapping[str, Task] = {
    "mab_n10_k5": Task(
        ("experiment=mab_n10_k5", "collection.total_env_steps=1_000_000"), 10, (*ASKING, *OF_ARMS)
    ),
    "mab_n100_k10": Task(
        (
            "experiment=mab_n100_k10_lstm",
            "collection.uses_curriculum=false",
            "collection.num_trials=256",
            "collection.total_env_steps=2_000_000",
        ),
        100,
        (*ASKING, *OF_ARMS),
    ),
    "mdp_n10": Task(
        ("experiment=mdp_n10_matrix", "collection.total_env_steps=2_000_000"),
        100,
        (*ASKING, *OF_PAIRS),
    ),
    "grid_navi": Task(("experiment=grid_navi", "collection.total_env_steps=2_000_000"), 60),
    "memory_planning_3x3": Task(
        ("experiment=memory_planning_3x3", "collection.total_env_steps=2_000_000"), 100
    ),
    "recall_gap500": Task(
        (
            "experiment=recall_gap500",
            "collection.total_env_steps=2_000_000",
            "memory.hidden_size=32",  # of a memory that does not set its own
            "evaluation.validation_tasks=200",  # 200 trials are two iterations of training
            "evaluation.test_tasks=2000",
        ),
        502,
    ),
}
VECTOR = ("memory.hidden_size=128", "agent.encoder_hidden_sizes=[128]", "memory.max_timescale={}")
MEMORIES: Mapping[str, tuple[str, ...]] = {
    "gru": ("memory=gru", *VECTOR),
    "lstm": ("memory=lstm", *VECTOR),
    "min_gru": ("memory=min_gru", *VECTOR),
    "matrix": (
        "memory=matrix",
        "memory.hidden_size=64",
        "memory.num_layers=2",
        "agent.encoder_hidden_sizes=[]",
        "memory.max_timescale={}",
    ),
    "snail": ("memory=snail", "memory.max_steps={}", "agent.encoder_hidden_sizes=[]"),
    "gated_transformer": (
        "memory=gated_transformer",
        "memory.context={}",
        "memory.hidden_size=64",
        "agent.encoder_hidden_sizes=[]",
    ),
    "episodic_planning": (
        "memory=episodic_planning",
        "memory.max_transitions={}",
        "memory.hidden_size=128",
        "agent.encoder_hidden_sizes=[128]",
    ),
}
QUERIES = "action_queries"


def overrides_of(task: str, memory: str) -> list[str]:
    """The settings of a task and of a memory on it."""
    own = TASKS[task].queries if memory == QUERIES else MEMORIES[memory]
    return [*TASKS[task].overrides, *(text.format(TASKS[task].length) for text in own)]


COMPARISON = Comparison(
    table="memories",
    column="memory",
    names={name: [*MEMORIES, *([QUERIES] if task.queries else [])] for name, task in TASKS.items()},
    own_overrides=overrides_of,
    num_validations=25,
)


def speeds_of(task: str) -> list[Row]:
    """How fast each memory collects and optimises, measured one after the other."""
    rows = []
    for memory in COMPARISON.names[task]:
        with tempfile.TemporaryDirectory() as folder:
            more = (f"trainer.max_epochs={NUM_ITERATIONS}", "trainer.check_val_every_n_epoch=1000")
            cfg = COMPARISON.compose(task, memory, Path(folder), *more)
            cfg.callbacks = {"throughput": cfg.callbacks.throughput}
            cfg.logger = {}
            rates = IterationRates()
            fit(cfg, rates)
        measured = {part: f"{rates.rate(part):.0f}" for part in ("collect", "optimise")}
        rows.append({"task": task, "memory": memory, **measured})
    return rows


if __name__ == "__main__":
    COMPARISON.main(speeds_of)

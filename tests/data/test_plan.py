"""The plan of a run: its stages, and the spent budget."""

import pytest

from rl2_lightning.config import CollectionConfig, StageConfig
from rl2_lightning.data.plan import CollectionPlan
from rl2_lightning.errors import UserError


def plan(*, total: int = 1000, steps_per_unit: int = 1, **stages: StageConfig) -> CollectionPlan:
    """A plan with full trials of length 20, ten per iteration."""
    collection = CollectionConfig(
        num_trials=10, total_env_steps=total, curriculum=stages, window=None, burn_in=0
    )
    return CollectionPlan(collection, 20, steps_per_unit)


SHORT = StageConfig(env_steps=200, num_trials=25, trial_length=4)
SMALL = StageConfig(env_steps=250, num_trials=5)


def test_without_a_curriculum_all_iterations_are_alike() -> None:
    only = plan()
    assert only.num_iterations == 5
    assert {only.stage_at(i) for i in range(5)} == {only.stages[0]}
    assert [only.spent_before(i) for i in range(6)] == [0, 0.2, 0.4, 0.6, 0.8, 1.0]


def test_stages_follow_one_another_and_share_the_budget() -> None:
    both = plan(short=SHORT, small=SMALL)
    collected = [both.stage_at(i) for i in range(both.num_iterations)]
    assert [(s.num_trials, s.trial_length) for s in collected] == [
        (25, 4), (25, 4), (5, 20), (5, 20), (10, 20), (10, 20), (10, 20),
    ]  # fmt: skip
    assert [both.trial_length_at(i) for i in range(3)] == [4, 4, 20]


def test_progress_is_counted_in_env_steps() -> None:
    both = plan(short=SHORT, small=SMALL)
    spent = [both.spent_before(i) for i in range(both.num_iterations + 1)]
    assert spent == pytest.approx([s / 1000 for s in (0, 100, 200, 300, 400, 600, 800, 1000)])
    assert both.spent_before(100) == 1.0, "past the end"


def test_the_last_stage_outlives_the_plan() -> None:
    assert plan(short=SHORT).stage_at(10_000).trial_length == 20


def test_lengths_count_the_steps_of_an_episode() -> None:
    episodes = plan(
        total=5000,
        steps_per_unit=10,
        short=StageConfig(env_steps=1000, num_trials=25, trial_length=4),
    )
    assert [(s.steps_per_iteration, s.num_iterations) for s in episodes.stages] == [
        (1000, 1),
        (2000, 2),
    ]


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ({"long": StageConfig(100, 5, 21)}, r"long.trial_length=21 .* at most 20"),
        ({"tiny": StageConfig(99, 5, 20)}, r"tiny.env_steps=99 .*env_steps=100 or more"),
        (
            {"all": StageConfig(900, 5, 20)},
            r"total_env_steps=1000 is less than the 1100 .*total_env_steps=1100 or more",
        ),
    ],
)
def test_a_plan_that_cannot_be(stages: dict[str, StageConfig], words: str) -> None:
    with pytest.raises(UserError, match=words):
        plan(**stages)

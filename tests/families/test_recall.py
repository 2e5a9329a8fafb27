"""Recall: observations and rewards."""

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.families.play import play_reference
from rl2_lightning.families.recall import CUE, Recall
from rl2_lightning.families.trial_env import TrialEnv
from tests.families.draws import seeded


def shown(env: Recall, num_steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Symbols `[B, T, C]` and phases `[B, T, 3]` of an episode."""
    observations = [env.reset()[keys.OBSERVATION]]
    action = torch.zeros(env.num_tasks, dtype=torch.int64)
    for _ in range(num_steps - 1):
        step = env.step(TensorDict({keys.ACTION: action}, env.batch_size))
        observations.append(step[keys.NEXT, keys.OBSERVATION])
    seen = torch.stack(observations, 1)
    return seen[..., :-3], seen[..., -3:]


@pytest.mark.parametrize("gap", [0, 1, 5])
def test_the_cue_comes_first_and_the_question_last(gap: int) -> None:
    env = Recall(200, num_cues=3, gap=gap)
    env.set_seed(0)
    symbols, phases = shown(env, gap + 2)
    assert phases.argmax(-1).tolist() == [[0, *[1] * gap, 2]] * 200
    assert torch.equal(symbols[:, 0], env.tasks[CUE])
    assert (symbols[:, 1:-1].sum(-1) == 1).all()
    assert not symbols[:, -1].any()


def test_what_is_shown_in_the_gap_tells_nothing() -> None:
    env = Recall(3000, num_cues=3, gap=4)
    env.set_seed(0)
    symbols, _ = shown(env, 6)
    together = torch.einsum("bc,btd->tcd", env.tasks[CUE], symbols[:, 1:-1]) / 3000
    assert (together - 1 / 9).abs().max() < 4.5 * (1 / 9 * 8 / 9 / 3000) ** 0.5
    repeats = (symbols[:, 1:-2] * symbols[:, 2:-1]).sum(-1).mean()
    assert repeats.item() == pytest.approx(1 / 3, abs=0.03), "each is drawn independently"


@pytest.mark.parametrize("answer", [0, 1, 2])
def test_only_the_answer_pays(answer: int) -> None:
    env = Recall(50, num_cues=3, gap=2)
    env.set_seed(0)
    env.reset()
    is_right = env.tasks[CUE].argmax(1) == answer
    everyone = torch.ones(50, 1, dtype=torch.bool)
    for step in range(4):
        result = env.play(torch.full((50,), answer), everyone)
        paid = is_right if step == 3 else torch.zeros_like(is_right)
        assert torch.equal(result.reward.squeeze(1) > 0, paid)
        assert (result.episode_done == (step == 3)).all()


def test_the_cue_stays_in_later_episodes() -> None:
    env = TrialEnv(Recall(20, gap=1), episodes_per_trial=2)
    step = env.begin()
    first = step.inputs.observation.clone()
    for _ in range(3):
        step = env.advance(torch.zeros(20, dtype=torch.int64)).following
    assert torch.equal(step.inputs.observation, first)


@pytest.mark.parametrize("gap", [0, 7])
def test_who_remembers_is_right_and_chance_is_one_in_so_many(gap: int) -> None:
    env = Recall(4000, num_cues=5, gap=gap)
    tasks, players = env.sample_tasks(4000), env.players(2)
    assert list(players) == ["random", "remembers"]
    assert (play_reference(players["remembers"], env, tasks, 2, seeded(0)) == 1).all()
    chance = play_reference(players["random"], env, tasks, 2, seeded(0))
    assert chance.mean(0).tolist() == pytest.approx([0.2] * 2, abs=4 * (0.16 / 4000) ** 0.5)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"gap": -1}, "^env.gap=-1 .*at least 0$"),
        ({"num_cues": 1}, "^env.num_cues=1 .*at least 2$"),
    ],
)
def test_impossible_gaps(options: dict[str, int], told: str) -> None:
    with pytest.raises(UserError, match=told):
        Recall(1, **options)

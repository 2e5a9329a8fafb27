"""The page about Python: its programs run, and its functions do what they say."""

import re
import sys
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

import rl2_lightning
from rl2_lightning import (
    Agent,
    evaluate,
    make_agent,
    make_trials,
    pictures,
    play,
    plot,
    plot_training,
    train,
)
from rl2_lightning.data.windows import inputs_of
from rl2_lightning.errors import UserError
from tests.house.command import run, run_python

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
FAST = ["debug=fast", "trainer.accelerator=cpu"]


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> rl2_lightning.notebook.Training:
    folder = tmp_path_factory.mktemp("runs") / "run"
    often = "trainer.check_val_every_n_epoch=1"
    return train("mab_n10_k5", [*FAST, "memory=lstm", "trainer.max_epochs=3", often], folder)


@pytest.mark.slow
def test_the_first_program_trains(tmp_path: Path) -> None:
    assert len(PROGRAMS[0].splitlines()) < 15
    printed = run_python(["-c", PROGRAMS[0]], tmp_path, PYTHONPATH=str(ROOT))
    (agent,) = re.findall(r"^agent greedy +([\d.]+) ±", printed, re.MULTILINE)
    (chance,) = re.findall(r"^random +([\d.]+) ±", printed, re.MULTILINE)
    assert float(agent) > float(chance) + 0.3
    assert (tmp_path / "adaptation_curve.png").stat().st_size > 10_000


def test_the_second_program_runs(tmp_path: Path) -> None:
    run_python(["-c", PROGRAMS[1]], tmp_path, PYTHONPATH=str(ROOT))


def test_importing_the_package_is_cheap(tmp_path: Path) -> None:
    text = "import sys, rl2_lightning; print([n for n in ('torch', 'hydra') if n in sys.modules])"
    printed = run([sys.executable, "-c", text], tmp_path, PYTHONPATH=str(ROOT))
    assert printed == "[]\n"
    assert set(rl2_lightning.__all__) <= set(PAGE.replace("`", " ").replace("(", " ").split()) | {
        "Agent"
    }


def test_a_training_has_its_results(training) -> None:
    assert set(training.curves) == {"greedy", "sampled"}
    assert training.reference == list(training.references)[-1] == "bayes_optimal"
    assert {"last.ckpt", "summary.json", "adaptation_curve.png"} <= {
        path.name for path in training.folder.iterdir()
    }
    env_steps, returns = training.series("train/return")
    assert env_steps == [64.0, 128.0, 192.0]
    assert all(0 <= one <= 2 for one in returns)
    with pytest.raises(UserError, match=r"^none was not logged: known are .*train/return"):
        training.series("none")
    stored = Agent.load(training.folder / "last.ckpt").state_dict()
    for name, tensor in training.agent.state_dict().items():
        assert torch.equal(tensor, stored[name])
    assert "agent greedy" in str(training)
    assert len(str(training).splitlines()) == 3 + len(training.references)


def test_an_evaluation_is_that_of_the_test(training) -> None:
    """On the same tasks, and as many, an agent and its checkpoint have the results of the test."""
    fields = ["debug=fast"]
    for agent in (training.agent, training.folder / "last.ckpt"):
        found = evaluate(agent, "mab_n10_k5", fields, num_tasks=16)
        for mode, curve in training.curves.items():
            assert found.curves[mode].trial_return == pytest.approx(curve.trial_return)
        assert found.references.keys() == training.references.keys()


def test_curves_are_drawn(training, tmp_path: Path) -> None:
    figure = plot(training, tmp_path / "curve.png")
    assert isinstance(figure, Figure)
    assert (tmp_path / "curve.png").stat().st_size > 10_000
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert any(label.startswith("bayes optimal (reference)") for label in labels)


def test_figures_show_themselves_in_a_notebook(training) -> None:
    for figure in (plot(training), plot_training(training)):
        assert figure._repr_png_().startswith(b"\x89PNG")


def test_a_training_is_drawn(training, tmp_path: Path) -> None:
    figure = plot_training(training, tmp_path / "training.png")
    assert (tmp_path / "training.png").stat().st_size > 10_000
    assert [axes.get_title("left") for axes in figure.axes[:2]] == [
        "agent, greedy",
        "agent, sampled",
    ]
    assert (training.folder / "adaptation_over_training.png").exists()
    (training.folder / "adaptation_curve.csv").rename(tmp_path / "kept.csv")
    try:
        with pytest.raises(UserError, match=r"^the training had 0 validation\(s\), and"):
            plot_training(training)
    finally:
        (tmp_path / "kept.csv").rename(training.folder / "adaptation_curve.csv")


def test_pictures_of_an_agent(training) -> None:
    found = pictures(training.agent, "mab_n10_k5", ["debug=fast"], num_tasks=6)
    assert list(found) == ["adaptation_curve", "regret", "actions", "memory", "reactions"]
    assert all(isinstance(figure, Figure) for figure in found.values())
    with pytest.raises(UserError, match=r"^the agent has actions"):
        pictures(training.agent, "mab_n10_k5", ["env.num_arms=7"], num_tasks=6)


def test_played_trials_have_what_was_seen_and_done(training) -> None:
    trials = make_trials("mab_n10_k5", 4, seed=3)
    played = play(training.agent, trials, window=4, burn_in=2, seed=5)
    steps, task = played["steps"], played["task"]
    assert steps.shape == (4, 10)
    assert torch.equal(steps["previous_action"][:, 1:], steps["action"][:, :-1])
    assert torch.equal(steps["previous_reward"][:, 1:], steps["next", "reward"][:, :-1])
    assert played["memory_state"].shape == (4, 3)
    expected, _ = training.agent.unroll(inputs_of(steps), training.agent.initial_state(4))
    torch.testing.assert_close(steps["features"], expected)
    trials.set_seed(9)
    first = play(training.agent, trials, tasks=task, greedy=True)
    trials.set_seed(9)
    again = play(training.agent, trials, tasks=task, greedy=True, seed=6)
    assert torch.equal(first["task", "arm_probabilities"], task["arm_probabilities"])
    assert torch.equal(first["steps", "action"], again["steps", "action"])


def test_your_own_classes(monkeypatch) -> None:
    own = ROOT / "tests" / "house" / "own_parts"
    monkeypatch.syspath_prepend(str(own))
    trials = make_trials("default", 3, ["env=treasure"], config_dir=own / "configs")
    agent = make_agent("default", ["env=treasure", "memory=leaky"], config_dir=own / "configs")
    assert type(agent.memory).__name__ == "Leaky"
    assert play(agent, trials)["steps"].shape == (3, 32)
    found = evaluate(agent, "default", ["env=treasure"], 8, config_dir=own / "configs")
    assert list(found.references) == ["knows_the_side"]
    with pytest.raises(UserError, match=r"^config_dir=nowhere is not a folder"):
        make_agent("default", config_dir="nowhere")


def test_trials_and_agents_are_those_of_the_experiment() -> None:
    trials = make_trials("mab_n10_k5", 3, ["env.num_arms=7"], seed=4)
    assert trials.max_steps == 10
    trials.begin()
    first = trials.tasks.clone()
    again = make_trials("mab_n10_k5", 3, ["env.num_arms=7"], seed=4)
    again.begin()
    assert torch.equal(first["arm_probabilities"], again.tasks["arm_probabilities"])
    agent = make_agent("mab_n10_k5", ["env.num_arms=7", "memory=snail"])
    assert agent.spec.actions.n == 7
    assert type(agent.memory).__name__ == "SNAIL"
    same, other = (make_agent("mab_n10_k5", [f"seed={seed}"]) for seed in (1, 2))
    weights = [next(one.parameters()) for one in (make_agent("mab_n10_k5"), same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("experiment", "overrides", "told"),
    [
        ("mab_n10", [], r"^experiment=mab_n10 is unknown: did you mean 'mab_n10\w+'\?"),
        ("mab_n10_k5", ["env.arms=3"], r"^unknown config key 'env.arms'"),
        ("mab_n10_k5", ["memory=rnn"], r"^memory=rnn is unknown"),
        ("mab_n10_k5", ["seed=-1"], r"^seed=-1"),
        ("mab_n10_k5", ["ckpt_path=a"], r"^ckpt_path=a from Python: use the command line"),
        (
            "mab_n10_k5",
            ["trainer.devices=2"],
            r"^trainer.devices=2 from Python|^trainer.devices=2 ",
        ),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, experiment, overrides, told) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=told) as raised:
        train(experiment, overrides)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir()), "no folder is left"


def test_an_agent_of_other_tasks(training) -> None:
    with pytest.raises(UserError, match=r"^the agent has actions \{'n': 5\}, these tasks \{'n': 7"):
        evaluate(training.agent, "mab_n10_k5", ["env.num_arms=7"], num_tasks=10)
    with pytest.raises(UserError, match=r"holds a finished run, which is not overwritten"):
        train("mab_n10_k5", FAST, training.folder)

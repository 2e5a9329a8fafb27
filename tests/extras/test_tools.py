"""Optuna's search, the logger of Weights & Biases, and the site: each with its extra."""

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from rl2_lightning.callbacks.wandb_metrics import WandbMetrics
from rl2_lightning.errors import UserError
from tests.builders import ROOT
from tests.command_line.program import SMALL, call_program, mistake_told, run_program
from tests.house.command import run

HAS_OPTUNA = find_spec("optuna") is not None
needs_optuna = pytest.mark.skipif(not HAS_OPTUNA, reason="pip install rl2-lightning[optuna]")
needs_wandb = pytest.mark.skipif(find_spec("wandb") is None, reason="rl2-lightning[wandb]")
needs_mkdocs = pytest.mark.skipif(find_spec("mkdocs") is None, reason="rl2-lightning[docs]")


@needs_optuna
@pytest.mark.slow
def test_a_search_finds_the_best_of_its_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = tmp_path / "sweep"
    search = ("hydra.sweeper.n_trials=4", "memory.hidden_size=choice(8,16)")
    fields = [one for one in SMALL if "hidden_size" not in one]
    call_program(tmp_path, "-m", "sweep=optuna", *fields, *search, f"hydra.sweep.dir={sweep}")
    found = yaml.safe_load((sweep / "optimization_results.yaml").read_text())
    returns = [
        yaml.safe_load(place.read_text())["agent"]["greedy"]["trial_return"]
        for place in sweep.glob("*/summary.json")
    ]
    assert len(returns) == 4
    assert found["best_value"] == pytest.approx(max(returns))
    searched = {"learner.learning_rate", "learner.entropy_coefficient", "learner.gae_lambda"}
    assert found["best_params"].keys() == searched | {"memory.hidden_size"}
    assert 3e-4 <= found["best_params"]["learner.learning_rate"] <= 1e-2
    assert capsys.readouterr().out.count("learner.gae_lambda=") >= 4


@needs_optuna
@pytest.mark.slow
def test_a_run_that_is_refused_does_not_end_the_search(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    search = ("hydra.sweeper.n_trials=4", "learner.num_minibatches=choice(2,3)")
    fields = [one for one in SMALL if "num_minibatches" not in one]
    call_program(tmp_path, "-m", "sweep=optuna", *fields, *search, f"hydra.sweep.dir={sweep}")
    finished = list(sweep.glob("*/summary.json"))
    assert 0 < len(finished) < 4
    found = yaml.safe_load((sweep / "optimization_results.yaml").read_text())
    assert found["best_params"]["learner.num_minibatches"] == 2


@pytest.mark.skipif(HAS_OPTUNA, reason="the extra optuna is installed")
def test_a_search_without_the_extra_is_one_line(tmp_path: Path) -> None:
    line = mistake_told(tmp_path, "-m", "sweep=optuna")
    assert line == (
        "error: hydra/sweeper=optuna is not installed: run `pip install rl2-lightning[optuna]`"
    )


@needs_wandb
@pytest.mark.slow
def test_each_job_of_a_sweep_is_a_run_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    sweep = tmp_path / "sweep"
    given = ("logger=wandb", "logger.wandb.name=a_run", "seed=1,2", f"hydra.sweep.dir={sweep}")
    done = run_program(tmp_path, "-m", *SMALL, *given)
    assert done.returncode == 0, done.stderr
    runs = sorted(sweep.glob("*/wandb/offline-run-*/*.wandb"))
    assert [place.parents[2].name for place in runs] == ["bernoulli_bandit_0", "bernoulli_bandit_1"]
    for number, place in enumerate(runs):
        content = place.read_bytes()
        for name in (b"train/return", b"test/return_greedy", b"trainer/global_step", b"a_run"):
            assert name in content, name
        assert content.count(b"test/return_greedy") > 0
        media = place.parent / "files" / "media" / "images" / "test"
        assert list(media.glob("adaptation_curve*.png")), number


def test_a_logger_without_its_package_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rl2_lightning.callbacks.wandb_metrics.find_spec", lambda name: None)
    told = r"wandb is not installed, run `pip install rl2-lightning\[wandb\]`"
    with pytest.raises(UserError, match=f"^{told}$"):
        WandbMetrics(str(tmp_path))
    line = mistake_told(tmp_path, *SMALL, "logger=wandb", f"hydra.run.dir={tmp_path / 'run'}")
    assert re.fullmatch(f"error: logger.wandb: {told}", line)
    assert not list((tmp_path / "run").iterdir())


@needs_mkdocs
@pytest.mark.slow
def test_the_site_is_whole_and_needs_no_network(tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", site]
    run(command, ROOT, NO_MKDOCS_2_WARNING="1", PYTHONPATH=str(ROOT))
    pages = [place for place in site.rglob("*.html") if place.name != "404.html"]
    assert len(pages) > 60
    pictures = 0
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for source in re.findall(r'<(?:img|script)[^>]* src="([^"]+)"', text):
            pictures += source.startswith("data:image/")
            if source.startswith("data:"):  # a picture of a notebook, inside the page
                continue
            assert "://" not in source, f"{page}: {source}"
            assert (page.parent / source.partition("?")[0]).is_file(), f"{page}: {source}"
            pictures += source.endswith((".png", ".gif", ".svg"))
        for link in re.findall(r'<link[^>]* rel="stylesheet"[^>]*>', text):
            assert "://" not in link, f"{page}: {link}"
    assert pictures > 20

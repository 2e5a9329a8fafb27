"""Learners with several optimisers are clipped, checked, counted and resumed like others."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from rl2_lightning import keys
from rl2_lightning.build import build_data, build_learner, build_trainer
from rl2_lightning.checkpoint import Checkpoint
from rl2_lightning.data.sources import OnPolicySource
from rl2_lightning.errors import NonFiniteLossError, UserError
from rl2_lightning.learners.credit import clear_idle_steps
from rl2_lightning.learners.learner import LearnerSettings
from rl2_lightning.learners.manual import ManualLearner
from rl2_lightning.learners.ranks import over_all_ranks, world_size
from rl2_lightning.learners.windows import window_features
from tests.builders import ROOT, compose_config
from tests.command_line.program import run_program

NUM_ITERATIONS, NUM_UPDATES = 3, 2  # minibatches of an iteration


@dataclass
class TwoOptimisersSettings(LearnerSettings):
    learning_rate: float = 0.05
    poison: bool = False


class TwoOptimisers(ManualLearner):
    """Trains actor and baseline in turn, each with an optimiser of its own."""

    Settings = TwoOptimisersSettings

    def __init__(self, agent, settings, *, plan, task_sizes) -> None:
        super().__init__(agent, settings, plan=plan, task_sizes=task_sizes)
        self.settings = settings
        self.baseline = nn.Linear(agent.memory.output_size, 1)

    def configure_optimizers(self):
        rate = self.settings.learning_rate
        return [
            torch.optim.Adam(self.agent.parameters(), rate),
            torch.optim.SGD(self.baseline.parameters(), rate, momentum=0.9),
        ]

    def make_source(self, collect, shuffle_seed):
        return OnPolicySource(collect, shuffle_seed, num_epochs=1, num_minibatches=NUM_UPDATES)

    def prepare(self, trials, state_steps):
        self.count_iteration(trials[keys.STEPS, keys.MASK].sum())
        return clear_idle_steps(trials, state_steps)

    def training_step(self, minibatch, batch_index: int) -> None:
        features = window_features(self.agent, minibatch)
        window = minibatch[keys.WINDOW]
        error = window[keys.REWARD] - self.baseline(features.detach())
        log_probs = self.agent.policy(features).log_prob(window[keys.ACTION])
        loss = -(1e3 * error.detach().squeeze(-1) * log_probs).mean()
        self.step(0, torch.inf * loss if self.settings.poison else loss)
        self.step(1, 1e3 * error.square().mean())


class TwoOptimisersOnRanks(TwoOptimisers):
    """Checks that all ranks have the same weights."""

    def on_train_start(self) -> None:
        self.initial = self.own_weights()

    def on_train_end(self) -> None:
        found = over_all_ranks(self.own_weights()).view(world_size(), -1)
        assert len(found) == 2
        assert torch.equal(found[0], found[1])
        # Updates of both optimisers use the data of both ranks.
        assert (found[0] != self.initial).float().mean() > 0.5
        assert (self.baseline.weight.view(-1) != self.initial[-self.baseline.in_features :]).all()

    def own_weights(self) -> Tensor:
        parameters = [*self.agent.parameters(), self.baseline.bias, self.baseline.weight]
        return torch.cat([parameter.detach().flatten().clone() for parameter in parameters])


class Norms(Callback):
    """Records the norms of the gradients that the optimisers use, by group."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        def norm(module: nn.Module) -> float:
            gradients = [parameter.grad for parameter in module.parameters()]
            return nn.utils.get_total_norm(gradients).item()

        self.seen.append((norm(pl_module.agent), norm(pl_module.baseline)))


def fit(
    folder: Path, *overrides: str, checkpoint: Path | None = None, poison: bool = False
) -> tuple[TwoOptimisers, Trainer, Norms]:
    cfg = compose_config(
        folder,
        "collection.num_trials=8",
        "collection.total_env_steps=96",  # 3 iterations of 8 trials of 4 steps
        "trial.episodes_per_trial=4",
        "evaluation.validation_tasks=4",
        "evaluation.test_tasks=4",
        "trainer.accelerator=cpu",
        *overrides,
    )
    target = f"{TwoOptimisers.__module__}.TwoOptimisers"
    cfg.learner = {"_target_": target, "poison": poison}
    data = build_data(cfg)
    learner = build_learner(cfg, data)
    trainer = build_trainer(cfg, data, learner)
    norms = Norms()
    trainer.callbacks = [norms]
    trainer.fit(learner, data, ckpt_path=checkpoint, weights_only=True)
    return learner, trainer, norms


@pytest.mark.parametrize("largest", [0.5, 0.01, None])
def test_gradients_are_clipped_as_the_trainer_says(tmp_path: Path, largest: float | None) -> None:
    clip = f"trainer.gradient_clip_val={'null' if largest is None else largest}"
    _, trainer, norms = fit(tmp_path, clip)
    assert trainer.gradient_clip_val is None, "Lightning would refuse it"
    found = [norm for pair in norms.seen for norm in pair]
    assert len(found) == 2 * NUM_ITERATIONS * NUM_UPDATES
    if largest is None:
        assert max(found) > 1
    else:
        assert found == pytest.approx([largest] * len(found), rel=1e-4)
    # The logged norm is that before clipping.
    assert trainer.callback_metrics["train/gradient_norm"] > 1


def test_steps_are_counted_as_optimisers_take_them(tmp_path: Path) -> None:
    learner, trainer, _ = fit(tmp_path)
    assert trainer.global_step == 2 * NUM_ITERATIONS * NUM_UPDATES
    assert trainer.current_epoch == learner.clock.iterations == NUM_ITERATIONS
    assert learner.clock.env_steps == NUM_ITERATIONS * 8 * 4


def test_a_gradient_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match=r"^the gradient's norm is (nan|inf) after 32 env"):
        fit(tmp_path, poison=True)


def test_each_optimiser_changes_its_own(tmp_path: Path) -> None:
    learner, *_ = fit(tmp_path, "trainer.max_epochs=1")
    before = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
    learner, *_ = fit(tmp_path, "trainer.max_epochs=2")
    state = learner.state_dict()
    moved = {name for name, tensor in before.items() if not torch.equal(tensor, state[name])}
    assert {name.partition(".")[0] for name in moved} == {"agent", "baseline", "clock"}


def test_trials_that_do_not_divide_into_its_minibatches_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^the 9 windows of an iteration do not divide into 2 "):
        fit(tmp_path, "collection.num_trials=9")


@pytest.mark.parametrize("strategy", ["auto", "ddp"])
def test_two_ranks_learn_together(tmp_path: Path, strategy: str) -> None:
    group = tmp_path / "configs" / "learner"
    group.mkdir(parents=True)
    target = f"{TwoOptimisers.__module__}.TwoOptimisersOnRanks"
    (group / "two.yaml").write_text(f"_target_: {target}\nlearning_rate: 0.05\npoison: false\n")
    done = run_program(
        tmp_path,
        *("--config-dir", "configs", "learner=two", "debug=fast", "trainer.accelerator=cpu"),
        *("trainer.devices=2", f"trainer.strategy={strategy}", "hydra.run.dir=run"),
        PYTHONPATH=str(ROOT),
    )
    assert done.returncode == 0, done.stderr
    found = Checkpoint.read(tmp_path / "run" / "last.ckpt").content
    assert found["global_step"] == 2 * NUM_UPDATES
    assert int(found["state_dict"]["clock.env_steps_done"]) == 16 * 4


def test_it_resumes_bitwise(tmp_path: Path) -> None:
    whole, trainer, _ = fit(tmp_path / "whole")
    trainer.save_checkpoint(tmp_path / "whole.ckpt")
    _, half, _ = fit(tmp_path / "half", "trainer.max_epochs=2")
    half.save_checkpoint(tmp_path / "half.ckpt")
    resumed, trainer, _ = fit(tmp_path / "resumed", checkpoint=tmp_path / "half.ckpt")
    trainer.save_checkpoint(tmp_path / "resumed.ckpt")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
    one, two = (Checkpoint.read(tmp_path / f"{name}.ckpt").content for name in ("whole", "resumed"))
    assert one["global_step"] == two["global_step"] == 2 * NUM_ITERATIONS * NUM_UPDATES
    assert len(one["optimizer_states"]) == 2
    for mine, theirs in zip(one["optimizer_states"], two["optimizer_states"], strict=True):
        for index, state in mine["state"].items():
            for name, value in state.items():
                same = theirs["state"][index][name]
                assert torch.equal(value, same) if isinstance(value, Tensor) else value == same

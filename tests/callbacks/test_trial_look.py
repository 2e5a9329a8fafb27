"""The pictures of what the agent does, after a test of the whole program."""

from pathlib import Path

from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.command_line.program import SMALL, call_program

TARGET = "rl2_lightning.callbacks.trial_look.TrialLook"


def test_pictures_and_tensorboard(tmp_path: Path) -> None:
    added = f"+callbacks.look={{_target_: {TARGET}, dirpath: '${{output_dir}}', num_trials: 8}}"
    call_program(tmp_path, *SMALL, "experiment=mab_n10_k5", added, f"hydra.run.dir={tmp_path}")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for name in ("regret", "actions", "memory", "reactions"):
        assert imread(tmp_path / f"look_{name}.png").std() > 0.02
        assert f"test/look_{name}" in events.Tags()["images"]

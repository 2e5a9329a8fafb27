"""The folder of a run is removed while it runs."""

import shutil
from pathlib import Path

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer

from tests.command_line.program import SMALL, mistake_told


class RemovesTheFolder(Callback):
    """Removes the folder of the run at the start of the second iteration, or of the test.

    Args:
        folder: the folder.
        at: name of the hook.
    """

    def __init__(self, folder: str, at: str) -> None:
        self._folder, self._at = folder, at

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._at == "training" and trainer.current_epoch == 1:
            shutil.rmtree(self._folder)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._at == "test":
            shutil.rmtree(self._folder)


@pytest.mark.parametrize("at", ["training", "test"])
@pytest.mark.parametrize("logger", ["none", "csv", "tensorboard"])
def test_the_folder_is_removed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], logger: str, at: str
) -> None:
    run = tmp_path / "run"
    target = f"{RemovesTheFolder.__module__}.RemovesTheFolder"
    line = mistake_told(
        tmp_path,
        *SMALL,
        f"+callbacks.remove={{_target_: {target}, folder: {run}, at: {at}}}",
        f"logger={logger}",
        "trainer.max_epochs=3",
        "callbacks.closing_table=null",
        f"hydra.run.dir={run}",
    )
    assert line.endswith(f"output_dir={run} was removed during the run; there is no checkpoint yet")
    assert {path.name for path in run.glob("*")} <= {"tensorboard"}, "nothing is written without it"
    assert "Traceback" not in capfd.readouterr().err

"""The metrics that callbacks such as `EarlyStopping` monitor."""

import difflib
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer


def unknown_monitor(trainer: Trainer, callbacks: Mapping[Any, Any], reason: str) -> str | None:
    """Explain an error of Lightning's about a metric that a callback monitors.

    Which metrics there are is known only after the first iteration.

    Args:
        trainer: the trainer, which has logged some metrics.
        callbacks: the configs of the callbacks by name.
        reason: Lightning's message.

    Returns:
        The field with its value and the metrics that are close; None if the error is another one.
    """
    known = sorted(map(str, trainer.callback_metrics))
    for name, node in callbacks.items():
        monitor = None if node is None else node.get("monitor")
        if monitor is None or monitor in known or str(monitor) not in reason:
            continue
        close = " or ".join(difflib.get_close_matches(monitor, known, n=3))
        remedy = f"did you mean {close}?" if close else f"known are {', '.join(known)}"
        return f"callbacks.{name}.monitor={monitor} is not a metric of this run: {remedy}"
    return None

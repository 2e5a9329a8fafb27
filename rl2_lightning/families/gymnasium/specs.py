"""The specs of an environment's observations and actions."""

import numpy as np
import torch
from torchrl.data import (
    Bounded,
    Categorical,
    Composite,
    MultiCategorical,
    TensorSpec,
    Unbounded,
)

from rl2_lightning.families.gymnasium.actions import ActionLayout
from rl2_lightning.families.gymnasium.observations import ObservationLayout


def observation_spec(layout: ObservationLayout) -> TensorSpec:
    """The spec of one observation."""

    def one(name: str) -> TensorSpec:
        part = layout.parts[name]
        array = part.shown(np.full((1, *part.shape), part.low).astype(part.dtype))[0]
        if part.dtype == "uint8":
            return Bounded(0, 255, array.shape, dtype=torch.uint8)
        if part.num_values:
            return Bounded(0, 1, array.shape, dtype=torch.float32)
        return Unbounded(array.shape)

    if list(layout.parts) == [""]:
        return one("")
    return Composite({name: one(name) for name in layout.parts})


def action_spec(layout: ActionLayout) -> TensorSpec:
    """The spec of one action."""
    if layout.is_single:
        return Categorical(layout.num_values[0])
    if layout.num_values:
        return MultiCategorical(layout.num_values)
    low, high = (torch.from_numpy(bound) for bound in (layout.low, layout.high))
    return Bounded(low, high, low.shape, dtype=torch.float32)

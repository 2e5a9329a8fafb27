"""Sources of randomness, and random actions."""

import torch
from torch import Tensor
from torchrl.data import Categorical, MultiCategorical
from torchrl.envs import EnvBase


def seeded(seed: int, device: str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def draw_actions(env: EnvBase, num_steps: int, seed: int = 0) -> Tensor:
    """Uniformly random actions of any family, `[num_steps, B]` or `[num_steps, B, A]`."""
    generator = seeded(seed)
    spec, shape = env.action_spec_unbatched, (num_steps, *env.batch_size)
    if isinstance(spec, MultiCategorical):
        numbers = [torch.randint(one.n, shape, generator=generator) for one in spec.space]
        return torch.stack(numbers, dim=-1)
    if isinstance(spec, Categorical):
        return torch.randint(spec.space.n, shape, generator=generator)
    draw = torch.rand(*shape, *spec.shape, generator=generator)
    return spec.space.low + draw * (spec.space.high - spec.space.low)

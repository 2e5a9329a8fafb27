"""What learners share that draw past windows from a buffer of each rank."""

from collections.abc import Callable

from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.data.replay import ReplaySource
from rl2_lightning.data.replay_settings import BufferSettings
from rl2_lightning.learners.ranks import local_world_size, over_all_ranks, world_size


def replay_on_rank(
    collect: Callable[[], TensorDictBase],
    draw_seed: Callable[[int], int],
    settings: BufferSettings,
    num_minibatches: int,
) -> ReplaySource:
    """This rank's part of a buffer; see `ReplaySource`."""
    return ReplaySource(
        collect,
        draw_seed,
        settings,
        num_minibatches=num_minibatches,
        num_ranks=world_size(),
        num_local_ranks=local_world_size(),
    )


def importance_weights(minibatch: TensorDictBase) -> Tensor:
    """The importance weights of replayed windows over the largest one of all ranks, `[N]`."""
    weight: Tensor = minibatch.get(keys.WEIGHT)
    return weight / over_all_ranks(weight).max()

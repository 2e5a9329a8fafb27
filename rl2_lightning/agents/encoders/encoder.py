"""Encode the RL² inputs as one vector per step."""

from collections.abc import Sequence
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from rl2_lightning.agents.encoders.images import IMAGE_DIMS, ImageFeatures
from rl2_lightning.agents.encoders.normaliser import InputNormaliser
from rl2_lightning.agents.initialisation import fully_connected, initialise_linear
from rl2_lightning.agents.products import Linear
from rl2_lightning.agents.spaces import Actions, Box, Discrete, MultiDiscrete, Observations
from rl2_lightning.errors import UserError
from rl2_lightning.inputs import Inputs, Observation


class Encoder(nn.Module):
    """Concatenates the RL² inputs and passes them through fully connected layers, if any.

    Images pass through convolutions first; several observations are encoded separately.

    Args:
        observations: space of the observations.
        actions: space of the actions.
        inputs: names of the fields of `Inputs` that the agent sees.
        hidden_sizes: widths of the layers, each followed by a ReLU; without any, the encoding is
            the concatenated inputs.
        passed_on: names of the fields that are appended to the encoding.
        normalised: which inputs are in units of their running spread; see `InputNormaliser`.
        discount_embedding: width of an embedding of the learner's discounts, which is appended to
            the inputs (arXiv 1805.09801, equations 14 and 15); 0 for none.

    Raises:
        UserError: there is no input, or an unknown one.

    Attributes:
        sizes: widths of the encoding and of each field that is passed on.
        output_size: E, their sum.
        columns: the columns of each input in the concatenation.
        fields: names of the fields of `Inputs` that it reads.
    """

    one_hot: Tensor
    first_rows: Tensor
    centre: Tensor
    half_width: Tensor
    discounts: Tensor

    def __init__(
        self,
        observations: Observations,
        actions: Actions,
        inputs: Sequence[str],
        hidden_sizes: Sequence[int],
        passed_on: Sequence[str] = (),
        *,
        normalised: Sequence[str] = (),
        discount_embedding: int = 0,
    ) -> None:
        super().__init__()
        unknown = set(inputs) - set(Inputs._fields)
        if unknown or not inputs:
            raise UserError(
                f"agent.inputs={list(inputs)}: name at least one of {', '.join(Inputs._fields)}"
            )
        self._inputs = [name for name in Inputs._fields if name in inputs]
        self._passed_on = list(passed_on)
        self.fields = tuple(n for n in Inputs._fields if n in self._inputs + self._passed_on)
        self._boxes = observations if isinstance(observations, dict) else {"": observations}
        for name, box in self._boxes.items():
            if not box.shape:
                raise UserError(
                    f"the observation {name} is a scalar without a dimension: give its spec the "
                    "shape (1,)"
                )
        vectors = {
            name: box.size for name, box in self._boxes.items() if len(box.shape) != IMAGE_DIMS
        }
        self.normaliser = InputNormaliser(vectors, normalised) if normalised else None
        self._actions = actions
        self._register_code(actions)
        self.images = nn.ModuleDict()
        sizes = {"previous_action": actions.size, "previous_reward": 1, "previous_done": 1}
        for name in [*self._inputs, *passed_on]:
            if name not in sizes:
                sizes[name] = self._make_parts(name)
        ends = list(accumulate(sizes[name] for name in self._inputs))
        self.columns = {
            name: slice(end - sizes[name], end)
            for name, end in zip(self._inputs, ends, strict=True)
        }
        size = ends[-1] + discount_embedding
        self.embedding = self._make_embedding(discount_embedding) if discount_embedding else None
        self.layers = fully_connected(size, hidden_sizes)
        own_size = hidden_sizes[-1] if hidden_sizes else size
        self.sizes = [own_size, *(sizes[name] for name in passed_on)]
        self.output_size = sum(self.sizes)

    def _register_code(self, actions: Actions) -> None:
        """Register the buffers that encode actions."""
        if isinstance(actions, Box):
            self.register_buffer("centre", torch.tensor(actions.centre), persistent=False)
            self.register_buffer("half_width", torch.tensor(actions.half_width), persistent=False)
            return
        nvec = actions.nvec if isinstance(actions, MultiDiscrete) else (actions.n,)
        # The last row of each number encodes that there was no action.
        one_hot = torch.block_diag(*(torch.eye(n + 1, n) for n in nvec))
        self.register_buffer("one_hot", one_hot, persistent=False)
        first_rows = torch.tensor([0, *accumulate(n + 1 for n in nvec[:-1])])
        self.register_buffer("first_rows", first_rows, persistent=False)

    def _make_embedding(self, width: int) -> nn.Linear:
        """The embedding of the discounts, and the buffer with them."""
        # They are learnt with the weights, and so part of a checkpoint.
        self.register_buffer("discounts", torch.zeros(2))
        embedding = Linear(2, width, bias=False)
        initialise_linear(embedding, 1.0)
        return embedding

    def forward(self, inputs: Inputs, playing: Tensor | None = None) -> Tensor:
        """The encoding `[..., E]`, float32.

        Args:
            inputs: inputs of one step `[B]` or of a window `[B, T]`.
            playing: where the encoding of images is needed, `[..., 1]`, bool; None for everywhere.
        """
        names = dict.fromkeys([*self._inputs, *self._passed_on])
        parts = {name: self._part_of(name, getattr(inputs, name), playing) for name in names}
        seen = [parts[name] for name in self._inputs]
        if self.embedding is not None:
            embedding = self.embedding(self.discounts)
            seen.append(embedding.expand(*seen[0].shape[:-1], -1))
        own = self.layers(torch.cat(seen, dim=-1))
        if not self._passed_on:
            return cast(Tensor, own)
        return torch.cat([own, *(parts[name] for name in self._passed_on)], dim=-1)

    def set_discounts(self, gamma: float, gae_lambda: float) -> None:
        """Set the discounts that are embedded, if they are: γ and GAE's λ."""
        if self.embedding is not None:
            self.discounts.copy_(self.discounts.new_tensor([gamma, gae_lambda]))

    def _make_parts(self, name: str) -> int:
        """Build the layers that an observation needs, and return the width of its encoding."""
        size = 0
        for part, box in self._boxes.items():
            if len(box.shape) == IMAGE_DIMS:
                images = ImageFeatures(box.shape)
                self.images[f"{name}_{part}" if part else name] = images
                size += images.output_size
            else:
                size += box.size
        return size

    def _part_of(self, name: str, entry: Observation, playing: Tensor | None) -> Tensor:
        """A field of the inputs as a vector, `[..., size]`."""
        if name == "previous_action":
            action = cast(Tensor, entry)
            if isinstance(self._actions, Discrete):
                return functional.embedding(action, self.one_hot)
            if isinstance(self._actions, MultiDiscrete):
                return functional.embedding(action + self.first_rows, self.one_hot).sum(dim=-2)
            # Scaled, so that the unit of the actions does not matter.
            return (action - self.centre) / self.half_width
        if name == "previous_done":
            return cast(Tensor, entry)
        if name == "previous_reward":
            reward = cast(Tensor, entry)
            return reward if self.normaliser is None else self.normaliser.earned(reward)
        parts = []
        for part, box in self._boxes.items():
            shown = entry if isinstance(entry, Tensor) else entry[part]
            key = f"{name}_{part}" if part else name
            if key in self.images:
                parts.append(self.images[key](shown, playing))
            else:
                flat = shown.flatten(-len(box.shape)).float()
                if self.normaliser is not None:
                    flat = self.normaliser.observation(part, flat)
                parts.append(flat)
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

"""Episodic planning: each step reads the stored transitions several times.

A cheaper variant of the episodic planning networks of arXiv 2006.03662.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rl2_lightning.agents.initialisation import initialise_linear
from rl2_lightning.agents.memories.cache import longest_past
from rl2_lightning.agents.memories.memory import Memory, State, shared_zeros
from rl2_lightning.agents.products import Linear
from rl2_lightning.errors import UserError
from rl2_lightning.settings import Settings, between, make_settings

NUM_HEADS = 4  # match the token's start or goal to a transition's start or end
CHUNK = 50  # steps of a window computed at once, so that memory is linear in the window's length
SHARPNESS = 2.0  # of the initial attention: equal embeddings get e² times the weight of others


@dataclass
class EpisodicPlanningSettings(Settings):
    """Settings of episodic planning.

    Attributes:
        hidden_size: H, width of a token and of the features; 4 divides it.
        max_transitions: N, number of the last transitions that are stored.
        num_iterations: number of reads of the stored transitions per step.
    """

    hidden_size: int = between(1, default=128)
    max_transitions: int = between(1, default=100)
    num_iterations: int = between(1, 100, default=3)

    def check(self) -> None:
        """See `Settings.check`."""
        if self.hidden_size % NUM_HEADS:
            wider = self.hidden_size + -self.hidden_size % NUM_HEADS
            raise UserError(
                f"memory.hidden_size={self.hidden_size} does not divide into {NUM_HEADS} heads: "
                f"set memory.hidden_size={wider}"
            )


class EpisodicPlanning(Memory):
    """Stores the last N transitions, and plans on them anew in each step.

    A transition is a pair of embedded successive encodings, of the inputs before and after a step;
    the latter include the action. So it covers whatever the agent sees. The state is the last
    embedding, `[B, H / 4]`, the keys and the values of the last N transitions for each of 4 heads,
    the newest last, `[B, 4, N, H / 4]`, and the number of transitions so far, `[B, 1]`, int64.

    Each step makes a token from the current encoding: its start, its goal, and as many zeros for
    working space. A block of attention and fully connected layers with shared weights reads the
    stored transitions `num_iterations` times, each time depending on the results so far; a last
    layer computes the features.

    The paper's network combines every stored transition with the current inputs and lets all of
    them attend to each other, N² pairs for each step of each iteration. Here only the token
    attends, which takes N pairs, and keys and values of the transitions are computed once for all
    steps and iterations: it plans backwards from its goal, or forwards, one transition per
    iteration. The paper's maximum over the transitions is not needed.

    Attention that has to match two things at once is hardly learnt from random weights. So it is
    initialised to match equal embeddings, which works because both ends of a transition are
    embedded with the same weights: the four heads look for transitions that begin at the token's
    start, end at its start, begin at its goal, and end at its goal.

    Args:
        input_size: I, width of the encoding.
        **settings: fields of `EpisodicPlanningSettings`.
    """

    Settings = EpisodicPlanningSettings

    def __init__(self, input_size: int, **settings: Any) -> None:
        super().__init__()
        self.settings = make_settings(EpisodicPlanningSettings, settings, "memory")
        width = self.output_size = self.settings.hidden_size
        self.part = width // NUM_HEADS
        self.embedding = Linear(input_size, self.part)
        self.goal = Linear(input_size, self.part)
        self.transition = nn.LayerNorm(2 * self.part)
        self.key = Linear(2 * self.part, width)
        self.value = Linear(2 * self.part, width)
        self.token = nn.LayerNorm(width)
        self.query = Linear(width, width)
        self.read = Linear(width, width)
        self.layers = nn.Sequential(
            nn.LayerNorm(width), Linear(width, 2 * width), nn.ReLU(), Linear(2 * width, width)
        )
        self.plan = nn.LayerNorm(width)
        self.output = nn.Sequential(Linear(width + input_size, width), nn.ReLU())
        self.age_bias = nn.Parameter(torch.zeros(NUM_HEADS, self.settings.max_transitions))
        self._initialise()

    def initial_state(self, num: int) -> State:
        """A state without transitions; see `Memory.initial_state`."""
        like = self.age_bias.detach()
        stored = NUM_HEADS, self.settings.max_transitions, self.part
        count = shared_zeros(num, 1, device=like.device, dtype=torch.int64)
        shapes = (self.part,), stored, stored
        return *(shared_zeros(num, *shape, device=like.device) for shape in shapes), count

    def step(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory.step`."""
        features, state = self._plan(encoding.unsqueeze(1), state, self.settings.max_transitions)
        return features.squeeze(1), state

    def unroll_trial(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory.unroll_trial`; computes all steps of a chunk at once."""
        parts = []
        most = longest_past(state[-1], self.settings.max_transitions)
        for chunk in encoding.split(CHUNK, dim=1):
            # Skip the entries of transitions that do not exist yet.
            features, state = self._plan(chunk, state, min(most, self.settings.max_transitions))
            parts.append(features)
            most += chunk.shape[1]
        return torch.cat(parts, dim=1), state

    def _plan(self, encoding: Tensor, state: State, num_old: int) -> tuple[Tensor, State]:
        """The features of some steps, which read `num_old` old transitions, and the next state.

        Args:
            encoding: `[B, T, I]`.
            state: state before them.
            num_old: maximum number of old transitions.

        Returns:
            The features, `[B, T, H]`, and the state after the last step.
        """
        last, old_keys, old_values, count = state
        # The state is float32, also under autocast.
        embedding = self.embedding(encoding).to(last.dtype)
        before = torch.cat([last.unsqueeze(1), embedding[:, :-1]], dim=1)
        # An idle step may contain NaN. Its weight in the attention is zero, but 0 * NaN is NaN.
        transition = self.transition(torch.cat([before, embedding], dim=-1)).nan_to_num()
        keys = torch.cat([old_keys, self._heads(self.key(transition).to(last.dtype))], dim=2)
        values = torch.cat([old_values, self._heads(self.value(transition).to(last.dtype))], dim=2)
        first = self.settings.max_transitions - num_old
        bias = self._bias(count, encoding.shape[1], first)
        token = torch.cat([embedding, self.goal(encoding)], dim=-1)
        token = functional.pad(token, (0, self.output_size - 2 * self.part))
        for _ in range(self.settings.num_iterations):
            query = self._heads(self.query(self.token(token)))
            weights = torch.softmax(query @ keys[:, :, first:].transpose(-1, -2) + bias, dim=-1)
            found = (weights @ values[:, :, first:]).transpose(1, 2).flatten(2)
            token = token + self.read(found)
            token = token + self.layers(token)
        features = self.output(torch.cat([self.plan(token), encoding], dim=-1))
        stored = [entries[:, :, encoding.shape[1] :] for entries in (keys, values)]
        return features, (embedding[:, -1], *stored, count + encoding.shape[1])

    def _bias(self, count: Tensor, num_steps: int, first: int) -> Tensor:
        """The bias of the attention's logits: a number for each age, or minus infinity.

        Args:
            count: number of transitions before the steps, `[B, 1]`.
            num_steps: T.
            first: number of entries for old transitions that are left out.

        Returns:
            `[B, heads, T, transitions]`.
        """
        num_kept = self.settings.max_transitions
        place = torch.arange(first, num_kept + num_steps, device=count.device)
        age = torch.arange(num_steps, device=count.device).unsqueeze(1) + num_kept - place
        is_stored = place >= num_kept - count
        is_read = (age >= 0) & (age < num_kept) & is_stored.unsqueeze(1)
        by_age = self.age_bias[:, age.clamp(0, num_kept - 1)]
        return by_age.masked_fill(~is_read.unsqueeze(1), -torch.inf)

    def _heads(self, entries: Tensor) -> Tensor:
        """Split `[B, T, H]` into `[B, heads, T, H / heads]`."""
        return entries.unflatten(-1, (NUM_HEADS, self.part)).transpose(1, 2)

    def _initialise(self) -> None:
        initialise_linear(self, gain=1.0)
        for layer in (self.layers[1], self.output[0]):
            initialise_linear(layer, gain=2**0.5)
        for layer in (self.read, self.layers[3]):
            initialise_linear(layer, gain=0.5)
        parts = torch.eye(self.output_size).split(self.part)
        begins, ends = parts[0], parts[1]
        with torch.no_grad():
            self.query.weight.copy_(torch.cat([begins, begins, ends, ends]))
            self.query.weight.mul_(SHARPNESS / self.part**0.5)
            both = 2 * self.part
            self.key.weight.copy_(torch.cat([begins, ends, begins, ends])[:, :both])

"""Episodic planning: the step that is being taken reads the stored transitions again and again.

After the episodic planning networks of arXiv 2006.03662, made to cost less.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rl2_lightning.agents.initialisation import initialise_linear
from rl2_lightning.agents.memories.memory import Memory, State
from rl2_lightning.errors import UserError
from rl2_lightning.settings import Settings, between, make_settings

NUM_HEADS = 4  # what is looked for, and where: beginnings or ends, among beginnings or ends
CHUNK = 50  # steps of a window that are taken at once: memory grows with the window, not its square
SHARPNESS = 2.0  # of the attention at first: what is alike counts e² times what is not


@dataclass
class EpisodicPlanningSettings(Settings):
    """What can be set.

    Attributes:
        hidden_size: H, width of a token and of the features; 4 divides it.
        max_transitions: N, how many of the last transitions are kept.
        num_iterations: how often the stored transitions are read in a step.
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
    """Keeps the last N transitions, and plans on them anew in each step.

    A transition is a pair of successive encodings, embedded: what was shown before, and what was
    shown after, which tells the action, too. So it is whatever the agent sees. The state is the
    last embedding, `[B, H / 4]`, the keys and the values of the last N transitions for each of 4
    heads, of which the newest stands last, `[B, 4, N, H / 4]`, and how many there have been,
    `[B, 1]`, int64.

    In a step a token is made of the present encoding: where it begins, where it is to lead, and as
    much free space again. One block of attention and fully connected layers, always with the same
    weights, lets it read the stored transitions `num_iterations` times, each time by what it has
    found before; then come a layer and the features.

    The paper's network gives the present inputs to every stored transition and lets all of them
    read each other, N² pairs for each step of each iteration. Here only the token reads, which is N
    pairs, and keys and values of the transitions are computed once for all steps and iterations: it
    plans backwards from its goal, or forwards, one transition with each iteration. There is nothing
    left for the paper's maximum over the transitions.

    Attention that matches two things at once hardly begins to be learnt from random weights. So it
    begins by matching what is alike, which an embedding of both ends of a transition by the same
    weights makes possible: the heads look for transitions that begin where the token begins, that
    end there, and the same of where it is to lead.

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
        self.embedding = nn.Linear(input_size, self.part)
        self.goal = nn.Linear(input_size, self.part)
        self.transition = nn.LayerNorm(2 * self.part)
        self.key = nn.Linear(2 * self.part, width)
        self.value = nn.Linear(2 * self.part, width)
        self.token = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.read = nn.Linear(width, width)
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )
        self.plan = nn.LayerNorm(width)
        self.output = nn.Sequential(nn.Linear(width + input_size, width), nn.Tanh())
        self.age_bias = nn.Parameter(torch.zeros(NUM_HEADS, self.settings.max_transitions))
        self._initialise()

    def initial_state(self, num: int) -> State:
        """No transition; see `Memory.initial_state`."""
        like = self.age_bias.detach()
        stored = like.new_zeros(num, NUM_HEADS, self.settings.max_transitions, self.part)
        count = torch.zeros(num, 1, dtype=torch.int64, device=like.device)
        return like.new_zeros(num, self.part), stored, stored.clone(), count

    def step(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory.step`."""
        features, state = self._plan(encoding.unsqueeze(1), state, self.settings.max_transitions)
        return features.squeeze(1), state

    def unroll_trial(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory.unroll_trial`; all steps of a chunk at once."""
        parts = []
        most = int(state[-1].max())
        for chunk in encoding.split(CHUNK, dim=1):
            # Where there is nothing yet, there is nothing to be read.
            features, state = self._plan(chunk, state, min(most, self.settings.max_transitions))
            parts.append(features)
            most += chunk.shape[1]
        return torch.cat(parts, dim=1), state

    def _plan(self, encoding: Tensor, state: State, num_old: int) -> tuple[Tensor, State]:
        """The features of some steps, which read that many old transitions, and the state then.

        Args:
            encoding: `[B, T, I]`.
            state: before them.
            num_old: how many old transitions there are, at most.

        Returns:
            The features, `[B, T, H]`, and the state after the last step.
        """
        last, old_keys, old_values, count = state
        # What is kept is float32 under autocast, too.
        embedding = self.embedding(encoding).to(last.dtype)
        before = torch.cat([last.unsqueeze(1), embedding[:, :-1]], dim=1)
        # An idle step may hold NaN. Nothing reads it, but NaN times nothing is NaN.
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
        """What is added to the logits: a number for each age, or minus infinity.

        Args:
            count: how many transitions were stored before the steps, `[B, 1]`.
            num_steps: T.
            first: how many of the places for old ones are left out.

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
        """Splits `[B, T, H]` into `[B, heads, T, H / heads]`."""
        return entries.unflatten(-1, (NUM_HEADS, self.part)).transpose(1, 2)

    def _initialise(self) -> None:
        initialise_linear(self, gain=1.0)
        initialise_linear(self.layers[1], gain=2**0.5)
        for layer in (self.read, self.layers[3]):
            initialise_linear(layer, gain=0.5)
        parts = torch.eye(self.output_size).split(self.part)
        begins, ends = parts[0], parts[1]
        with torch.no_grad():
            self.query.weight.copy_(torch.cat([begins, begins, ends, ends]))
            self.query.weight.mul_(SHARPNESS / self.part**0.5)
            both = 2 * self.part
            self.key.weight.copy_(torch.cat([begins, ends, begins, ends])[:, :both])

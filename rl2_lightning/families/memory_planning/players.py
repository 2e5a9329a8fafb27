"""The reference players of the Memory & Planning game, with a known or a learnt map."""

from typing import NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning.families.player import Player
from rl2_lightning.inputs import Inputs

SYMBOLS = "symbols"  # [B, cells, symbols], float32: which symbol is in which cell, one-hot

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1), (0, 0))  # up, right, down, left, collect: rows, columns
COLLECT = 4


class Map(NamedTuple):
    """What a player knows about B tori.

    Attributes:
        piece: number of the map piece of each symbol, `[B, symbols]`, int64.
        place: row and column on it, `[B, symbols, 2]`, int64. The origin of a piece is arbitrary:
            only differences within a piece have a meaning.
    """

    piece: Tensor
    place: Tensor


class LearnsTheMap(Player):
    """Draws a map from what it sees, and uses it to navigate.

    It knows that the symbols are on a torus, and its size. At first each symbol is a map piece of
    its own; a move from one symbol to another joins their pieces. If the goal is on the current
    piece, it takes a shortest way, through unseen cells if there is a choice. Otherwise it goes to
    the nearest unseen cell. This is not optimal, but close: a search for the goal has to see half
    of the missing cells on average, and nearly every step sees a new one.

    Args:
        size: cells of a side.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def start(self, tasks: TensorDictBase) -> Map:
        """A map in which each symbol is a piece of its own."""
        symbols = torch.arange(self.size**2, device=tasks.device).expand(len(tasks), -1)
        return Map(symbols, symbols.new_zeros(*symbols.shape, 2))

    def choose(self, memory: Map, observation: Tensor, generator: torch.Generator) -> Tensor:
        """Walk to the goal or to an unseen cell; see `Player.choose`."""
        here, goal = symbols_of(observation)
        ahead = (memory.place - at(memory.place, here)) % self.size
        is_on_map = memory.piece == at(memory.piece, here)
        cells = torch.where(is_on_map, self._index(ahead), self.size**2)
        nothing = torch.zeros(len(cells), self.size**2 + 1, dtype=torch.bool, device=cells.device)
        seen = nothing.scatter(1, cells, value=True)[:, :-1]
        target = torch.where(
            at(is_on_map, goal).squeeze(1),
            at(self._index(ahead), goal).squeeze(1),
            self._nearest_unseen(seen, generator),
        )
        move = self._step_towards(target, seen, generator)
        return torch.where(target == 0, COLLECT, move)

    def learn(self, memory: Map, observation: Tensor, inputs: Inputs) -> Map:
        """Join two map pieces if a step led from one to the other; see `Player.learn`."""
        assert isinstance(inputs.observation, Tensor)
        (before, _), (after, _) = symbols_of(observation), symbols_of(inputs.observation)
        action = inputs.previous_action
        # Collecting and the end of an episode may lead anywhere.
        has_moved = (action != COLLECT).unsqueeze(1) & (inputs.previous_done == 0)
        joins = has_moved & (memory.piece == at(memory.piece, after))
        reached = at(memory.place, before) + self._moves(action)[action].unsqueeze(1)
        moved = (memory.place + reached - at(memory.place, after)) % self.size
        return Map(
            torch.where(joins, at(memory.piece, before), memory.piece),
            torch.where(joins.unsqueeze(2), moved, memory.place),
        )

    def _nearest_unseen(self, seen: Tensor, generator: torch.Generator) -> Tensor:
        """The index of a nearest unseen cell, relative to the agent's cell, `[B]`, int64."""
        draw = torch.rand(seen.shape, generator=generator, device=seen.device)
        return (self._distances(seen) + draw).masked_fill(seen, torch.inf).argmin(1)

    def _step_towards(self, target: Tensor, seen: Tensor, generator: torch.Generator) -> Tensor:
        """A move towards the target, to an unseen cell if possible, `[B]`, int64."""
        moves = self._moves(target)[:COLLECT]
        to = torch.stack([target // self.size, target % self.size], dim=1).unsqueeze(1)
        left = self._distances(target)[self._index((to - moves) % self.size)]
        is_known = seen[:, self._index(moves % self.size)]
        draw = torch.rand(left.shape, generator=generator, device=left.device)
        return (left + (is_known + draw) / 3).argmin(1)

    def _moves(self, like: Tensor) -> Tensor:
        return torch.tensor(MOVES, device=like.device)

    def _distances(self, like: Tensor) -> Tensor:
        """The number of moves from the first cell to each cell, `[cells]`, int64."""
        line = torch.arange(self.size, device=like.device)
        around = torch.minimum(line, self.size - line)
        return (around.unsqueeze(1) + around).flatten()

    def _index(self, place: Tensor) -> Tensor:
        """The number of a cell, row by row, from its row and column, `[..., 2]`."""
        return place[..., 0] * self.size + place[..., 1]


class KnowsTheMap(LearnsTheMap):
    """Takes a shortest way to each goal: the optimum, since goals are independent of actions.

    Args:
        size: cells of a side.
    """

    privileged = True

    def start(self, tasks: TensorDictBase) -> Map:
        """The whole map, in one piece."""
        cell = tasks[SYMBOLS].argmax(dim=1)
        place = torch.stack([cell // self.size, cell % self.size], dim=2)
        return Map(torch.zeros_like(cell), place)

    def learn(self, memory: Map, observation: Tensor, inputs: Inputs) -> Map:
        """Return the memory unchanged: there is nothing to learn."""
        return memory


def symbols_of(observation: Tensor) -> tuple[Tensor, Tensor]:
    """The symbol in the agent's cell and the goal, `[B]`, int64, from the observation."""
    here, goal = observation.chunk(2, dim=1)
    return here.argmax(1), goal.argmax(1)


def at(entries: Tensor, symbol: Tensor) -> Tensor:
    """The entries `[B, 1, ...]` of the given symbols `[B]`, out of all, `[B, symbols, ...]`."""
    rows = torch.arange(len(symbol), device=symbol.device)
    return entries[rows, symbol].unsqueeze(1)

"""The optimal search of a grid for a hidden goal, over several episodes."""

from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MOVES = ((0, 0), (-1, 0), (0, 1), (1, 0), (0, -1))  # stay, up, right, down, left: rows, columns
GOAL_REWARD = 1.0
STEP_REWARD = -0.1

BEAM = 2000  # partial paths kept in a first, quick search
TOLERANCE = 1e-9


def goal_cells(size: int) -> Tensor:
    """The possible goals: all cells but the start, in the corner, and the three next to it.

    Args:
        size: cells of a side.

    Returns:
        Indices of cells, row by row, `[size² - 4]`, int64.
    """
    cells = torch.arange(size**2)
    return cells[(cells // size > 1) | (cells % size > 1)]


def known_goal_returns(size: int, horizon: int) -> Tensor:
    """The best return of an episode with a known goal, for each cell of the goal.

    Args:
        size: cells of a side.
        horizon: length of an episode, in env steps.

    Returns:
        `[size²]`, float64.
    """
    cells = torch.arange(size**2)
    walking = (cells // size + cells % size - 1).clamp(max=horizon).double()
    return STEP_REWARD * walking + GOAL_REWARD * (horizon - walking)


class Frontier(NamedTuple):
    """Partial paths of one length, the best for each last cell and set of searched cells.

    Attributes:
        searched: `[P]`, int64: the set of visited candidates, one bit for each.
        cell: `[P]`, int64: the last cell of the path.
        earned: `[P]`, float64: contribution of the candidates visited so far.
        parent: `[P]`, int64: index of the path, one step shorter, that each extends.
    """

    searched: NDArray[np.int64]
    cell: NDArray[np.int64]
    earned: NDArray[np.float64]
    parent: NDArray[np.int64]

    def take(self, index: NDArray[np.int64]) -> "Frontier":
        """Some of the paths."""
        return Frontier(
            self.searched[index], self.cell[index], self.earned[index], self.parent[index]
        )


class GoalSearch:
    """Maximises the expected return of a trial whose goal is uniform over G cells.

    Until the goal is found, a player only learns where it is not. So its behaviour until then is a
    path that can be planned ahead, through all episodes, each from the start. Once the path visits
    the goal, it is best to stay, and in later episodes to go straight there. The return of a trial
    then depends only on the step of this first visit, and the path has to maximise the sum over the
    G cells.

    The search is exact, by branch and bound: of paths of the same length that end in the same cell
    and have searched the same cells, only the best is kept, and paths are dropped whose bound is
    below the result of a quick search. The bound assumes that each coming step finds a goal, the
    best ones first.

    Args:
        size: cells of a side.
        horizon: H, length of an episode, in env steps.
        num_episodes: E, length of a trial, in episodes.
    """

    def __init__(self, size: int, horizon: int, num_episodes: int) -> None:
        self.size = size
        self.horizon = horizon
        self.num_episodes = num_episodes
        self.goals = goal_cells(size).numpy()
        self._later = known_goal_returns(size, horizon).numpy()[self.goals]
        self._never = STEP_REWARD * horizon * num_episodes
        self._bit_of_cell = np.full(size**2, -1)
        self._bit_of_cell[self.goals] = np.arange(len(self.goals))

    @cached_property
    def first_visits(self) -> NDArray[np.int64]:
        """The env step of the trial at which the best path first visits each cell.

        Returns:
            `[size²]`, int64: 1 means after the first step; `H E + 1` means never.
        """
        quick, _ = self._search(-np.inf, BEAM)
        _, path = self._search(quick - TOLERANCE, None)
        visits = np.full(self.size**2, len(path) + 1)
        # Backwards, so that the first visit is written last.
        visits[path[::-1]] = np.arange(len(path), 0, -1)
        return visits

    @property
    def value(self) -> float:
        """The exact expected return of a trial, in units of reward."""
        visits = self.first_visits[self.goals]
        found = visits <= self.horizon * self.num_episodes
        earned = [
            self._found_at(*divmod(int(visit) - 1, self.horizon))[bit] if was_found else self._never
            for bit, (visit, was_found) in enumerate(zip(visits, found, strict=True))
        ]
        return float(np.mean(earned))

    def _found_at(self, episode: int, step: int) -> NDArray[np.float64]:
        """The return of a trial whose goal is first visited at this step, counted from 0; `[G]`."""
        left = self.num_episodes - 1 - episode
        return self._within(episode, step) + left * self._later

    def _within(self, episode: int, step: int) -> float:
        """The part of it up to the end of the episode in which the goal is found."""
        searching = self.horizon * episode + step
        return STEP_REWARD * searching + GOAL_REWARD * (self.horizon - step)

    def _search(self, at_least: float, beam: int | None) -> tuple[float, NDArray[np.int64]]:
        """The best path, and the sum of returns over all goals; `[H E]` cells."""
        start = np.zeros(1, np.int64)
        frontiers = [Frontier(start, start, np.zeros(1), start)]
        for episode in range(self.num_episodes):
            for step in range(self.horizon):
                frontier = self._prolong(frontiers[-1], episode, step)
                bound = frontier.earned + self._bound(frontier.searched, episode, step + 1)
                kept = np.flatnonzero(bound >= at_least)
                if beam is not None and len(kept) > beam:
                    kept = kept[np.argpartition(-bound[kept], beam)[:beam]]
                frontiers.append(frontier.take(kept))
        last = frontiers[-1]
        missing = len(self.goals) - self._searched_bits(last.searched).sum(1)
        total = last.earned + self._never * missing
        best = int(total.argmax())
        return float(total[best]), self._trace(frontiers, best)

    def _prolong(self, frontier: Frontier, episode: int, step: int) -> Frontier:
        begins = np.zeros_like(frontier.cell) if step == 0 else frontier.cell
        parent = np.repeat(np.arange(len(begins)), len(MOVES))
        cell = self._neighbours[begins].reshape(-1)
        bit = self._bit_of_cell[cell]
        flag = np.where(bit >= 0, np.int64(1) << np.maximum(bit, 0), 0)
        is_new = (flag > 0) & (frontier.searched[parent] & flag == 0)
        gain = np.where(is_new, self._found_at(episode, step)[bit], 0.0)
        earned, searched = frontier.earned[parent] + gain, frontier.searched[parent] | flag
        order = np.lexsort((-earned, cell, searched))
        same = (np.diff(searched[order]) == 0) & (np.diff(cell[order]) == 0)
        best = order[np.concatenate([[True], ~same])]
        return Frontier(searched, cell, earned, parent).take(best)

    @cached_property
    def _neighbours(self) -> NDArray[np.int64]:
        row, column = np.divmod(np.arange(self.size**2), self.size)
        rows = np.clip(row[:, None] + [move[0] for move in MOVES], 0, self.size - 1)
        columns = np.clip(column[:, None] + [move[1] for move in MOVES], 0, self.size - 1)
        return rows * self.size + columns

    def _searched_bits(self, searched: NDArray[np.int64]) -> NDArray[np.bool_]:
        return (searched[:, None] >> np.arange(len(self.goals)) & 1).astype(bool)

    def _bound(self, searched: NDArray[np.int64], episode: int, step: int) -> NDArray[np.float64]:
        """An upper bound for the contribution of the other goals from this step on; `[P]`."""
        slots = [(episode, s) for s in range(step, self.horizon)]
        for later_episode in range(episode + 1, self.num_episodes):
            # No goal is closer than two steps.
            slots += [(later_episode, s) for s in range(1, self.horizon)]
        num_goals = len(self.goals)
        slots = slots[:num_goals]
        never = num_goals - len(slots)
        within = np.array([self._within(*slot) for slot in slots] + [self._never] * never)
        episodes_left = np.array([self.num_episodes - 1 - e for e, _ in slots] + [0] * never)
        missing = ~self._searched_bits(searched)
        # The larger returns of later episodes go with the earlier slots.
        later = -np.sort(np.where(missing, -self._later, np.inf), axis=1)
        later[np.isinf(later)] = 0
        sums = np.concatenate([[0.0], within.cumsum()])
        return sums[missing.sum(1)] + (later * episodes_left).sum(1)

    @staticmethod
    def _trace(frontiers: list[Frontier], index: int) -> NDArray[np.int64]:
        cells = []
        for frontier in frontiers[:0:-1]:
            cells.append(frontier.cell[index])
            index = frontier.parent[index]
        return np.array(cells[::-1])

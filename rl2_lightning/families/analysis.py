"""The contract of a family's own analysis: what its trials tell beyond their returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from tensordict import TensorDictBase
from torchmetrics import Metric

from rl2_lightning.means import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Finding(Protocol):
    """What an analysis has found of a player."""

    def estimates(self) -> dict[str, Estimate]:
        """All figures by name."""


class Analysis(ABC):
    """Reads played trials of a family.

    An evaluation keeps for it the reward, the episode and the mask of each step, and what the
    family names in `recorded_keys`.

    Attributes:
        name: of its files, `<name>.csv` and `<name>.png`.
        prefix: of its figures in TensorBoard and in tables.
        main_figures: names of the figures that matter; None for all.
        references: names of the reference players that are shown beside an agent.
    """

    name: ClassVar[str]
    prefix: ClassVar[str]
    main_figures: ClassVar[tuple[str, ...] | None] = None
    references: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def make_metric(self, **options: Any) -> Metric:
        """A metric that accumulates trials and computes a `Finding`.

        Args:
            **options: of `torchmetrics.Metric`.
        """

    @abstractmethod
    def add(self, metric: Any, trials: TensorDictBase) -> None:
        """Adds played trials, `[B, T]`, to what `make_metric` has made."""

    def figure(self, findings: Mapping[str, Any], title: str) -> Figure | None:
        """Draws the findings of some players, by name, where there is something to be seen."""
        return None

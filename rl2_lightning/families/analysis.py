"""The base class of a family's own analysis of trials, beyond their returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from tensordict import TensorDictBase
from torchmetrics import Metric

from rl2_lightning.means import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Finding(Protocol):
    """The results of an analysis for a player."""

    def estimates(self) -> dict[str, Estimate]:
        """All figures by name."""


class Figures(NamedTuple):
    """A finding that is no more than its figures.

    Attributes:
        figures: the figures by name.
    """

    figures: dict[str, Estimate]

    def estimates(self) -> dict[str, Estimate]:
        """All figures by name."""
        return self.figures


class Analysis(ABC):
    """Analyses played trials of a family.

    An evaluation records for it the reward, the episode and the mask of each step, and the entries
    in the family's `recorded_keys`.

    Attributes:
        name: base name of its files, `<name>.csv` and `<name>.png`.
        prefix: prefix of its figures in TensorBoard and in tables.
        main_figures: names of the main figures; None for all.
        references: names of the reference players to compare an agent with.
    """

    name: ClassVar[str]
    prefix: ClassVar[str]
    main_figures: ClassVar[tuple[str, ...] | None] = None
    references: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def make_metric(self, **options: Any) -> Metric:
        """A metric that accumulates trials and computes a `Finding`.

        Args:
            **options: options of `torchmetrics.Metric`.
        """

    def add(self, metric: Any, trials: TensorDictBase) -> None:
        """Add played trials, `[B, T]`, to a metric from `make_metric`."""
        metric.update(trials)

    def figure(self, findings: Mapping[str, Any], title: str) -> Figure | None:
        """Draw the findings of some players, by name; None if there is nothing to draw."""
        return None

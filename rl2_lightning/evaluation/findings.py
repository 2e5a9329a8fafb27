"""The main results of a family's own analysis, for tables."""

from collections.abc import Mapping

from rl2_lightning.families.analysis import Analysis, Finding
from rl2_lightning.means import Estimate


def main_figures(analysis: Analysis, findings: Mapping[str, Finding]) -> dict[str, Estimate]:
    """The main figures, by `<prefix>_<figure>_<mode>`.

    Args:
        analysis: analysis of the family.
        findings: results of an agent, by the way it acted.
    """
    return {
        f"{analysis.prefix}_{name}_{mode}": found.estimates()[name]
        for mode, found in findings.items()
        for name in analysis.main_figures or found.estimates()
    }

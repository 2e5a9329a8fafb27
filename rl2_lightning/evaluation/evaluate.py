"""Evaluate an agent on held-out tasks without a trainer."""

from collections.abc import Mapping
from typing import NamedTuple

import torch

from rl2_lightning.agents.agent import Agent
from rl2_lightning.evaluation.adaptation_curve import AdaptationCurve, Curve
from rl2_lightning.evaluation.held_out import MODES, HeldOut, add_returns
from rl2_lightning.families.analysis import Finding
from rl2_lightning.progress import track_slow


class Evaluation(NamedTuple):
    """The results of an agent in each of `MODES`.

    Attributes:
        curves: its adaptation curves.
        findings: results of the family's own analysis; empty if there is none.
    """

    curves: Mapping[str, Curve]
    findings: Mapping[str, Finding]


def evaluate(agent: Agent, held_out: HeldOut, device: torch.device | str = "cpu") -> Evaluation:
    """Let an agent play one trial of each held-out task, greedily and by sampling.

    Args:
        agent: the agent that plays; moved to the device.
        held_out: the tasks.
        device: device on which they are played.

    Raises:
        NonFiniteLossError: the policy's probabilities are not finite.
    """
    place = torch.device(device)
    loaders = held_out.loaders(agent.to(place), place)
    analysis = held_out.analysis
    curves: dict[str, Curve] = {}
    findings: dict[str, Finding] = {}
    for mode, loader in zip(MODES, loaders, strict=True):
        curve = AdaptationCurve(held_out.num_episodes).to(place)
        metric = None if analysis is None else analysis.make_metric().to(place)
        for steps in track_slow(loader, f"{mode} play of held-out tasks"):
            add_returns(curve, steps)
            if analysis is not None:
                analysis.add(metric, steps)
        curves[mode] = curve.compute()
        if metric is not None:
            findings[mode] = metric.compute()
    return Evaluation(curves, findings)

"""The surrogate problem of a trust region, over the windows of all ranks."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.agents.memories.memory import second_derivatives
from rl2_lightning.learners.natural_gradient import (
    Found,
    as_vector,
    assign,
    flat_gradient,
    hessian_vector_product,
    line_search,
)
from rl2_lightning.learners.ranks import sum_over_ranks
from rl2_lightning.learners.windows import line_up_entries, window_features


class Measure(NamedTuple):
    """Means over the steps of all ranks.

    Attributes:
        objective: the surrogate objective, including the entropy bonus.
        divergence: KL(old ‖ new), in nats.
        entropy: entropy of the policy, in nats.
    """

    objective: float
    divergence: float
    entropy: float


class SurrogateProblem:
    """Maximise the surrogate objective near the old policy (arXiv 1502.05477, equation 14).

    Its results are means over the steps of all ranks, the same on each rank. One chunk of the
    windows is processed at a time, in order, which bounds memory.

    Args:
        agent: the agent, with the weights of the old policy, which collected the windows.
        chunks: this rank's windows, `[N]` each, with normalised advantages.
        fisher_chunks: the windows for the Fisher matrix.
        entropy_coefficient: weight of the entropy in the objective.
    """

    def __init__(
        self,
        agent: Agent,
        chunks: Sequence[TensorDictBase],
        fisher_chunks: Sequence[TensorDictBase],
        entropy_coefficient: float,
    ) -> None:
        self._agent = agent
        self._parameters = list(agent.parameters())
        self._chunks, self._fisher_chunks = chunks, fisher_chunks
        self._entropy_coefficient = entropy_coefficient
        self._num_steps, self._num_fisher_steps = self._count(chunks), self._count(fisher_chunks)
        with torch.no_grad():
            self._old = [agent.policy(self._features(chunk)) for chunk in chunks]

    def gradient(self) -> Tensor:
        """The gradient of the objective with respect to all P numbers of the agent, `[P]`."""
        total = self._nothing()
        for chunk, old in zip(self._chunks, self._old, strict=True):
            objective = self._sums(chunk, old)[0]
            total += flat_gradient(objective, self._parameters)
        return sum_over_ranks(total) / self._num_steps

    def fisher_vector_product(self, vector: Tensor) -> Tensor:
        """The product of the Fisher matrix of the agent's policy with a vector, `[P]` each.

        The Fisher matrix is the Hessian of the KL divergence of a policy from itself (arXiv
        1502.05477, appendix C).
        """
        total = self._nothing()
        for chunk in self._fisher_chunks:
            with second_derivatives():
                features = self._features(chunk)
                new = self._agent.policy(features)
            with torch.no_grad():
                old = self._agent.policy(features)
            divergence = kl_divergence(old, new).sum()
            total += hessian_vector_product(divergence, self._parameters, vector)
        return sum_over_ranks(total) / self._num_fisher_steps

    @torch.no_grad()
    def measure(self) -> Measure:
        """Objective, divergence and entropy of the agent with its present weights."""
        sums = [self._sums(*pair) for pair in zip(self._chunks, self._old, strict=True)]
        means = sum_over_ranks(torch.stack(sums).sum(dim=0)) / self._num_steps
        return Measure(*means.tolist())

    def take(self, step: Tensor, before: Measure, limit: float, num_steps: int) -> Found:
        """Take the largest fraction of a step that improves the policy within the limit.

        If there is none, the weights are exactly what they were.

        Args:
            step: the step, `[P]`.
            before: what `measure` returned without it.
            limit: largest divergence, in nats.
            num_steps: largest number of fractions that are tried.
        """
        old = as_vector(self._parameters).detach()

        def evaluate(fraction: float) -> tuple[float, float]:
            assign(self._parameters, old + fraction * step)
            reached = self.measure()
            return reached.objective, reached.divergence

        found = line_search(evaluate, objective=before.objective, limit=limit, num_steps=num_steps)
        if found.fraction == 0:
            assign(self._parameters, old)
        return found

    def _features(self, windows: TensorDictBase) -> Tensor:
        """The agent's features in the steps of windows that count, `[M, H]`."""
        features = {keys.FEATURES: window_features(self._agent, windows)}
        lined_up: Tensor = line_up_entries(windows.get(keys.WINDOW), features).get(keys.FEATURES)
        return lined_up

    def _sums(self, windows: TensorDictBase, old: Distribution) -> Tensor:
        """Sums over the steps of windows, `[3]`: objective, divergence and entropy."""
        window = windows.get(keys.WINDOW)
        names = (keys.ACTION, keys.ACTION_LOG_PROB, keys.ADVANTAGE)
        steps = line_up_entries(window, {name: window.get(name) for name in names})
        new = self._agent.policy(self._features(windows))
        ratio = (new.log_prob(steps.get(keys.ACTION)) - steps.get(keys.ACTION_LOG_PROB)).exp()
        gain = (ratio * steps.get(keys.ADVANTAGE).squeeze(-1)).sum()
        entropy = new.entropy().sum()
        divergence = kl_divergence(old, new).sum()
        return torch.stack([gain + self._entropy_coefficient * entropy, divergence, entropy])

    def _count(self, chunks: Sequence[TensorDictBase]) -> Tensor:
        """The number of steps of all ranks that count, `[1]`, float."""
        own = sum(int(chunk.get(keys.WINDOW).get(keys.MASK).sum()) for chunk in chunks)
        return sum_over_ranks(self._parameters[0].new_tensor([own]))

    def _nothing(self) -> Tensor:
        return torch.zeros_like(as_vector(self._parameters).detach())

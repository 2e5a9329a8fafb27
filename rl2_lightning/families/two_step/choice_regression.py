"""Regress the choice in the two-step task on the previous episode, adjusted for earlier ones.

The stay probability after a reward also depends on how good the action was before: actions that
earn by the common transition are mostly the right ones, and a player that learnt this earlier
repeats them. So even a model-free learner shows an interaction of reward and transition (Akam,
Costa and Dayan 2015). A regression on several episodes at once separates the two (Miller, Brody and
Botvinick 2016).
"""

from typing import NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.means import NORMAL_QUANTILE, Estimate

NUM_LAGS = 5  # number of previous episodes that explain a choice
NUM_PREDICTORS = 4 * NUM_LAGS + 1
NUM_GROUPS = 20  # groups of trials for the jackknife standard errors
# Weights of the conditions rewarded common, rewarded rare, unrewarded common, unrewarded rare.
REWARD_EFFECT = (0.5, 0.5, -0.5, -0.5)
INTERACTION = (1.0, -1.0, -1.0, 1.0)


class TwoStepChoices(NamedTuple):
    """Choices and outcomes in E episodes of B trials.

    Attributes:
        first_action: the action in state 0, `[B, E]`, int64.
        is_common: whether the transition was the common one, `[B, E]`, bool.
        reward: `[B, E]`, float32, 0 or 1.
    """

    first_action: Tensor
    is_common: Tensor
    reward: Tensor


def choices_of(trials: TensorDictBase) -> TwoStepChoices:
    """Read the choices from played trials of the two-step task.

    Args:
        trials: `[B, T]`, with the observation, the action and the reward. Trials of this family
            have the same length; an episode that is cut at the end is dropped.

    Returns:
        The choices and their outcomes.
    """
    whole = trials[:, : trials.batch_size[1] // 2 * 2]
    action = whole[keys.ACTION][:, ::2]
    second_state = whole[keys.OBSERVATION][:, 1::2].argmax(-1) - 1
    return TwoStepChoices(action, second_state == action, whole[keys.REWARD][:, 1::2].squeeze(-1))


def conditions_of(choices: TwoStepChoices) -> Tensor:
    """Whether each episode belongs to each of the four conditions, `[B, E, 4]`, bool."""
    rewarded, common = choices.reward > 0.5, choices.is_common
    return torch.stack(
        (rewarded & common, rewarded & ~common, ~rewarded & common, ~rewarded & ~common), -1
    )


def regression_sums(choices: TwoStepChoices) -> tuple[Tensor, Tensor]:
    """Return each trial's terms in the normal equations of the regression.

    A choice is coded as +1 or -1. The predictors are a constant and, for each of the five previous
    episodes, the choice made there, separately for the four conditions.

    Args:
        choices: choices of B trials of E episodes.

    Returns:
        X^T X, `[B, P, P]`, and X^T y, `[B, P]`, float64; P predictors, starting with those of the
        episode just before the choice.
    """
    sign = 2 * choices.first_action.double() - 1
    history = conditions_of(choices) * sign.unsqueeze(-1)
    num_explained = max(0, sign.shape[1] - NUM_LAGS)
    lagged = [history[:, lag : lag + num_explained] for lag in reversed(range(NUM_LAGS))]
    constant = torch.ones_like(lagged[0][..., :1])
    predictors = torch.cat((*lagged, constant), -1)
    explained = sign[:, NUM_LAGS:].unsqueeze(-1)
    transposed = predictors.transpose(1, 2)
    return transposed @ predictors, (transposed @ explained).squeeze(-1)


def adjusted_effects(gram: Tensor, moment: Tensor) -> tuple[Estimate, Estimate]:
    """Solve the regression, with standard errors by the jackknife over groups of trials.

    Args:
        gram: sum of X^T X over the trials of each group, `[G, P, P]`, float64, on the CPU.
        moment: sum of X^T y over them, `[G, P]`.

    Returns:
        The effect of a reward in the previous episode, and the interaction of reward and
        transition, both as differences of probabilities.
    """
    # All groups, and then leaving out one at a time.
    whole_gram, whole_moment = gram.sum(0, keepdim=True), moment.sum(0, keepdim=True)
    grams = torch.cat((whole_gram, whole_gram - gram))
    moments = torch.cat((whole_moment, whole_moment - moment))
    coefficients, _ = torch.linalg.solve_ex(grams, moments)
    # For a player that never changes its action the effects are undetermined.
    is_determined = torch.linalg.matrix_rank(grams, hermitian=True) == grams.shape[-1]
    coefficients = coefficients.where(is_determined.unsqueeze(1), torch.nan)
    # A difference in the coding of -1 and 1 is twice that of the probabilities.
    effects = coefficients[:, :4] @ coefficients.new_tensor([REWARD_EFFECT, INTERACTION]).T / 2
    value, without = effects[0], effects[1:]
    spread = (without - without.mean(0)).square().sum(0) * (len(gram) - 1) / len(gram)
    half_width = NORMAL_QUANTILE * spread.sqrt()
    reward_effect, interaction = map(Estimate, value.tolist(), half_width.tolist())
    return reward_effect, interaction

"""Collect trials with the interface of TorchRL's collectors."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from tensordict import TensorDictBase
from torchrl.collectors import BaseCollector

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.cuda_graphs import Recorded
from rl2_lightning.data.actor import AgentActor, require_finite
from rl2_lightning.families.play import Actor, play
from rl2_lightning.families.record import require_whole_episodes
from rl2_lightning.families.trial_env import TrialEnv


class TrialCollector(BaseCollector):
    """Plays batches of whole trials with the agent's current weights.

    Iterating over it never ends.

    Args:
        env: B trials; closed with the collector.
        agent: the agent that plays.
        state_steps: steps before which the state of the agent's memory is stored.
        num_extra_steps: steps played beyond the longest trial, for a value to bootstrap from.
        make_actor: makes what acts, from the generator of the actions; None for the agent itself.
        uses_graphs: whether all steps of a batch are recorded as one CUDA graph.
    """

    def __init__(
        self,
        env: TrialEnv,
        agent: Agent,
        *,
        state_steps: Sequence[int] = (0,),
        num_extra_steps: int = 0,
        make_actor: Callable[[torch.Generator], Actor] | None = None,
        uses_graphs: bool = False,
    ) -> None:
        super().__init__()
        self.env = env
        self.policy = agent
        self.requested_frames_per_batch = env.batch_size.numel() * env.max_steps
        self.total_frames = -1
        self._state_steps = state_steps
        self._num_extra_steps = num_extra_steps
        self._generator = torch.Generator(env.device)
        self._actor: Actor = AgentActor(agent, self._generator)
        if make_actor is not None:
            self._actor = make_actor(self._generator)
        self._uses_graphs = uses_graphs
        self._tasks: TensorDictBase | None = None  # which a recorded batch plays

    @property
    def frames_per_batch(self) -> int:
        """The maximum number of env steps of a batch."""
        return self.requested_frames_per_batch

    def update_policy_weights_(self, *_: Any, **__: Any) -> None:
        """Do nothing: the agent that plays is the one that learns."""

    def reset(self, *_: Any, **__: Any) -> None:
        """Do nothing: each batch begins with new trials."""

    def rollout(self) -> TensorDictBase:
        """One batch of trials, `[B]`, as `play` returns them; with graphs the next overwrites it.

        Raises:
            NonFiniteLossError: a reward or a probability is not finite.
            UserError: an episode ended early in a family with `ends_early = False`, or graphs are
                used and the play cannot be recorded.
        """
        trials = self._replayed() if self._uses_graphs else self._play()
        require_whole_episodes(trials[keys.STEPS], self.env)
        require_finite(trials[keys.STEPS], self.policy, self.env)
        return trials

    def _play(self) -> TensorDictBase:
        """Play trials of `_tasks`, or of new ones."""
        return play(
            self._actor,
            self.env,
            self._tasks,
            state_steps=self._state_steps,
            num_extra_steps=self._num_extra_steps,
        )

    def _replayed(self) -> TensorDictBase:
        """Play trials by replaying a graph; the next batch overwrites them.

        Tasks are drawn outside of the graph, since families may need to look at what they draw.
        """
        task_env = self.env.task_env
        tasks = task_env.sample_training_tasks(task_env.num_tasks)
        self._tasks = tasks.clone() if self._tasks is None else self._tasks.update_(tasks)
        return self._recorded().copy()

    @cached_property
    def _recorded(self) -> Recorded[TensorDictBase]:
        generators = [self.env.task_env.generator, self._generator]
        return Recorded(self._play, generators, reads=[self.env])

    def iterator(self) -> Iterator[TensorDictBase]:
        """Yield batches of trials without end."""
        while True:
            yield self.rollout()

    def seed(self, environment_seed: int, action_seed: int) -> None:
        """Seed the generators of the environment and of the actions.

        The two seeds must differ: GPU generators with the same seed give the same numbers, so that
        the agent's first action would depend on the task, which it cannot see.
        """
        self.env.set_seed(environment_seed)
        self._generator.manual_seed(action_seed)

    def set_seed(self, seed: int, static_seed: bool = False) -> int:
        """Seed both generators from one number, as in TorchRL's collectors; returns the next."""
        following: int = self.env.set_seed(seed, static_seed=static_seed)
        self._generator.manual_seed(following)
        return following

    def state_dict(self) -> OrderedDict[str, Any]:
        """The states of the generators, without the agent's weights."""
        return OrderedDict(
            environment=self.env.task_env.generator.get_state(),
            actions=self._generator.get_state(),
        )

    def load_state_dict(self, state_dict: OrderedDict[str, Any]) -> None:
        """Restore the states of the generators."""
        self.env.task_env.generator.set_state(state_dict["environment"])
        self._generator.set_state(state_dict["actions"])

    def shutdown(
        self, timeout: float | None = None, close_env: bool = True, raise_on_error: bool = True
    ) -> None:
        """Close the environment, and free the memory of a graph."""
        self.__dict__.pop("_recorded", None)
        if close_env and not self.env.is_closed:
            self.env.close(raise_if_closed=raise_on_error)

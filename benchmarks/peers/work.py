"""What the loops that are compared have to do: tasks, memory and sizes of an iteration."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Work:
    """An iteration of RL² with PPO: collect trials, then pass over them several times.

    Attributes:
        env: "bernoulli_bandit", or "tabular_mdp" with 10 states and episodes of 10 steps.
        num_actions: K, arms of a bandit or actions of an MDP.
        num_episodes: episodes of a trial; a pull is an episode.
        memory: "gru", "lstm" or "matrix".
        hidden_size: H, width of the memory.
        num_trials: B.
        num_epochs: passes over the trials.
        num_minibatches: minibatches of a pass.
        has_two_memories: whether the critic has a memory of its own.
        window: env steps of the windows into which this project cuts trials; None: whole trials.
    """

    env: str
    num_actions: int
    num_episodes: int
    memory: str
    hidden_size: int
    num_trials: int
    num_epochs: int = 4
    num_minibatches: int = 2
    has_two_memories: bool = False
    window: int | None = None

    @property
    def num_states(self) -> int:
        """Width of the observation: the state of an MDP as one-hot, or a constant."""
        return 1 if self.env == "bernoulli_bandit" else 10

    @property
    def horizon(self) -> int:
        """Env steps of an episode."""
        return 1 if self.env == "bernoulli_bandit" else 10

    @property
    def num_steps(self) -> int:
        """T, env steps of a trial."""
        return self.num_episodes * self.horizon

    @property
    def num_inputs(self) -> int:
        """Width of the agent's inputs: observation, previous action, reward and end of episode."""
        return self.num_states + self.num_actions + 2

    @property
    def env_steps(self) -> int:
        """Env steps of an iteration."""
        return self.num_trials * self.num_steps

    @property
    def operations(self) -> tuple[float, float, float]:
        """Floating-point operations of the matrix products for one env step.

        Each weight is used in one product per step. Learning takes three: the forward pass, and
        the gradients of the weight and of the input; the inputs of the agent and the first state
        need none. The products of a matrix memory are counted by its weights alone.

        Returns:
            The numbers of collecting, of optimising, and of both.
        """
        inputs, states, heads = (2 * count for count in self._weights)
        collect = inputs + states + heads
        learnt = inputs + states
        optimise = 3 * collect - inputs - states / self.num_steps
        if self.has_two_memories:
            collect += learnt
            optimise += 3 * learnt - inputs - states / self.num_steps
        optimise *= self.num_epochs
        return collect, optimise, collect + optimise

    @property
    def _weights(self) -> tuple[int, int, int]:
        size, num_heads = self.hidden_size, self.num_actions + 1
        if self.memory != "matrix":
            gates = {"gru": 3, "lstm": 4}[self.memory]
            return gates * size * self.num_inputs, gates * size**2, size * num_heads
        from benchmarks.peers.own_loop import num_weights

        return 0, 0, num_weights(self)

    def with_trials(self, num_trials: int | None) -> Work:
        """The same with another number of trials; None leaves it."""
        return self if num_trials is None else replace(self, num_trials=num_trials)

    def with_two_memories(self) -> Work:
        """The same with a memory of its own for the critic."""
        return replace(self, has_two_memories=True)

    def with_lstm(self, num_parameters: int) -> Work:
        """The same with the LSTM whose number of parameters is nearest to a given one."""

        def distance(size: int) -> int:
            return abs(4 * size * (self.num_inputs + size + 2) - num_parameters)

        return replace(self, memory="lstm", hidden_size=min(range(1, 2049), key=distance))


TASKS = {
    "bandit_n10_k5": ("bernoulli_bandit", 5, 10, 2000),
    "bandit_n100_k10": ("bernoulli_bandit", 10, 100, 400),
    "mdp_n10": ("tabular_mdp", 5, 10, 400),
}
MEMORIES = {
    "gru64": ("gru", 64),
    "gru256": ("gru", 256),
    "lstm256": ("lstm", 256),
    "matrix64": ("matrix", 64),
}
ROWS = {
    f"{task}/{memory}": Work(*TASKS[task][:3], *MEMORIES[memory], TASKS[task][3])
    for task in TASKS
    for memory in MEMORIES
}

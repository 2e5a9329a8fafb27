"""Functions whose GPU operations are recorded as a CUDA graph, and then started all at once.

An iteration of small networks consists of thousands of operations that take a GPU microseconds, and
Python longer to start. A replay of a graph starts all of them with one call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import FunctionType, ModuleType
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from rl2_lightning.errors import UserError

Result = TypeVar("Result")
STATIC = type | ModuleType | FunctionType  # objects that hold no state of an environment

_recorded: ContextVar[bool] = ContextVar("recorded", default=False)


@contextmanager
def recorded() -> Iterator[None]:
    """Context in which operations are recorded as a CUDA graph, or warmed up for that.

    GRU and LSTM then use few kernels, which are compiled at their first call.
    """
    token = _recorded.set(True)
    try:
        yield
    finally:
        _recorded.reset(token)


def is_recorded() -> bool:
    """Whether operations are recorded, so that they must not depend on the values of tensors."""
    return not torch.compiler.is_compiling() and _recorded.get()


class Recorded(Generic[Result]):
    """A function of tensors at fixed addresses, recorded when it is called first.

    What a graph repeats are operations on a GPU. Python code, with the numbers that it computes and
    the branches that it takes, is executed only while recording. So everything that changes from
    call to call has to be in tensors that the caller writes to.

    Args:
        function: has no arguments, and returns tensors in plain containers.
        generators: the generators that it draws from.
        reads: objects whose tensors it reads, and may replace by others.
    """

    def __init__(
        self,
        function: Callable[[], Result],
        generators: Sequence[torch.Generator] = (),
        reads: Sequence[object] = (),
    ) -> None:
        self._function = function
        self._generators = generators
        self._reads = reads
        self._kept: list[Tensor] = []
        self._replay: Callable[[], None] | None = None
        self._result: Result

    def __call__(self) -> Result:
        """Replay the function.

        Returns:
            Its result. The tensors are the same in every call, which overwrites them.

        Raises:
            UserError: it cannot be recorded, because it reads numbers of the GPU, or because
                nothing can be compiled here.
        """
        if self._replay is None:
            with recorded():
                self._record()
        assert self._replay is not None
        self._replay()
        return self._result

    def _record(self) -> None:
        from torch._dynamo.exc import BackendCompilerFailed

        states = [generator.get_state() for generator in self._generators]
        try:
            warm_up(self._function)
        except BackendCompilerFailed as error:
            raise _refusal(error) from error
        # The graph reads them in each replay, though nothing else may refer to them any more.
        self._kept = list(tensors_of(self._reads))
        try:
            self._replay, self._result = capture(self._function, self._generators)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise _refusal(error) from error
        for generator, state in zip(self._generators, states, strict=True):
            generator.set_state(state)


def _refusal(error: Exception) -> UserError:
    reason = str(error).strip().partition("\n")[0]
    return UserError(
        f"trainer.cuda_graphs=true: the iterations of this run cannot be recorded ({reason}); set "
        "trainer.cuda_graphs=false"
    )


def warm_up(function: Callable[[], Any]) -> None:
    """Call a function on a stream of its own, as recording it will.

    Libraries allocate their workspaces, and kernels are compiled, when they are used first.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        function()
    torch.cuda.current_stream().wait_stream(stream)


def capture(
    function: Callable[[], Result], generators: Sequence[torch.Generator]
) -> tuple[Callable[[], None], Result]:
    """Record a function as a CUDA graph.

    Returns:
        What replays it, and its result, which each replay overwrites.
    """
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        result = function()
    return graph.replay, result


def tensors_of(thing: Any, seen: set[int] | None = None) -> Iterator[Tensor]:
    """The tensors that an object refers to: in its attributes and containers, and in theirs."""
    seen = set() if seen is None else seen
    for leaf in tree_leaves(thing):
        if isinstance(leaf, Tensor):
            yield leaf
        elif id(leaf) not in seen and hasattr(leaf, "__dict__") and not isinstance(leaf, STATIC):
            seen.add(id(leaf))
            yield from tensors_of(dict(vars(leaf)), seen)

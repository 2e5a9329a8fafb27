"""Write an agent's step as a program that runs without this package."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rl2_lightning.agents.spaces import to_plain
from rl2_lightning.agents.step_program import Named, StepProgram
from rl2_lightning.errors import UserError

if TYPE_CHECKING:
    from rl2_lightning.agents.agent import Agent

FORMAT = 1
SUFFIXES = {"torch": ".pt2", "onnx": ".onnx"}
NEEDED = {"torch": (), "onnx": ("onnx", "onnxscript", "onnxruntime")}
DESCRIPTION = "rl2_lightning.json"  # within the file of a program
NUM_CHECKED = 20  # steps in which a program is compared with its agent
TOLERANCE = 1e-4  # of the comparison; other libraries round otherwise
ROWS = 3  # of the example that is traced

Program = Callable[[Named], Mapping[str, Tensor]]


def export(agent: Agent, path: str | PathLike[str], form: str) -> None:
    """Write an agent's step as a program; see `Agent.export`.

    Raises:
        UserError: the file exists, the format is unknown or its extra missing, or the agent cannot
            be exported.
    """
    require_format(form)
    place = Path(path)
    if place.exists():
        raise UserError(f"{place} exists: choose another path, or remove it")
    if not place.parent.is_dir():
        raise UserError(f"{place.parent} is not a folder: make it, or choose another path")
    step = StepProgram(deepcopy(agent).cpu().eval().requires_grad_(False))
    write, read = {"torch": (_torch_file, load_torch), "onnx": (_onnx_file, load_onnx)}[form]
    with torch.no_grad(), _quiet():
        try:
            content = write(step)
        except Exception as error:  # a memory's own operations can raise any exception
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            memory = agent.spec.memory_class.__name__
            raise UserError(f"{memory} cannot be exported as {form}: {reason}") from error
        _require_equal(step, read(content), form)
    unfinished = place.with_name(f".{place.name}.unfinished")
    try:
        unfinished.write_bytes(content)
        unfinished.rename(place)
    finally:
        unfinished.unlink(missing_ok=True)


def require_format(form: str) -> None:
    """Check that a format is known, and the libraries that it needs are installed.

    Raises:
        UserError: it is not, or they are not.
    """
    if form not in SUFFIXES:
        raise UserError(f"format={form} is unknown: use {' or '.join(SUFFIXES)}")
    missing = [name for name in NEEDED[form] if find_spec(name) is None]
    if missing:
        raise UserError(
            f"format={form} needs {', '.join(missing)}: pip install 'rl2-lightning[{form}]'"
        )


def load_torch(content: bytes) -> Program:
    """The program of the content of a file of format "torch"."""
    program: Program = torch.export.load(io.BytesIO(content)).module()
    return program


def load_onnx(content: bytes) -> Program:
    """The program of the content of a file of format "onnx"."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Named) -> Named:
        found = session.run(names, {name: one.numpy() for name, one in inputs.items()})
        return {name: torch.from_numpy(one) for name, one in zip(names, found, strict=True)}

    return run


def _torch_file(step: StepProgram) -> bytes:
    content = io.BytesIO()
    torch.export.save(_traced(step), content, extra_files={DESCRIPTION: _description(step)})
    return content.getvalue()


def _onnx_file(step: StepProgram) -> bytes:
    example = step.example(ROWS, torch.Generator().manual_seed(0))
    outputs = list(step(example))
    program: Any = torch.onnx.export(
        _traced(step), dynamo=True, input_names=list(example), output_names=outputs, verbose=False
    )
    model = program.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = DESCRIPTION, _description(step)
    content: bytes = model.SerializeToString()
    return content


def _traced(step: StepProgram) -> torch.export.ExportedProgram:
    rows = torch.export.Dim("rows", min=1)
    example = step.example(ROWS, torch.Generator().manual_seed(0))
    shapes = {"inputs": {name: {0: rows} for name in example}}
    return torch.export.export(step, (example,), dynamic_shapes=shapes)


def _description(step: StepProgram) -> str:
    """The spaces of the agent, and the form of the inputs, as JSON."""
    spec = step.agent.spec
    example = step.example(1, torch.Generator())
    inputs = {
        name: {"shape": ["rows", *one.shape[1:]], "dtype": str(one.dtype).removeprefix("torch.")}
        for name, one in example.items()
    }
    spaces = {"observations": to_plain(spec.observations), "actions": to_plain(spec.actions)}
    return json.dumps({"format": FORMAT, "inputs": inputs, **spaces})


def _require_equal(step: StepProgram, program: Program, form: str) -> None:
    """Compare a program with the step that it was made of, step by step from random inputs.

    Raises:
        UserError: they differ.
    """
    generator = torch.Generator().manual_seed(1)
    kept: Named = {}
    for _ in range(NUM_CHECKED):
        inputs = step.example(ROWS + 1, generator)
        inputs |= {name: one for name, one in kept.items() if name in inputs}
        expected = step(inputs)
        found = program(inputs)
        for name, one in expected.items():
            if name != "action" and not torch.allclose(
                one.float(), found[name].float(), rtol=TOLERANCE, atol=TOLERANCE
            ):
                most = (one.float() - found[name].float()).abs().max()
                raise UserError(
                    f"the program of format={form} differs from the agent by {most:.2g} in {name}: "
                    "use another format"
                )
        kept = {name.removeprefix("next_"): one for name, one in expected.items()}
        kept["previous_action"] = expected["action"]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' notices about themselves off the console."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

"""The notebooks are whole, small, and run from the first cell to the last."""

import ast
import base64
import io
import re
from importlib import import_module
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from nbformat.v4 import new_code_cell
from PIL import Image

from notebooks.execute import EXECUTED, FOLDER, digest_of, execute, notebook_names, read

NAMES = notebook_names()
LARGEST = 400_000  # bytes of a file
LONGEST = 40  # lines of a cell
# What must hold after the last cell: that what the text says is what the cells have found.
CLAIMS = {
    "1_rl2_from_the_first_pull": """
        optimum = training.references["bayes_optimal"].trial_return
        assert training.curves["greedy"].trial_return > 0.95 * optimum
        assert abs(training.curves["greedy"].mean[0] - 0.5) < 0.04
        assert mean_return(training.agent, True) > 6 > mean_return(training.agent, False)
        assert abs(blind.curves["greedy"].trial_return - 5) < 0.2
        assert difference < 1e-5
    """,
    "2_your_own_tasks": """
        first, second = guesser.curves["greedy"].mean.tolist()
        assert first > 0.9 * halving
        assert second > 4.8
        assert sailor.curves["greedy"].trial_return > -6
        final = play(sailor.agent, trials, tasks=tasks, greedy=True)["steps", "observation"]
        assert final[:, 7:10].abs().mean() < 0.3
        assert abs(place[0]) < 0.3
    """,
    "3_from_ppo_to_replay": """
        assert stored.curves["greedy"].trial_return > 0.95
        assert abs(empty.curves["sampled"].trial_return - 0.25) < 0.05
        # Greedy play makes one answer of what is left of the cue, which can be below chance.
        assert empty.curves["greedy"].trial_return < 0.3
        gru, matrix = (found for _, found in sorted(errors.items()))
        assert gru["stored"][3] < 0.8 * gru["stored"][0]
        assert gru["empty"][3] > 0.5
        for found in (gru, matrix):
            assert found["stored"][0] < 0.8 * found["empty"][0]
            assert found["stored"][4] < 1e-3
    """,
    "4_which_memory": """
        assert np.nanmax(scores) < 1.05
        of_mdp = {name: scores[row, tasks.index("mdp_n10")] for row, name in enumerate(memories)}
        assert of_mdp["matrix"] > 2 * of_mdp["gru"]
        assert np.nanmin(scores[:, tasks.index("mab_n10_k5")]) > 0.9
    """,
}


def code_of(name: str) -> list:
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


def outputs_of(name: str) -> list:
    return [output for cell in code_of(name) for output in cell.outputs]


def test_all_are_here() -> None:
    assert sorted(CLAIMS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_of_this_code(name: str) -> None:
    """Executed as a whole, in order, and not edited since: else `make notebooks`."""
    notebook = read(name)
    assert notebook.metadata[EXECUTED] == digest_of(notebook)
    counts = [cell.execution_count for cell in code_of(name)]
    assert counts == list(range(1, len(counts) + 1))
    kinds = {output.output_type for output in outputs_of(name)}
    assert kinds <= {"stream", "execute_result", "display_data"}
    assert not [output for output in outputs_of(name) if output.get("name") == "stderr"]


@pytest.mark.parametrize("name", NAMES)
def test_files_are_small_and_cells_short(name: str) -> None:
    assert (FOLDER / f"{name}.ipynb").stat().st_size < LARGEST
    for cell in code_of(name):
        assert len(cell.source.splitlines()) <= LONGEST
    starts = [cell.source.splitlines()[0] for cell in read(name).cells]
    assert starts[0].startswith("# ")


@pytest.mark.parametrize("name", NAMES)
def test_pictures_show_something(name: str) -> None:
    shown = [output.get("data", {}) for output in outputs_of(name)]
    pictures = [data["image/png"] for data in shown if "image/png" in data]
    assert len(pictures) >= 3
    for picture in pictures:
        image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
        assert min(image.size) > 150
        assert np.asarray(image).std() > 5


@pytest.mark.parametrize("name", NAMES)
def test_what_is_imported_is_there(name: str) -> None:
    found = 0
    for cell in code_of(name):
        if cell.source.startswith("%%"):
            continue
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.ImportFrom) and node.module not in ("boat", "guessing"):
                module = import_module(str(node.module))
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module}.{alias.name}"
                    found += 1
    assert found


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    text = "\n".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown")
    anchors = {head.replace(" ", "-") for head in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if path:
            assert (FOLDER / path).exists(), target
        else:
            assert anchor in anchors, target


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_all_cells_run(name: str, tmp_path: Path) -> None:
    notebook = read(name)
    notebook.cells.append(new_code_cell(dedent(CLAIMS[name]).strip()))
    execute(notebook, tmp_path)

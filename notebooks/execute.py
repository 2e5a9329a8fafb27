"""Execute the notebooks, and store their outputs in them: `python -m notebooks.execute`.

`python -m notebooks.execute 2_your_own_tasks` executes one. Each is executed from its first cell to
its last, in a folder of its own, and is written only if no cell has failed.
"""

import base64
import hashlib
import io
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
SECONDS_PER_CELL = 900  # on two busy cores; the longest one takes about a minute and a half
EXECUTED = "executed"  # in the metadata: the digest of the code that the outputs are of
STYLE = re.compile(r"\x1b\[[0-9;]*m")  # of a terminal
COLOURS = 128  # of a stored picture
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def notebook_names() -> list[str]:
    """The names of all notebooks, in the order in which they are read."""
    return [path.stem for path in sorted(FOLDER.glob("*.ipynb"))]


def read(name: str) -> Any:
    """A notebook.

    Raises:
        nbformat.ValidationError: the file is not a valid notebook.
    """
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    return notebook


def digest_of(notebook: Any) -> str:
    """A digest of the code cells, by which stored outputs are known to be of this code."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\n\n".join(code).encode()).hexdigest()[:16]


def execute(notebook: Any, folder: Path) -> None:
    """Execute all cells of a notebook, in place.

    Args:
        notebook: the notebook.
        folder: an empty folder; the notebook sees it as the root of the repository.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell has failed.
        nbclient.exceptions.CellTimeoutError: a cell has taken longer than `SECONDS_PER_CELL`.
    """
    (place := folder / "notebooks").mkdir()
    (folder / "results").symlink_to(ROOT / "results", target_is_directory=True)
    client = NotebookClient(
        notebook,
        timeout=SECONDS_PER_CELL,
        kernel_name="python3",
        resources={"metadata": {"path": str(place)}},
        record_timing=False,
    )
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    client.execute(env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})


def tidy(notebook: Any) -> None:
    """Leave in an executed notebook what is the same wherever it was executed, and make it small.

    Raises:
        ValueError: an output has a path of this machine, or a cell has written to standard error.
    """
    notebook.metadata = nbformat.from_dict({**METADATA, EXECUTED: digest_of(notebook)})
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.outputs = _tidy_outputs(cell)
    text = nbformat.writes(notebook)
    for path in (str(ROOT), tempfile.gettempdir(), str(Path.home())):
        if f"{path}/" in text:
            raise ValueError(f"an output has a path of this machine, below {path}")


def _tidy_outputs(cell: Any) -> list[Any]:
    """The outputs of a cell: what it has printed as one text, of a training's progress the end."""
    printed: list[str] = []
    others = []
    for output in cell.outputs:
        if output.get("name") == "stderr":
            raise ValueError(f"{cell.id} has written to standard error: {output.text}")
        data = output.get("data", {})
        if output.output_type == "stream":
            printed += output.text.splitlines()
        elif output.output_type == "display_data" and "image/png" not in data:
            printed += data["text/plain"].splitlines()  # what Rich prints
        else:
            output.metadata = nbformat.from_dict({})
            if "image/png" in data:
                output.data = nbformat.from_dict({"image/png": _small(data["image/png"])})
            others.append(output)
    lines = [STYLE.sub("", line).rstrip() for line in printed]
    progress = [line for line in lines if line.startswith("iteration ")]
    lines = [line for line in lines if line not in progress[:-1]]
    text = "\n".join(lines).strip("\n")
    stream = [nbformat.v4.new_output("stream", name="stdout", text=f"{text}\n")] if text else []
    return [*stream, *others]


def _small(png: str) -> str:
    """A picture with fewer colours, in base64."""
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    file = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode() + "\n"


def main() -> None:
    """Execute the named notebooks, or all."""
    for name in sys.argv[1:] or notebook_names():
        notebook = read(name)
        with tempfile.TemporaryDirectory() as folder:
            execute(notebook, Path(folder))
        tidy(notebook)
        path = FOLDER / f"{name}.ipynb"
        nbformat.write(notebook, path)
        sys.stdout.write(f"{path.name}: {path.stat().st_size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main()

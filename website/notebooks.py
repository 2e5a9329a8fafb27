"""Notebooks as pages of the site: text, code, and the outputs that are stored in them."""

import json
import re
from pathlib import Path
from typing import Any

ANCHOR = re.compile(r"\]\(#([^)]+)\)")
MAGIC = re.compile(r"%%writefile (\S+)\n")  # a cell that writes a file
LANGUAGES = {".py": "python", ".yaml": "yaml"}


def notebook_page(place: Path) -> str:
    """The Markdown of a page that shows a notebook, with links as the repository has them."""
    notebook = json.loads(place.read_text(encoding="utf-8"))
    return "\n\n".join(part for cell in notebook["cells"] for part in _parts(cell)) + "\n"


def _parts(cell: Any) -> list[str]:
    """The pieces of Markdown that a cell consists of."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return [ANCHOR.sub(lambda found: f"](#{_slug(found[1])})", source)]
    shown = [_code(source)]
    for output in cell["outputs"]:
        data = output.get("data", {})
        if "text" in output:
            shown.append(_fenced("text", "".join(output["text"])))
        elif "image/png" in data:
            picture = "".join(data["image/png"]).replace("\n", "")
            shown.append(f'<img src="data:image/png;base64,{picture}" alt="output of this cell">')
        elif "text/markdown" in data:
            shown.append("".join(data["text/markdown"]))
        else:
            shown.append(_fenced("text", "".join(data["text/plain"])))
    return shown


def _code(source: str) -> str:
    """The code of a cell; of a file that it writes, under the file's name."""
    magic = MAGIC.match(source)
    if magic is None:
        return _fenced("python", source)
    language = LANGUAGES.get(Path(magic[1]).suffix, "text")
    return f"`{magic[1]}`:\n\n{_fenced(language, source[magic.end() :])}"


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def _slug(anchor: str) -> str:
    """The anchor of a heading in the site, for that which Jupyter gives it."""
    return re.sub(r"[^\w-]", "", anchor.lower())

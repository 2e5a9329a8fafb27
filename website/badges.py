"""The badges of the README, from `pyproject.toml`: `python -m website.badges` writes them.

They are files of the repository, so that they are shown, and true, without a network.
"""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "images" / "badges"
WIDTH, PADDING, HEIGHT = 6.6, 12, 20  # of a letter, around a text, of a badge; pixels
BADGE = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="{height}" role="img" \
aria-label="{label}: {value}">
  <rect width="{whole}" height="{height}" rx="3" fill="#3f51b5"/>
  <path d="M3 0h{inner}v{height}H3a3 3 0 0 1-3-3V3a3 3 0 0 1 3-3z" fill="#424242"/>
  <g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">
    <text x="{label_at}" y="14" textLength="{label_width}">{label}</text>
    <text x="{value_at}" y="14" textLength="{value_width}">{value}</text>
  </g>
</svg>
"""


def badges() -> dict[str, str]:
    """The content of each badge, by the name of its file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    facts = {
        "python": project["requires-python"].replace(">=", "") + " or newer",
        "version": project["version"],
        "licence": project["license"],
    }
    return {f"{label}.svg": badge(label, value) for label, value in facts.items()}


def badge(label: str, value: str) -> str:
    """A badge with a label on the left and a value on the right, as SVG."""
    widths = [round(len(text) * WIDTH) for text in (label, value)]
    left, right = (width + PADDING for width in widths)
    return BADGE.format(
        whole=left + right,
        height=HEIGHT,
        inner=left - 3,
        label=label,
        value=value,
        label_at=left / 2,
        label_width=widths[0],
        value_at=left + right / 2,
        value_width=widths[1],
    )


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, content in badges().items():
        (FOLDER / name).write_text(content, encoding="utf-8")

"""Pages and files of the repository outside of docs/, as the site shows them."""

import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from website.notebooks import notebook_page

ROOT = Path(__file__).parents[1]
DOCS = "docs"

# Pages that stand elsewhere in the repository, by their names in the site.
PAGES: Mapping[str, str] = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "security.md": "SECURITY.md",
    "results_tables.md": "results/README.md",
}
# Where the site explains what a link into the repository leads to.
EXPLAINED: Mapping[str, str] = {
    "configs": "fields/run.md",
    "rl2_lightning/agents/memories/memory.py": "api/agents.md",
    "rl2_lightning/families/task_env.py": "api/families.md",
    "rl2_lightning/keys.py": "api/learners.md",
    "rl2_lightning/learners/actor_critic.py": "api/learners.md",
    "rl2_lightning/learners/learner.py": "api/learners.md",
    "rl2_lightning/learners/manual.py": "api/learners.md",
}

NOTEBOOK = ".ipynb"
ELSEWHERE = ("mailto:", "data:")  # beginnings of links that lead to no file
PICTURES = (".png", ".gif", ".svg")
SOURCE = "source"  # folder of the site with the text files that pages link to
LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".sh": "bash", ".csv": "text"}

LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
HTML_SOURCE = re.compile(r'(<img [^>]*src=")([^"]+)(")')
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def links_of(text: str) -> Iterator[re.Match[str]]:
    """The links of a page that are not in code, and the sources of images."""
    code = [(found.start(), found.end()) for found in CODE.finditer(text)]
    for pattern in (LINK, HTML_SOURCE):
        for found in pattern.finditer(text):
            if not any(start <= found.start() < end for start, end in code):
                yield found


def place_of(page: str) -> str:
    """The path in the repository of a page of the site."""
    if page.endswith(f"{NOTEBOOK}.md"):
        return page.removeprefix(f"{SOURCE}/").removesuffix(".md")
    return PAGES.get(page, f"{DOCS}/{page}")


def page_of(path: str) -> str:
    """The path in the site of a file or folder of the repository.

    Args:
        path: path in the repository.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not (ROOT / path).exists():
        raise FileNotFoundError(path)
    pages = {place: page for page, place in PAGES.items()}
    if path in pages:
        return pages[path]
    if path in EXPLAINED:
        return EXPLAINED[path]
    if path.startswith(f"{DOCS}/"):
        return path.removeprefix(f"{DOCS}/")
    if path.endswith(PICTURES):
        return f"{SOURCE}/{path}"
    return f"{SOURCE}/{path.rstrip('/')}.md"


def with_links_of_the_site(text: str, page: str) -> str:
    """A page's text with links that lead to where the site has what they name.

    Args:
        text: the Markdown of the page, with links as the repository has them.
        page: path of the page in the site.
    """
    home = posixpath.dirname(place_of(page))
    parts, end = [], 0
    for found in sorted(links_of(text), key=lambda one: one.start()):
        before, target, after = found.groups()
        if "://" in target or target.startswith(ELSEWHERE):
            continue
        path = posixpath.normpath(posixpath.join(home, target))
        shown = posixpath.relpath(page_of(path), posixpath.dirname(page) or ".")
        parts += [text[end : found.start()], before, shown, after]
        end = found.end()
    return "".join([*parts, text[end:]])


def files_that_pages_name(pages: Mapping[str, str]) -> dict[str, str]:
    """The files outside of docs/ that pages link to, by their paths in the site.

    Args:
        pages: the texts of the pages, by their paths in the site.
    """
    found = {}
    for page, text in pages.items():
        home = posixpath.dirname(place_of(page))
        for link in links_of(text):
            target = link[2]
            if "://" in target or target.startswith(ELSEWHERE):
                continue
            path = posixpath.normpath(posixpath.join(home, target))
            shown = page_of(path)
            if shown.startswith(f"{SOURCE}/"):
                found[shown] = path
    return found


def source_page(path: str) -> str:
    """A page that shows a text file of the repository, or all text files of a folder."""
    place = ROOT / path
    if place.suffix == NOTEBOOK:
        return notebook_page(place)
    if place.is_file():
        language = LANGUAGES.get(place.suffix, "text")
        text = place.read_text(encoding="utf-8").rstrip()
        return f"# {path}\n\n````{language}\n{text}\n````\n"
    files = sorted(
        one
        for one in place.rglob("*")
        if one.suffix in LANGUAGES and "__pycache__" not in one.parts and one.suffix != ".csv"
    )
    parts = [source_page(one.relative_to(ROOT).as_posix()).replace("# ", "## ", 1) for one in files]
    return "\n".join([f"# {path}\n", *parts])

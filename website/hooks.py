"""What MkDocs is to do beside rendering the pages of docs/."""

from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from website import api, fields, repository

# Pages that are given more of the width, by what they leave out.
WIDE = {
    "index.md": "---\nhide: [navigation, toc]\n---\n",
    "results_tables.md": "---\nhide: [toc]\n---\n",
    "fields/callbacks.md": "---\nhide: [toc]\n---\n",
}


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the repository's other pages, the reference, and the files that pages link to."""
    texts = {
        page: (repository.ROOT / place).read_text(encoding="utf-8")
        for page, place in repository.PAGES.items()
    }
    for file in files.documentation_pages():
        texts[file.src_uri] = file.content_string
    for place in (repository.ROOT / "notebooks").glob(f"*{repository.NOTEBOOK}"):
        path = place.relative_to(repository.ROOT).as_posix()
        texts[repository.page_of(path)] = repository.source_page(path)
    generated = {**fields.pages(), **api.pages()}
    for page in repository.PAGES:
        files.append(File.generated(config, page, content=WIDE.get(page, "") + texts[page]))
    for page, text in generated.items():
        files.append(File.generated(config, page, content=WIDE.get(page, "") + text))
    for page, path in repository.files_that_pages_name(texts).items():
        place = repository.ROOT / path
        if path.endswith(repository.PICTURES):
            files.append(File.generated(config, page, abs_src_path=str(place)))
        else:
            text = f"---\nsearch:\n  exclude: true\n---\n{repository.source_page(path)}"
            file = File.generated(config, page, content=text)
            file.inclusion = file.inclusion.NOT_IN_NAV
            files.append(file)
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turn links into the repository into links of the site."""
    source = page.file.src_uri
    is_shown_as_it_is = source.startswith(("api/", "fields/", f"{repository.SOURCE}/"))
    if is_shown_as_it_is and not source.endswith(f"{repository.NOTEBOOK}.md"):
        return markdown
    if source == "results_tables.md":
        markdown = markdown.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")
    return repository.with_links_of_the_site(markdown, source)

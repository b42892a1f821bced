"""Hook of MkDocs: files of the repository that a page links to are pages of the site, too.

A page says `[base.py](../keras_ganprune/applications/base.py)`, which works where the repository is browsed.
The site has no such folder, so each file that is linked to becomes a page: Markdown as it is, a notebook with
its stored outputs, anything else as code. `` `kgp.name` `` in a page becomes a link to the API reference.
"""

from __future__ import annotations

import pathlib
import posixpath
import re
from collections.abc import Callable

import nbconvert
import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = "repository"  # of the site
NOTEBOOKS = "notebooks"
LINK = re.compile(r"(\]\()(?!\w+:|#|/)([^)\s#]+)(#[^)\s]*)?(\))")
CODE = re.compile(r"(?ms)^ *(`{3,}).*?^ *\1$")
LANGUAGES = {".py": "python", ".js": "javascript", ".html": "html", ".css": "css", ".json": "json"}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page for each notebook, and for each file outside `docs` that a page links to."""
    for path in sorted((ROOT / NOTEBOOKS).glob("*.ipynb")):
        _add(files, config, path.relative_to(ROOT).as_posix())
    waiting = [file.src_uri for file in files.documentation_pages()]
    while waiting:
        page = waiting.pop()
        for name in _outside(page, files.get_file_from_path(page).content_string):
            if files.get_file_from_path(_page_of(name)) is None:
                _add(files, config, name)
                waiting.append(_page_of(name))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to files of the repository lead to their pages, and names of the API to the reference."""
    here = page.file.src_uri

    def replaced(found: re.Match) -> str:
        name = _in_repository(here, found[2])
        if name is None:
            return found[0]
        address = posixpath.relpath(_page_of(name), posixpath.dirname(here) or ".")
        return f"{found[1]}{address}{found[3] or ''}{found[4]}"

    text = _outside_code(markdown, lambda part: LINK.sub(replaced, part))
    return text if here.startswith(f"{FOLDER}/") else _outside_code(text, _with_names)


def _in_repository(page: str, link: str) -> str | None:
    """Return the path in the repository of a link that leaves `docs`, or that starts outside of it."""
    outside = page.startswith((f"{FOLDER}/", f"{NOTEBOOKS}/"))
    origin = _source_of(page) if outside else f"docs/{page}"
    path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))
    if not outside and path.startswith("docs/"):
        return None
    # Pictures of a notebook are beside its page.
    return path if (ROOT / path).exists() or not outside else None


def _source_of(page: str) -> str:
    """Return the file of the repository that a page shows."""
    if page.startswith(f"{NOTEBOOKS}/"):
        return page.removesuffix(".md") + ".ipynb"
    return page.removeprefix(f"{FOLDER}/").removesuffix(".md")


def _page_of(name: str) -> str:
    """Return the page that shows a file of the repository, or the file itself if it is in `docs`."""
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    if name.startswith(f"{NOTEBOOKS}/") and name.endswith(".ipynb"):
        return name.removesuffix(".ipynb") + ".md"
    return f"{FOLDER}/{name}.md"


def _outside(page: str, markdown: str) -> list[str]:
    """Return the files of the repository that a page links to."""
    found = [_in_repository(page, match[2]) for match in LINK.finditer(CODE.sub("", markdown))]
    return [name for name in found if name]


def _add(files: Files, config: MkDocsConfig, name: str) -> None:
    """Add the page of a file of the repository, and its pictures."""
    path = ROOT / name
    if not path.is_file():
        raise PluginError(f"A page links to {name}, which is no file of the repository.")
    page = _page_of(name)
    pictures: dict[str, bytes] = {}
    if path.suffix == ".ipynb":
        text, pictures = _notebook(path)
    elif path.suffix == ".md":
        text = path.read_text(encoding="utf-8")
    else:
        code = path.read_text(encoding="utf-8").rstrip()
        text = f"# `{name}`\n\n````{LANGUAGES.get(path.suffix, 'text')}\n{code}\n````\n"
    in_nav = InclusionLevel.NOT_IN_NAV if page.startswith(FOLDER) else InclusionLevel.UNDEFINED
    files.append(File.generated(config, page, content=text, inclusion=in_nav))
    for picture, content in pictures.items():
        address = posixpath.join(posixpath.dirname(page), picture)
        files.append(File.generated(config, address, content=content))


def _notebook(path: pathlib.Path) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and its pictures by name."""
    notebook = nbformat.read(path, as_version=4)
    text, resources = nbconvert.MarkdownExporter().from_notebook_node(
        notebook, {"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
    )
    return text, resources["outputs"]


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    parts, end = [], 0
    for block in CODE.finditer(text):
        parts += [change(text[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, change(text[end:])])


def _with_names(text: str) -> str:
    """Make `` `kgp.name` `` and `` `kgp.name(...)` `` links, but not in headings and in links."""
    lines = []
    for line in text.split("\n"):
        if not line.startswith(("#", "    ")):
            line = re.sub(
                r"(?<!\[)`kgp\.(\w+)(\([^`]*\))?`(?!\])",
                lambda found: f"[{found[0]}][keras_ganprune.{found[1]}]",
                line,
            )
        lines.append(line)
    return "\n".join(lines)

"""The documentation site: complete, without dead links, and whole without a network.

Build it with `mkdocs build --strict`; `pip install ".[docs]"` brings what that needs.
"""

import collections
import html.parser
import os
import pathlib
import re
import shutil
import subprocess
import sys
import urllib.parse
import zlib

import paths
import pytest

import keras_ganprune

CONFIG = (paths.ROOT / "mkdocs.yml").read_text(encoding="utf-8")
NAV = re.findall(r"(?m)^ +- .*: (\S+\.md)$", CONFIG.partition("\nnav:\n")[2])
API = {path.name: path.read_text("utf-8") for path in (paths.DOCS / "api").glob("*.md")}
NOTEBOOKS = sorted((paths.ROOT / "notebooks").glob("*.ipynb"))
DIRECTIVE = re.compile(r"(?m)^::: keras_ganprune\.(\w+)$")
# What a browser fetches by itself.
FETCHED = {
    "audio": "src",
    "embed": "src",
    "iframe": "src",
    "img": "src",
    "link": "href",
    "object": "data",
    "script": "src",
    "source": "src",
    "video": "src",
}


def test_every_page_is_in_the_navigation_once():
    pages = [path.relative_to(paths.DOCS).as_posix() for path in paths.DOCS.rglob("*.md")]
    pages += [f"notebooks/{path.stem}.md" for path in NOTEBOOKS]
    assert sorted(NAV) == sorted(pages)


def test_every_public_name_is_on_one_page_of_the_reference():
    """A new name belongs on the page of its family: `::: keras_ganprune.NAME` in docs/api."""
    found = collections.Counter(name for page in API.values() for name in DIRECTIVE.findall(page))
    assert found == collections.Counter(keras_ganprune.__all__)


def test_the_overview_of_the_reference_has_the_names():
    """Except those of the Prunable layers, which are one for each layer of Keras."""
    layers = [n for n in keras_ganprune.__all__ if n.startswith("Prunable")]
    overview = set(re.findall(r"`kgp\.(\w+)`", API["index.md"]))
    assert set(keras_ganprune.__all__) - overview <= set(layers)
    assert overview <= set(keras_ganprune.__all__)


# --- the built site ------------------------------------------------------------------------------


def build(root, site):
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(site)]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)


class Page(html.parser.HTMLParser):
    """What a page fetches, what it links to, and the places that can be linked to."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.links, self.anchors, self.classes = [], [], set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if attributes.get("id"):
            self.anchors.add(attributes["id"])
        if tag == "a" and attributes.get("name"):
            self.anchors.add(attributes["name"])
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        if FETCHED.get(tag) in attributes and attributes.get("rel") not in ("next", "prev"):
            self.fetched.append(attributes[FETCHED[tag]])
        self.classes.update((attributes.get("class") or "").split())


def file_of(site, page, parts):
    """Return the file that a relative address of a page means."""
    return (site / page).parent / urllib.parse.unquote(parts.path) if parts.path else site / page


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for module in ("mkdocs", "material", "mkdocstrings_handlers.python", "nbconvert"):
        pytest.importorskip(module)
    folder = tmp_path_factory.mktemp("site")
    done = build(paths.ROOT, folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {
        path.relative_to(site).as_posix(): Page(path.read_text(encoding="utf-8"))
        for path in site.rglob("*.html")
    }


@pytest.mark.full
def test_the_inventory_has_every_public_name(site):
    data = (site / "objects.inv").read_bytes()
    entries = zlib.decompress(data.split(b"\n", 4)[4]).decode().splitlines()
    found = {line.split()[0]: line.split()[3] for line in entries}
    names = {name: page for page, text in API.items() for name in DIRECTIVE.findall(text)}
    for name in keras_ganprune.__all__:
        page = f"api/{names[name].removesuffix('.md')}.html"
        assert found[f"keras_ganprune.{name}"] in (f"{page}#$", f"{page}#keras_ganprune.{name}")


@pytest.mark.full
def test_the_site_fetches_nothing_from_other_servers(site, pages):
    assert len(pages) > 60
    for name, page in pages.items():
        for address in page.fetched:
            parts = urllib.parse.urlsplit(address)
            assert not parts.netloc and parts.scheme in ("", "data"), (name, address)
            if (
                not parts.scheme and name != "404.html"
            ):  # which has addresses from the root of a server
                assert file_of(site, name, parts).is_file(), (name, address)
        # The theme would fetch a library for these.
        assert not {"mermaid", "arithmatex"} & page.classes, name
    for style in site.rglob("*.css"):
        addresses = re.findall(r"(?:url\(|@import )[\"']?([^\"')\s]+)", style.read_text("utf-8"))
        assert all(not urllib.parse.urlsplit(each).netloc for each in addresses), style.name


@pytest.mark.full
def test_no_link_inside_the_site_is_dead(site, pages):
    for name, page in pages.items():
        if name == "404.html":
            continue
        for link in page.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                assert parts.scheme in ("https", "http", "mailto"), (name, link)
                continue
            path = file_of(site, name, parts)
            assert path.is_file(), (name, link)
            target = path.resolve().relative_to(site.resolve()).as_posix()
            if parts.fragment and target in pages:
                anchor = urllib.parse.unquote(parts.fragment)
                assert anchor in pages[target].anchors | {"__skip"}, (name, link)


@pytest.mark.full
def test_docstrings_are_rendered_as_sections(site):
    for path in (site / "api").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "<blockquote>" not in text, path.name  # `>>>` that was taken for a quotation
        # A header that was not read is the begin of a paragraph.
        header = re.search(r"<p>(Args|Raises|Returns|Example|Attributes)\b[^<]{0,9}:", text)
        assert header is None, path.name
        if path.name not in ("index.html", "errors.html"):
            for section in ("Parameters", "Raises"):
                assert f'<span class="doc-section-title">{section}:</span>' in text, path.name


@pytest.mark.full
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_shown_with_pictures(path, site, pages):
    name = f"notebooks/{path.stem}.html"
    pictures = [each for each in pages[name].fetched if f"{path.stem}_files/" in each]
    assert pictures
    for picture in pictures:
        assert (site / "notebooks" / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.full
def test_a_dead_link_a_dead_anchor_and_a_lost_page_fail_the_build(site, tmp_path):
    root = tmp_path / "copy"
    without = shutil.ignore_patterns(".git", "tests", "build", "__pycache__", "node_modules")
    shutil.copytree(paths.ROOT, root, ignore=without)
    dead = "[one](no_such_page.md) [two](quality.md#no-such-part) [three][keras_ganprune.NoSuch]"
    with (root / "docs" / "text.md").open("a", encoding="utf-8") as file:
        file.write(f"\n{dead}\n")
    (root / "docs" / "lost.md").write_text("# Lost\n")
    done = build(root, tmp_path / "site")
    assert done.returncode != 0
    for text in ("no_such_page.md", "no-such-part", "keras_ganprune.NoSuch", "lost.md"):
        assert re.search(rf"(?m)^WARNING.*(\n.*)?{re.escape(text)}", done.stderr), done.stderr


@pytest.mark.full
def test_the_search_works_in_a_folder(site, tmp_path):
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=15000"]
    # No name of a server is known.
    flags += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path}", "--dump-dom"]
    address = f"{pathlib.Path(site, 'index.html').as_uri()}?q=GeometricMedian"
    done = subprocess.run(
        ["chromium", *flags, address], capture_output=True, text=True, timeout=120
    )
    found = re.findall(r'href="([^"]*)" class="md-search-result__link', done.stdout)
    place = re.compile(r"api/criteria\.html\?.*#keras_ganprune\.GeometricMedian$")
    assert any(place.search(each) for each in found)

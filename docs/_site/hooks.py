"""What MkDocs is told beside mkdocs.yml: pages of the whole checkout, with links that hold."""

from links import CODE, FRONT, ROOT, in_checkout, in_site, reached, relinked, with_docstrings
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the front page, and everything that pages link to outside docs/."""
    pages = [f"docs/{file.src_uri}" for file in files if file.src_uri.endswith(".md")]
    for path in reached([FRONT, *pages]):
        if not path.startswith("docs/"):
            files.append(_generated(path, config))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links of a page of the checkout into links of the site."""
    if page.file.src_uri == "api.md":
        markdown = with_docstrings(markdown)
    return relinked(in_checkout(page.file.src_uri), markdown)


def _generated(path: str, config: MkDocsConfig) -> File:
    source = ROOT / path
    if source.is_dir():
        found = (each for each in source.rglob("*") if each.is_file())
        names = sorted(each.relative_to(source).as_posix() for each in found)
        lines = "\n".join(f"- `{name}`" for name in names)
        text = f"# {path}\n\nIn the checkout, these files:\n\n{lines}\n"
        return File.generated(config, in_site(path), content=text)
    if source.suffix in CODE:
        code = source.read_text(encoding="utf-8")
        text = f"# {source.name}\n\n`{path}`\n\n````{CODE[source.suffix]}\n{code}\n````\n"
        return File.generated(config, in_site(path), content=text)
    return File.generated(config, in_site(path), abs_src_path=str(source))

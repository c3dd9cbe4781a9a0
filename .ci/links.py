"""Checks the links inside a folder of HTML pages: ``python .ci/links.py site``.

Prints those that lead nowhere, and scripts and pictures from the network, as the site is to be read without one.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """Addresses that a page links to or takes parts from, and the places in it that can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.parts: list[str] = []
        self.places: set[str] = {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is None:
                continue
            if name in ("id", "name"):
                self.places.add(value)
            if name in ("href", "src") and tag in ("a", "img", "link", "script"):
                self.links.append(value)
                if tag != "a":
                    self.parts.append(value)


def broken(folder: Path) -> list[str]:
    """Links of the pages in `folder` to files, or places in files, that are not there, and parts from the network."""
    pages = {path: Page(path.read_text("utf-8")) for path in sorted(folder.resolve().rglob("*.html"))}
    if not pages:
        return [f"{folder}: no pages"]
    found = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.parts and parts.scheme in ("", "http", "https"):
                    found.append(f"{path.relative_to(folder.resolve())}: {link} is taken from the network")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            known = pages.get(target)
            if not target.exists() or (known is not None and unquote(parts.fragment) not in known.places):
                found.append(f"{path.relative_to(folder.resolve())}: {link}")
    return found


if __name__ == "__main__":
    lost = broken(Path(sys.argv[1]))
    print("\n".join(lost) if lost else "no broken link")
    raise SystemExit(bool(lost))

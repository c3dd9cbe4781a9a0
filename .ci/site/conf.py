"""The site, ``python -m sphinx -b html .ci/site site``: a guide made from examples/, and a reference of the docstrings."""

import importlib
import inspect
import os
import pkgutil
import re
import sys
from pathlib import Path
from textwrap import dedent

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("MPLBACKEND", "Agg")

from sphinx.errors import ExtensionError  # noqa: E402
from sphinx_gallery import notebook  # noqa: E402

import fastrnn  # noqa: E402

project, author, copyright = "fastrnn", "The fastrnn developers", "The fastrnn developers"
release = version = fastrnn.__version__
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # MathJax beside the pages, so that equations need no network
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
html_theme = "furo"
html_title = f"fastrnn {release}"
html_show_sphinx = False
default_role = "code"
exclude_patterns = ["sg_execution_times.rst", "guide/sg_execution_times.rst"]
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
# Types are text: "optimizer" would lead to whatever attribute has that name.
napoleon_use_param = False
html_static_path = ["static"]
html_css_files = ["style.css"]

sphinx_gallery_conf = {
    "examples_dirs": str(ROOT / "examples"),
    "gallery_dirs": "guide",
    # The numbered files are the guide. The others take minutes, or data.
    "filename_pattern": r"(^|[/\\])\d\d_",
    "ignore_pattern": r"(^|[/\\])(?!\d\d_)[^/\\]*\.py$",
    "within_subsection_order": "FileNameSortKey",
    "capture_repr": (),
    "show_memory": False,
    "download_all_examples": False,
    "show_signature": False,
    "abort_on_example_error": True,
}


_TABLE = re.compile(r"^(=+(?: +=+)+)\n(.+?)\n\1\n(.+?)\n\1$", re.M | re.S)
_ROLE = re.compile(r":\w+:`~?([^`<]+)`")
_LITERAL_BLOCK = re.compile(r"::\n\n((?: {4}.*(?:\n|\Z)|\n(?= {4}))+)")


def _markdown_table(found: re.Match[str]) -> str:
    spans = [slice(column.start(), column.end()) for column in re.finditer("=+", found[1])]
    spans[-1] = slice(spans[-1].start, None)
    rows: list[list[str]] = []
    for line in [*found[2].split("\n"), *found[3].split("\n")]:
        cells = [line[span].strip() for span in spans]
        if cells[0] or not rows:
            rows.append(cells)
        else:  # the line goes on with the row before
            rows[-1] = [f"{above} {cell}".strip() for above, cell in zip(rows[-1], cells, strict=True)]
    rows.insert(1, ["---"] * len(spans))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def as_in_notebooks(text: str, *args: object) -> str:
    """Text of a page for a notebook: sphinx-gallery leaves tables, roles and literal blocks as they are."""
    text = _TABLE.sub(_markdown_table, text)
    text = _LITERAL_BLOCK.sub(lambda found: f":\n\n```\n{dedent(found[1]).strip()}\n```\n", text)
    return _rst2md(_ROLE.sub(r"``\1``", text), *args)


_rst2md, notebook.rst2md = notebook.rst2md, as_in_notebooks


def public_modules() -> list[str]:
    """Modules and packages that the package lists, and the modules that name what is public in them."""
    found = []
    for name in sorted(fastrnn._MODULES):
        if name in ("engine", "model", "seq2seq", "batches"):  # kernels, and earlier import paths
            continue
        module = importlib.import_module(f"fastrnn.{name}")
        if module.__all__:
            found.append(module.__name__)
            for (
                public
            ) in module.__all__:  # autodoc sees names that are imported when first used only after that
                getattr(module, public)
    found += [f"fastrnn.cells.{entry.name}" for entry in pkgutil.iter_modules(fastrnn.cells.__path__)]
    return [*found, "fastrnn.streaming"]


def write_reference() -> None:
    """A page for each public module, which autodoc fills."""
    folder = HERE / "reference"
    folder.mkdir(exist_ok=True)
    names = public_modules()
    for name in names:
        directive = f".. automodule:: {name}\n   :members:\n"
        if not name.startswith("fastrnn.cells."):  # what cells inherit is for the engine
            directive += "   :inherited-members: object, dict, tuple\n"
        text = f"{name}\n{'=' * len(name)}\n\n{directive}"
        (folder / f"{name}.rst").write_text(text, encoding="utf-8")
    index = "Reference\n=========\n\n.. toctree::\n   :maxdepth: 1\n\n" + "".join(
        f"   {name}\n" for name in names
    )
    (folder / "index.rst").write_text(index, encoding="utf-8")


def of_other_libraries(app, what, name, obj, skip, options):
    """Leave out what classes inherit from other libraries, except scikit-learn's parameters and scores."""
    module = getattr(obj, "__module__", None) or "fastrnn"
    return True if what == "class" and not module.startswith(("fastrnn", "sklearn.base")) else None


def types_as_text(app, what, name, obj, options, lines) -> None:
    """Write the types of attributes as text too, after napoleon has read the docstring."""
    lines[:] = [re.sub(r"^(\s*):type: (.+)", r"\1*\2*", line) for line in lines]


def all_names_are_there(app, error) -> None:
    """Fail where a public class or function is missing in the reference."""
    there = app.env.domaindata["py"]["objects"]
    modules = {name: importlib.import_module(name) for name in public_modules()}
    missing = [
        f"{module}.{name}"
        for module, content in modules.items()
        for name in content.__all__
        if inspect.isroutine(getattr(content, name)) or inspect.isclass(getattr(content, name))
        if f"{module}.{name}" not in there
    ]
    if missing and error is None:
        raise ExtensionError(f"the reference lacks {', '.join(missing)}")


def setup(app) -> None:
    app.connect("autodoc-skip-member", of_other_libraries)
    app.connect("autodoc-process-docstring", types_as_text, priority=900)
    app.connect("build-finished", all_names_are_there)


write_reference()

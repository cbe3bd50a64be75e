"""Configuration of the documentation site: ``make docs`` builds it in build/docs."""

import os
import sys
import warnings
from pathlib import Path
from typing import Any

# The figures of the gallery are drawn without a display.
os.environ.setdefault("MPLBACKEND", "Agg")
sys.path.insert(0, str(Path(__file__).parent / "extensions"))

import hpcembed

project = "hpcembed"
author = "hpcembed developers"
copyright = "hpcembed developers"
version = release = hpcembed.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    # of this folder
    "generated_text",
    "repository_pages",
]
templates_path = ["_templates"]
exclude_patterns = ["_templates", "extensions", "everyday/table.md"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

html_theme = "furo"
html_title = f"hpcembed {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "monokai"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4

#: Pages that show a file of the repository, which other readers find at its own place.
repository_pages = {
    "contributing": "CONTRIBUTING.md",
    "changelog": "CHANGELOG.md",
    "explanations/benchmarks": "benchmarks/README.md",
    "explanations/miramns_package": "solvers/miramns/README.md",
}

autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "remove_config_comments": True,
    "min_reported_time": 60,
    "write_computation_times": False,
    "image_scrapers": ("matplotlib",),
    "within_subsection_order": "FileNameSortKey",
}
# A page of the gallery holds no cached results of its own, and the numbers of the build are fresh.
suppress_warnings = ["config.cache"]
warnings.filterwarnings("ignore", category=ResourceWarning)


def _skip(app: Any, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the methods that scikit-learn adds, whose text refers to its own site."""
    own = (getattr(member, "__module__", "") or "").startswith(("hpcembed", "miramns"))
    requests = name.startswith("set_") and name.endswith("_request")
    return True if requests or not (own or isinstance(member, property)) else None


def setup(app: Any) -> None:
    """Register the choice of members."""
    app.connect("autodoc-skip-member", _skip)

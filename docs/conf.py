"""The documentation site: ``make docs`` builds it into ``build/docs``, without the network."""

import importlib.metadata
import os
import sys
from pathlib import Path

import matplotlib

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # the command saddlescope
os.environ["IPYTHONDIR"] = str(HERE / "_ipython")  # how notebooks show figures
os.environ["PYTHONPATH"] = str(HERE.parent / "examples" / "monitor")  # what the gallery imports
os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"

project = "saddlescope"
author = "The saddlescope developers"
copyright = author
version = release = importlib.metadata.version("saddlescope")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_design", "sphinx_copybutton"]
extensions += ["claims", "docstrings", "listings", "live", "mathml", "offline"]  # in _ext
root_doc = "index"
exclude_patterns = ["_ext", "_ipython", "_parts"]
nitpicky = True
suppress_warnings = ["config.cache", "ref.python"]  # two modules have a Balance

myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_update_mathjax = False
math_number_all = False
math_eqref_format = "({number})"
equation_letters = {  # their equations are R.1, R.2, …
    "theory/conventions": "C",
    "theory/minibatch-noise": "M",
    "theory/identities": "I",
    "theory/one-mode": "O",
    "theory/stationary": "S",
    "theory/in-time": "T",
    "theory/full-network": "F",
    "theory/rank": "R",
    "theory/sgd-vs-langevin": "L",
}

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures are made by docstrings.py
python_maximum_signature_line_length = 88
nitpick_ignore_regex = [("py:class", r"(?!saddlescope\.).*")]  # types in signatures, as the source writes them

nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_show_tb = True  # a cell that fails is a warning, which fails the build
nb_execution_timeout = 600  # of a cell; all take seconds, but not on a machine that does other work
nb_merge_streams = True

html_theme = "pydata_sphinx_theme"
html_title = "saddlescope"
# Letters of formulas for readers whose machine has no font with them: Matplotlib brings one.
html_static_path = ["_static", str(Path(matplotlib.get_data_path(), "fonts", "ttf", "STIXGeneral.ttf"))]
html_css_files = ["site.css"]
html_favicon = "_static/logo.svg"
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_sidebars = {page.stem: [] for page in HERE.glob("*.md")}  # pages outside the sections have no section to show
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {"text": "saddlescope", "image_light": "_static/logo.svg", "image_dark": "_static/logo.svg"},
    "header_links_before_dropdown": 5,
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
    "show_toc_level": 2,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
copybutton_exclude = ".linenos, .gp, .go"

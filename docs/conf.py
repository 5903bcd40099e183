"""How `make docs` turns these pages into HTML. No fonts or scripts from elsewhere."""

import palate

project = "palate"
author = "the palate contributors"
project_copyright = "the palate contributors, Apache-2.0"
version = release = palate.__version__

extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
# Pages link to files outside docs/ too; those links are for readers of the repository.
suppress_warnings = ["myst.xref_missing"]
exclude_patterns = ["_build", "pictures"]

html_theme = "furo"
html_title = "palate"
html_show_sphinx = False

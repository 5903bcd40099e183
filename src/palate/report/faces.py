"""One result, three faces, written side by side.

Read next: `report.py` and `personal.py`, the results.
"""

import json
from pathlib import Path
from typing import Any

from palate.core.files import write_atomic


def write_faces(folder: Path, values: Any, text: str, page: str) -> Path:
    """Write report.json, report.txt and report.html; returns the page.

    Raises:
        StateError: when the disk refuses.
    """
    write_atomic(folder / "report.json", json.dumps(values, indent=2, default=str) + "\n")
    write_atomic(folder / "report.txt", text + "\n")
    write_atomic(folder / "report.html", page)
    return folder / "report.html"

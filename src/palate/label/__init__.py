"""Floor 2: making comparisons. Start reading at `labeler.py`."""

from palate.label.journal import Journal
from palate.label.labeler import Answer, Labeler, Pictures, Question, Told

__all__ = ["Answer", "Journal", "Labeler", "Pictures", "Question", "Told"]

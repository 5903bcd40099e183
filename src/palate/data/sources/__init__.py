"""The formats preferences come in, and the one function that imports them."""

from palate.data.sources.draft import REASONS, Draft, Fault, Importer, Reading
from palate.data.sources.export import export_pickapic, jpeg
from palate.data.sources.importing import SOURCES, import_comparisons, make_importer
from palate.data.sources.report import ImportReport

__all__ = [
    "REASONS",
    "SOURCES",
    "Draft",
    "Fault",
    "ImportReport",
    "Importer",
    "Reading",
    "export_pickapic",
    "import_comparisons",
    "jpeg",
    "make_importer",
]

"""One result, three faces: frame, text, page.

Read next: `report.py`, what is said; `page.py` and `templates/`, how it looks.
"""

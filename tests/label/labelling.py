"""A labelling as a process of its own, to be killed: URL, journal, number of questions."""

import sys
from pathlib import Path

from label.lit import picture, question
from label.stub import MODEL
from palate.label import Journal
from palate.label.endpoint import EndpointLabeler


def main(url: str, path: str, count: str) -> None:
    """Label and say how many labels there are; every answer is a line on stdout."""
    labeler = EndpointLabeler.open(model=MODEL, url=url, timeout=20, at_once=3)
    questions = [question(number=number) for number in range(int(count))]
    with Journal(Path(path)) as journal:
        for _, answer in labeler.label(questions, picture, journal, lambda _, __: None):
            sys.stdout.write(f"{answer.agreement}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])

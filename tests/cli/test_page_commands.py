"""Every training command in a method's page is one that `palate train` accepts."""

import re
import shlex

import pytest

from palate.objectives import OBJECTIVES
from palate.objectives.pages import page

BLOCK = re.compile(r"^```bash\n(.*?)^```", re.M | re.S)
NAMES = OBJECTIVES.names


def commands(text: str) -> list[list[str]]:
    """The words of every `palate train` in a page, without a `--dry-run` of its own."""
    lines = [
        line for block in BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()
    ]
    found = [shlex.split(line.replace(" --dry-run", "")) for line in lines]
    return [words[1:] for words in found if words[:2] == ["palate", "train"]]


@pytest.mark.parametrize("name", NAMES)
def test_a_page_trains_its_own_method_with_settings_that_exist(palate, name):
    found = commands(page(OBJECTIVES.named(name)))
    assert found, "show how to train with it"
    methods = []
    for words in found:
        answer = palate(*words, "--dry-run")
        assert answer.code == 0, answer.err
        methods += re.findall(r"^objective:\n  name: (\S+)$", answer.out, re.M)
    assert name in methods


def test_a_flag_that_does_not_exist_is_noticed(palate):
    """Planted: a page that lies is a failing test."""
    lie = "```bash\npalate train --model shipped --data my-pairs \\\n    --betta 3\n```\n"
    assert [palate(*words, "--dry-run").code for words in commands(lie)] == [2]

"""Help is complete, exemplary, and there at once."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cyclopts import App

from palate.cli.main import app
from palate.core.problems import Problem

COMMANDS = (
    "demo",
    "doctor",
    "methods",
    "data",
    "data import",
    "data show",
    "data freeze",
    "data label-part",
    "data judges",
    "data aggregate",
    "data flip",
    "data join",
    "data select",
    "label",
    "label rubric",
    "audit",
    "users",
    "users list",
    "users split",
    "users embed",
    "users identify",
    "users evaluate",
    "users fit",
    "world",
    "world scenes",
    "world pairs",
    "world people",
    "world pretrain",
    "train",
    "resume",
    "runs",
    "scorer",
    "scorer convert",
    "scorer train",
    "scorer test",
    "sample",
    "evaluate",
    "report",
)


def examples(text: str) -> list[str]:
    """The commands of a text, with continued lines joined and remarks cut off."""
    joined = re.sub(r"\\\n\s*", "", text)
    found = re.findall(r"^\s*(palate [^\n|]+)$", joined, re.MULTILINE)
    return [re.split(r"\s{3,}| > ", line.strip())[0] for line in found]


def parses(line: str) -> None:
    """Bind a command's words to its parameters, without running it."""
    import shlex

    from palate.cli.flags import read_flags

    words = shlex.split(line)[1:]
    if words[0].startswith("-"):
        return
    command, bound, _ = app.parse_args(words, print_error=False, exit_on_error=False)
    if words[0] == "train" and "--help" not in words:
        read_flags(bound.args, "palate train")
    assert callable(command)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_help_page_says_what_it_is_for_and_ends_with_real_commands(palate, command):
    answer = palate(*command.split(), "--help")
    assert answer.code == 0
    assert answer.err == ""
    about, _, end = answer.out.partition("Examples:")
    assert f"Usage: palate {command}".strip() in about
    lines = examples(end)
    assert lines
    assert all(line.startswith(f"palate {command}".strip()) for line in lines[:1])
    for line in lines:
        parses(line)


def test_no_command_is_missing_from_this_test():
    found: list[str] = []

    def walk(of: App, name: str) -> None:
        for word in of:
            if not word.startswith("-"):
                found.append(f"{name}{word}")
                walk(of[word], f"{name}{word} ")

    walk(app, "")
    assert sorted(found) == sorted(COMMANDS)


def test_groups_stand_in_the_order_of_the_work(palate):
    text = palate("--help").out
    places = [text.index(f"─ {name} ") for name in ("See", "Bring data", "Train", "Look")]
    assert places == sorted(places)


def test_every_parameter_is_described(palate):
    for command in COMMANDS:
        text = palate(*command.split(), "--help").out.partition("Examples:")[0]
        bare = re.findall(r"│ \*?\s*(--[a-z-]+(?: [A-Z]+)?)\s+(?:\[|│)", text)
        assert not bare, f"{command}: {bare}"


def test_every_setting_of_a_run_and_every_method_is_in_the_help_of_train(palate):
    from palate.train.run import settings

    text = palate("train", "--help").out
    for setting in settings():
        flag = setting.path.replace("_", "-")
        if not setting.required and setting.path != "objective.name":
            assert f"--{flag}" in text
    assert "Methods: sft, dpo" in text


def test_the_version_is_the_packages(palate):
    import palate as package

    assert palate("--version").out.strip() == package.__version__


def test_help_comes_without_importing_torch():
    code = (
        "import sys\nfrom palate.cli.main import main\nmain(['--help'])\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'diffusers', 'pyarrow')))"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert done.returncode == 0
    # Generous: shared machines stall. Alone it takes 0.2 s.
    assert time.perf_counter() - started < 10


def test_methods_come_without_importing_diffusers():
    code = (
        "import sys\nfrom palate.cli.main import main\nmain(['methods'])\n"
        "sys.exit(any(name in sys.modules for name in ('diffusers', 'transformers')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert done.returncode == 0


@pytest.mark.parametrize("page", ["cli.md", "methods/sft.md", "methods/dpo.md"])
def test_every_command_in_our_pages_can_be_read(repository: Path, page):
    blocks = re.findall(r"```bash\n(.*?)```", (repository / "docs" / page).read_text(), re.DOTALL)
    lines = [line for block in blocks for line in examples(block)]
    assert lines or page.endswith("sft.md")
    for line in lines:
        try:
            parses(line)
        except Problem as problem:  # pragma: no cover - the message is the point
            pytest.fail(f"{line}: {problem}")

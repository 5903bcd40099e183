"""The command line's frame: how help looks, and the order in which the work is done."""

import textwrap
from typing import Annotated

from cyclopts import App, Group, Parameter

SEE = Group("See", sort_key=1)
DATA = Group("Bring data", sort_key=2)
TRAIN = Group("Train", sort_key=3)
LOOK = Group("Look", sort_key=4)
OTHER = Group("Other", sort_key=5)

Flag = Annotated[bool, Parameter(negative=(), show_default=False)]
"""An option that is there or not: `--json`, never `--no-json`."""


def examples(text: str) -> str:
    """The end of a help page: real commands, ready to copy."""
    lines = textwrap.dedent(text).strip()
    return f"Examples:\n\n{textwrap.indent(lines, '    ')}\n"


def new_app(name: str, help: str, epilogue: str) -> App:
    """A command, or a group of commands, that leaves errors and results to `main`."""
    app = App(
        name=name,
        help=help,
        help_epilogue=epilogue,
        help_format="plaintext",
        result_action="return_value",
        print_error=False,
        exit_on_error=False,
        suppress_keyboard_interrupt=False,
        group_commands=Group("Commands", sort_key=0),
    )
    app["--help"].group = OTHER
    return app

"""`palate methods`: the table of methods, one method's page, and β from anyone's convention."""

from typing import Annotated

from cyclopts import Parameter

from palate.cli.app import Flag, examples, new_app
from palate.cli.console import emit, next_steps, say, show_page, table
from palate.core.problems import unknown
from palate.objectives import OBJECTIVES
from palate.objectives.base import Objective
from palate.objectives.pages import at_init, evidence, needs, page
from palate.recipes.beta import convention, multiplier
from palate.recipes.beta import table as equals

methods = new_app(
    "methods",
    "List the training methods, read one's page, or convert a β.",
    examples(
        """
        palate methods
        palate methods dpo
        palate methods --json
        palate methods --beta-from diffusers-sd15 2500
        palate methods --beta-from simpletuner 0.01 --elements 262144
        """
    ),
)


@methods.default
def show(
    name: str | None = None,
    /,
    *,
    beta_from: Annotated[
        tuple[str, float] | None, Parameter(negative=(), metavar="CONVENTION VALUE")
    ] = None,
    elements: int | None = None,
    json: Flag = False,
) -> None:
    """List the training methods, read one's page, or convert a β.

    Args:
        name: The method whose page to print; without it, the table of all.
        beta_from: Convert another implementation's β to ours, and show it in every convention.
        elements: Channels × height × width of a latent, for conventions that sum errors.
        json: Print JSON and nothing else.
    """
    if beta_from is not None:
        _beta(*beta_from, elements, json)
    elif name is not None:
        _page(name, json)
    elif json:
        emit([_facts(objective) for objective in OBJECTIVES])
    else:
        _table()


def _table() -> None:
    rows = [
        (each.name, each.title, each.paper, each.year, needs(each), evidence(each))
        for each in OBJECTIVES
    ]
    table(("name", "title", "paper", "year", "needs", "evidence"), rows)
    next_steps(f"palate methods {OBJECTIVES[-1].name}", "palate train --help")


def _page(name: str, json: bool) -> None:
    if name not in OBJECTIVES:
        raise unknown("method", name, OBJECTIVES.names)
    if json:
        emit({**_facts(OBJECTIVES.named(name)), "page": page(OBJECTIVES.named(name))})
    else:
        show_page(page(OBJECTIVES.named(name)))


def _facts(objective: type[Objective]) -> dict[str, object]:
    return {
        "name": objective.name,
        "title": objective.title,
        "paper": objective.paper,
        "year": objective.year,
        "needs": objective.needs.asdict(),
        "at_init": at_init(objective),
        "evidence": evidence(objective),
    }


def _beta(name: str, beta: float, elements: int | None, json: bool) -> None:
    source = convention(name)
    effective = multiplier(source, beta, elements)
    ours = float(2 * effective)
    same = equals(effective, elements)
    if json:
        betas = {each.convention.name: each.beta for each in same}
        emit(
            {
                "convention": source.name,
                "value": beta,
                "elements": elements,
                "beta": ours,
                "effective_multiplier": float(effective),
                "conventions": betas,
            }
        )
        return
    say(f"{source.name} {beta:.10g}  =  --beta {ours:.10g} here")
    say(f"effective multiplier of the mean-error margin: {float(effective):.10g}")
    if source.remark:
        say(f"{source.name}: {source.remark}")
    say()
    rows = [
        (
            each.convention.name,
            each.convention.formula,
            "needs --elements" if each.beta is None else f"{each.beta:.10g}",
            each.convention.usual,
            each.convention.remark,
        )
        for each in same
    ]
    table(("convention", "logit", "the same β there", "usual there", "remark"), rows)

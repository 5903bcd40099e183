"""`palate methods`: the table of methods, one method's page, and β from anyone's convention."""

from typing import Annotated

from cyclopts import Parameter

from palate.cli.app import Flag, examples, new_app
from palate.cli.console import emit, next_steps, say, show_page, table
from palate.core.problems import unknown
from palate.objectives import OBJECTIVES
from palate.objectives.base import Objective
from palate.objectives.cost import cost_of, relative, relative_once
from palate.objectives.pages import at_init, evidence, needs, needs_briefly, page
from palate.recipes.beta import convention, multiplier
from palate.recipes.beta import table as equals
from palate.recipes.published import RECIPES, Recipe

_COST = """\
cost      passes through the network per pair, beside Diffusion-DPO's; one that
          goes back counts as two. Per prompt, and at most, where the policy
          draws. What follows a + is done once a pair and kept, or once a round.
averages  of the policy, which are asked as well
facts     numbers that come with each pair
drawing   pictures by the policy, while it trains"""

methods = new_app(
    "methods",
    "List the training methods, read one's page, or convert a β.",
    examples(
        """
        palate methods
        palate methods dpo
        palate methods --json
        palate methods --recipes
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
    recipes: Flag = False,
    json: Flag = False,
) -> None:
    """List the training methods, read one's page, or convert a β.

    Args:
        name: The method whose page to print; without it, the table of all.
        beta_from: Convert another implementation's β to ours, and show it in every convention.
        elements: Channels × height × width of a latent, for conventions that sum errors.
        recipes: List the published runs that `palate train --recipe` knows.
        json: Print JSON and nothing else.
    """
    if beta_from is not None:
        _beta(*beta_from, elements, json)
    elif recipes:
        _recipes(json)
    elif name is not None:
        _page(name, json)
    elif json:
        emit([_facts(objective) for objective in OBJECTIVES])
    else:
        _table()


def _table() -> None:
    rows = [
        (each.name, _paper(each), each.year, _cost(each), needs_briefly(each), evidence(each))
        for each in OBJECTIVES
    ]
    table(("name", "paper", "year", "cost", "needs", "evidence"), rows)
    say()
    say(_COST)
    next_steps(f"palate methods {OBJECTIVES[-1].name}", "palate train --help")


def _paper(objective: type[Objective]) -> str:
    """Where it stands; a long address on two lines."""
    kind, colon, name = objective.paper.partition(":")
    return objective.paper if kind == "arXiv" else f"{kind}{colon}\n{name}"


def _cost(objective: type[Objective]) -> str:
    once = relative_once(objective)
    return f"{relative(objective):.3g}×" + (f"\n+{once:.3g}×" if once else "")


def _recipes(json: bool) -> None:
    """Published runs, all of them or as JSON with every setting."""
    if json:
        emit([{**_published(each), "settings": each.settings()} for each in RECIPES])
        return
    table(("recipe", "method", "what"), [(e.name, e.method, e.about) for e in RECIPES])
    next_steps(f"palate train --recipe {RECIPES[0].name} --model MODEL --data my-pairs --dry-run")


def _recipes_of(objective: type[Objective]) -> list[str]:
    return [each.name for each in RECIPES if each.method == objective.name]


def _published(each: Recipe) -> dict[str, object]:
    return {"name": each.name, "method": each.method, "about": each.about}


def _page(name: str, json: bool) -> None:
    if name not in OBJECTIVES:
        raise unknown("method", name, OBJECTIVES.names)
    objective = OBJECTIVES.named(name)
    text = page(objective, _recipes_of(objective))
    if json:
        emit({**_facts(objective), "page": text})
    else:
        show_page(text)


def _facts(objective: type[Objective]) -> dict[str, object]:
    return {
        "name": objective.name,
        "title": objective.title,
        "paper": objective.paper,
        "year": objective.year,
        "needs": objective.needs.asdict(),
        "needs_in_words": needs(objective),
        "cost": {
            **cost_of(objective).asdict(),
            "relative": relative(objective),
            "relative_once": relative_once(objective),
        },
        "recipes": _recipes_of(objective),
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

"""`palate label`: put a store's pairs to a machine, and keep what it answers as labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, final

from cyclopts import Parameter

from palate.cli.app import Flag, examples, new_app
from palate.cli.console import Bar, emit, next_steps, note, say, show_page, table

if TYPE_CHECKING:
    from palate.data.store import Snapshot
    from palate.label.fill import Filled
    from palate.label.spent import Spent

_LIST = Parameter(negative=(), consume_multiple=False)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """How differences become labels; what is not told is the labeler's own.

    Args:
        sharpness: What differences are multiplied by; none gives hard labels. 1 unless told.
        margin: Differences of scores below it give no label.
        indifference: Differences of scores up to it are ties. 0 unless told.
        draws: Levels of noise at which own:RUN is asked about each pair. 8 unless told.
    """

    sharpness: float | Literal["none"] | None = None
    margin: float | None = None
    indifference: float | None = None
    draws: int | None = None

    def settings(self) -> dict[str, Any]:
        """What was told, by name."""
        told = {"margin": self.margin, "indifference": self.indifference, "draws": self.draws}
        found: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
        if self.sharpness is not None:
            found["sharpness"] = None if self.sharpness == "none" else self.sharpness
        return found


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How a vision model is asked, and where an endpoint is.

    Args:
        rubric: What a vision model is asked: general, faithful, or a file of your own.
        largest_side: Pictures are made smaller for a vision model, to fit this many pixels.
        no_canary: Do not try its verdicts by asking which picture is worse.
        allow_orders: Also ask about captions that speak to the judge.
        url: Where an endpoint answers, as in http://localhost:8000/v1.
        at_once: Pairs an endpoint is asked about at one time. 4 unless told.
        retries: How often a failed request is made again. 3 unless told.
        timeout: Seconds for one request. 60 unless told.
        no_schema: Do not send the form of the answer; for servers that refuse it.
        no_probabilities: Do not ask for tokens' probabilities; for servers that refuse it.
        price_in: Of a million tokens read, in any currency.
        price_out: Of a million tokens written.
    """

    rubric: str | None = None
    largest_side: int | None = None
    no_canary: Flag = False
    allow_orders: Flag = False
    url: str | None = None
    at_once: int | None = None
    retries: int | None = None
    timeout: float | None = None
    no_schema: Flag = False
    no_probabilities: Flag = False
    price_in: float | None = None
    price_out: float | None = None

    def settings(self) -> dict[str, Any]:
        """What was told, by name."""
        told = {
            "rubric": self.rubric,
            "largest_side": self.largest_side,
            "canary": False if self.no_canary else None,
            "allow_orders": self.allow_orders or None,
            "url": self.url,
            "at_once": self.at_once,
            "retries": self.retries,
            "timeout": self.timeout,
            "structured": False if self.no_schema else None,
            "probabilities": False if self.no_probabilities else None,
            "price_in": self.price_in,
            "price_out": self.price_out,
        }
        return {name: value for name, value in told.items() if value is not None}


_AS_USUAL, _PLAINLY = Scoring(), Asking()
label = new_app(
    "label",
    "Have a machine label a store's pairs: scorers, a vision model, or a model itself.",
    examples(
        """
        palate label my-store --by clip:MODEL-FOLDER
        palate label my-store --by world --sharpness none --freeze my-pairs
        palate label my-store --by world:vividness --by world:fidelity \\
            --together pareto
        palate label my-store --by endpoint:MODEL --url http://localhost:8000/v1
        palate label my-store --by own:runs/first
        palate label rubric > my-rubric.md
        """
    ),
)


@label.default
def ask(
    store: Path,
    /,
    *,
    by: Annotated[list[str], _LIST],
    together: Literal["majority", "pareto", "calibrated"] | None = None,
    limit: int | None = None,
    freeze: Path | None = None,
    scoring: Annotated[Scoring, Parameter(name="*")] = _AS_USUAL,
    asking: Annotated[Asking, Parameter(name="*")] = _PLAINLY,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    json: Flag = False,
) -> None:
    """Ask a machine which picture of every pair is better, and add its labels to a store.

    Every two pictures are asked about once, whoever judged them before. Run the
    same command again after an interruption: what was answered is not asked
    again. Where a machine cannot tell, there is no label, and the reason is
    counted. An endpoint's key is taken from PALATE_ENDPOINT_KEY.

    Args:
        store: The store; labels are added, none is changed.
        by: A scorer such as world or clip:FOLDER, endpoint:MODEL, vision:FOLDER, own:RUN or
            own:RUN@STEP.
        together: How several scorers, each with a --by of its own, make one label.
        limit: Ask about no more pairs than this.
        freeze: Also freeze the store into this new folder.
        scoring: How differences become labels.
        asking: How a vision model is asked.
        device: Where networks compute.
        json: Print what came of it as JSON and nothing else.
    """
    from palate.cli.named import device_named
    from palate.data.store import Store
    from palate.label.fill import fill, pictures_of
    from palate.recipes.labels import hire

    _check(store, limit, freeze)
    place = Store(store)
    hired = hire(
        by,
        together=together,
        settings={**scoring.settings(), **asking.settings()},
        device=device_named(device),
        others=lambda: pictures_of(place.rows()),
    )
    try:
        with Bar("asked") as bar:
            filled = fill(place, hired.labeler, told=bar.at, limit=limit)
    except KeyboardInterrupt:
        note("What was answered is kept: the same command again asks only for the rest.")
        raise
    spent = None if hired.spent is None else hired.spent()
    made = place.freeze(freeze) if freeze is not None else None
    if json:
        facts = {
            **filled.to_json(),
            "spent": None if spent is None else spent.asdict(),
            "store": store,
            "snapshot": {"path": made.path, "digest": made.digest} if made else None,
        }
        emit(facts)
        return
    _show(store, filled, spent, made)


@label.command(
    help_epilogue=examples(
        """
        palate label rubric > my-rubric.md
        palate label rubric faithful
        """
    )
)
def rubric(name: Literal["general", "faithful"] = "general", /) -> None:
    """Print what a vision model is asked, to copy and edit: --rubric takes the edited file.

    Args:
        name: A rubric that came with palate.
    """
    from palate.label.rubric import shipped_text

    show_page(shipped_text(name))


def _check(store: Path, limit: int | None, freeze: Path | None) -> None:
    """Refuse what cannot work before anything large is opened."""
    from palate.core.problems import DataError, require

    require(
        not (store / "snapshot.json").is_file(),
        got=f"{store}, a frozen snapshot",
        need="a store: a snapshot never changes",
        fix="Name the store it was frozen from, then freeze that again; or make a new snapshot: "
        f"palate data label-part {store} OUT --share 1 --scorer …",
        kind=DataError,
    )
    require(
        (store / "store.json").is_file(),
        got=f"{store}, which is no store" if store.is_dir() else f"no folder {store}",
        need="a folder that `palate data import` filled",
        fix=f"palate data import PAIRS --store {store}",
        kind=DataError,
    )
    require(
        limit is None or limit >= 1,
        got=f"--limit {limit}",
        need="at least one pair",
        fix="Leave it out to ask about all.",
    )
    if freeze is not None:
        _check_room(freeze)


def _check_room(freeze: Path) -> None:
    """Refuse a snapshot that could not be written, before hours of labelling and not after."""
    from tempfile import TemporaryDirectory

    from palate.core.files import UNFINISHED
    from palate.core.problems import StateError, require

    require(
        not freeze.exists(),
        got=f"--freeze {freeze}, which exists",
        need="a new folder",
        fix="Choose another name, or remove it first.",
        kind=StateError,
    )
    # The nearest folder that is there: the others are going to be made in it.
    place = next(each for each in freeze.absolute().parents if each.exists())
    try:
        # What the mode says is not enough: disks are mounted read-only, and root may do anything.
        TemporaryDirectory(dir=place, prefix=UNFINISHED).cleanup()
    except OSError as error:
        raise StateError(
            got=f"--freeze {freeze}: {error}",
            need="a place that can be written to",
            fix="Choose another place; nothing was labelled.",
        ) from error


def _show(store: Path, filled: "Filled", spent: "Spent | None", made: "Snapshot | None") -> None:
    """Say what came of it, for people."""
    say(f"{store}: {filled.labelled:,} labels by {filled.judge}")
    rows = [("pairs in the store", filled.pairs)]
    rows += [("labelled by it before", filled.before)] if filled.before else []
    rows += [("asked now", filled.asked)]
    rows += [(f"  {name}", count) for name, count in filled.labels.items()]
    rows += [(f"  no label: {reason}", count) for reason, count in filled.none.items()]
    table(("", "pairs"), [(name, f"{count:,}") for name, count in rows])
    if filled.withheld:
        say(f"pairs without a label, and why: {filled.listed}")
    if filled.agree is not None:
        say(f"prefers what people prefer: {filled.agree}")
    if spent is not None:
        say(spent.words())
    elif filled.asked:
        say(f"{filled.asked / max(filled.seconds, 1e-9):,.3g} pairs a second")
    next_steps(*_next(store, filled, made))


def _next(store: Path, filled: "Filled", made: "Snapshot | None") -> tuple[str, ...]:
    """What most people want now: beside people's labels, a machine's are weighed or corrected."""
    if made is None:
        return f"palate data freeze {store} my-pairs", f"palate data show {store}"
    train = f"palate train --model shipped --data {made.path} --out runs/labelled"
    if filled.agree is None:
        return f"palate data show {made.path}", train
    return f"palate data judges {made.path}", f"{train} --method dedpo"

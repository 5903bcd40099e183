"""`palate audit`: put every question to a snapshot, and act on what is found."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, final

from cyclopts import Parameter

from palate.cli.app import Flag, examples, new_app
from palate.cli.audit_sources import Sources
from palate.cli.console import Bar, emit, next_steps, say, show_page
from palate.core.problems import require

if TYPE_CHECKING:
    from palate.audit.apply import Applied, Wishes
    from palate.report.audit import AuditReport

_MANY = Parameter(negative=(), consume_multiple=True)
Codes = Annotated[list[str] | None, _MANY]
ISSUES, ALL = 3, "all"

audit = new_app(
    "audit",
    "Ask a snapshot what is wrong with its labels, before training on it.",
    examples(
        """
        palate audit my-pairs
        palate audit my-pairs --page audit.html --against world:held-out:200
        palate audit my-pairs --run runs/first --silence T009
        palate audit my-pairs --folds 2 --work runs/audit --assume flips
        palate audit my-pairs --drop T001 T002 --downweight T013 --out doubted
        palate audit my-pairs --relabel-queue T003 --out doubted
        palate audit --explain T004
        """
    ),
)


@final
@dataclass(frozen=True, slots=True)
class Actions:
    """What to do about what is found. Codes or names; several may follow one option.

    Args:
        drop: Leave the records of these findings out.
        downweight: Move their labels towards one half, as far as their doubt says.
        relabel_queue: Take the labels from their pairs, and queue the pairs to be asked again.
        out: The new snapshot; pairs to be asked again go into the new store OUT-queue.
    """

    drop: Codes = None
    downweight: Codes = None
    relabel_queue: Codes = None
    out: Path | None = None

    def wishes(self) -> "Wishes":
        """As the audit takes them, every code checked.

        Raises:
            SettingError: for an unknown check, or where `out` and the wishes do not fit.
        """
        from palate.audit.apply import Wishes
        from palate.audit.run import named

        lists = [self.drop or (), self.downweight or (), self.relabel_queue or ()]
        drop, downweight, relabel = (tuple(named(word).code for word in each) for each in lists)
        wishes = Wishes(drop=drop, downweight=downweight, relabel=relabel)
        require(
            wishes.some == (self.out is not None),
            got="no --out" if wishes.some else f"--out {self.out} without anything to do",
            need="a new folder together with --drop, --downweight or --relabel-queue",
            fix="Add for example --out doubted" if wishes.some else "Leave --out away.",
        )
        return wishes


_NOTHING, _BARE = Actions(), Sources()
Assumed = Literal["people", "flips"]


@audit.default
def ask(
    snapshot: Path | None = None,
    /,
    *,
    sources: Annotated[Sources, Parameter(name="*")] = _BARE,
    assume: Assumed = "people",
    silence: Codes = None,
    page: Path | None = None,
    json: Flag = False,
    strict: Flag = False,
    explain: str | None = None,
    actions: Annotated[Actions, Parameter(name="*")] = _NOTHING,
) -> int | None:
    """Ask a snapshot what is wrong with its labels, before training on it.

    Every check has a code, one question, and the records behind its answer. What
    is found can be silenced by name, or acted on, into a new snapshot; the old one
    never changes.

    Args:
        snapshot: A frozen snapshot.
        sources: What else is known.
        assume: Why a label may be against most people's, for T013: people, who disagree most where
            pictures are nearly equal; or flips, turned round at one rate whatever the pair.
        silence: Checks that are not asked, by code or name.
        page: Also write the page with the pictures, one HTML file.
        json: Print the audit as JSON and nothing else.
        strict: Leave with exit code 3 where an issue was found.
        explain: Print the page of a check, or of all, and leave.
        actions: What to do about what is found.
    """
    if explain is not None:
        return _explain(explain)
    require(
        snapshot is not None,
        got="no snapshot",
        need="a frozen snapshot to audit",
        fix="palate audit my-pairs",
    )
    assert snapshot is not None
    wishes = actions.wishes()
    report = _asked(snapshot, sources, assume, silence or [])
    if page is not None:
        report.save(page)
    done = None
    if actions.out is not None:
        from palate.audit.apply import apply

        done = apply(report.audit, report.data, actions.out, wishes)
    _tell(report, page, done, json)
    return ISSUES if strict and report.audit.issues else None


def _explain(word: str) -> None:
    from palate.audit.pages import page, pages
    from palate.audit.run import named

    show_page(pages() if word == ALL else page(named(word)))


def _asked(
    snapshot: Path, sources: Sources, assume: Assumed, silence: Sequence[str]
) -> "AuditReport":
    from palate.audit.audited import Audited
    from palate.audit.checks import assuming
    from palate.audit.run import audit as put
    from palate.audit.run import named
    from palate.report.audit import AuditReport

    # Names are checked before anything long begins.
    quiet = [named(word).code for word in silence]
    sources.check()
    data = Audited(snapshot)
    data.evidence = sources.evidence(data)
    with Bar("checks") as bar:
        found = put(data, assuming(assume), quiet, told=bar.at)
    return AuditReport(audit=found, data=data)


def _tell(report: "AuditReport", page: Path | None, done: "Applied | None", json: bool) -> None:
    if json:
        made = None if done is None else _made(done)
        emit({**report.json(), "page": page, "applied": made})
        return
    say(report.text())
    if page is not None:
        say()
        say(f"page  {page}")
    if done is not None:
        say()
        say(_words(done))
    snapshot = report.audit.snapshot
    if done is not None and done.queue is not None:
        next_steps(f"palate label {done.queue} --by WORDS --freeze my-answers")
    elif done is not None:
        next_steps(f"palate audit {done.snapshot.path}")
    elif page is None:
        next_steps(f"palate audit {snapshot} --page audit.html", "palate audit --explain T004")


def _made(done: "Applied") -> dict[str, object]:
    facts = {"path": done.snapshot.path, "digest": done.snapshot.digest, "queue": done.queue}
    return {**facts, **done.asdict()}


def _words(done: "Applied") -> str:
    """What became of the records; they add up."""
    pairs = "1 pair waits" if done.queued == 1 else f"{done.queued:,} pairs wait"
    queue = f"; {pairs} in {done.queue}" if done.queue is not None else ""
    stayed = f" ({done.undoubted:,} of them without a doubt to weigh by)" if done.undoubted else ""
    apart = f", {done.split:,} taken apart into {done.parts:,}" if done.split else ""
    merged = f" ({done.merged:,} came out the same as another)" if done.merged else ""
    return (
        f"{done.snapshot.path}: of {done.before:,} records {done.kept:,} kept{stayed}, "
        f"{done.dropped:,} left out, {done.downweighted:,} weighed less, {done.unlabelled:,} to be "
        f"asked again{apart}; {done.after:,} records now{merged}{queue}"
    )

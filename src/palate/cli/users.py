"""`palate users`: whose pairs are in a snapshot, and who is kept for judging."""

from pathlib import Path
from typing import TYPE_CHECKING

from palate.cli.app import Flag, examples, new_app
from palate.cli.console import emit, next_steps, note, say, table
from palate.cli.users_embed import embed, identify
from palate.cli.users_fit import fit
from palate.core.problems import require

if TYPE_CHECKING:
    from palate.data.activity import Activity
    from palate.data.people import Everybody, UserFacts
    from palate.data.seen import People

users = new_app(
    "users",
    "People: list, split and embed them, ask whom a model follows.",
    examples(
        """
        palate users list my-pairs
        palate users split my-pairs --out my-people
        palate users embed their-pairs --weights runs/ppd \\
            --out theirs.safetensors
        """
    ),
)

users.command(
    embed,
    help_epilogue=examples(
        """
        palate users embed their-pairs --weights runs/ppd \\
            --out theirs.safetensors
        palate users embed my-pairs --user 17 --by looks --out 17.safetensors
        palate users embed my-pairs --user 17 --by clip:models/clip \\
            --pooling pairs --out 17.safetensors
        """
    ),
)
users.command(
    identify,
    help_epilogue=examples(
        """
        palate users identify my-pairs --by looks
        palate users identify my-pairs --by clip:models/clip --examples 4 --k 1,5,16
        palate users identify my-pairs --weights runs/ppd --json
        """
    ),
)
users.command(
    fit,
    help_epilogue=examples(
        """
        palate users fit my-people/train --out my-tastes
        palate users fit my-people/train --by clip:models/clip --dimensions 8 \\
            --out my-tastes
        """
    ),
)
# By name, and imported when called: it comes with torch.
users.command(
    "palate.cli.users_evaluate:evaluate",
    name="evaluate",
    help="Ask whether a model follows people, or only became better for everybody.",
)


@users.command(
    name="list",
    help_epilogue=examples(
        """
        palate users list my-pairs
        palate users list my-pairs --most 100
        palate users list my-pairs --json
        """
    ),
)
def list_users(snapshot: Path, /, *, most: int = 20, few: int = 4, json: Flag = False) -> None:
    """Say who judged, how much of it can be used, and how unevenly it is spread.

    A user is a judge with a name. Where any person judged, machines are none.
    Ties say nothing of a taste; of two pictures that one user put in either
    order, neither answer is used.

    Args:
        snapshot: A frozen snapshot.
        most: How many users to print, the busiest first; --json has them all.
        few: How many different pairs are enough to know a user by.
        json: Print JSON and nothing else.
    """
    from dataclasses import asdict

    from palate.data.activity import activity
    from palate.data.pairs import PreferencePairs
    from palate.data.people import survey, usable

    for name, value in (("most", most), ("few", few)):
        require(value >= 1, got=f"--{name} {value}", need="at least 1", fix=f"Try --{name} 4.")
    pairs = PreferencePairs.open(snapshot)
    found = survey(pairs)
    # Users with ties only are still worth a list; nobody at all is not.
    found = found if found.facts else usable(pairs)
    spread = activity(found, few=few)
    if json:
        emit(
            {
                "people": found.people,
                "users": len(found.facts),
                "activity": spread and spread.asdict(),
                "ties": found.ties,
                "contradictory": found.contradictory,
                "machines_left_out": found.machines,
                "nameless_left_out": found.nameless,
                "by_user": [asdict(each) for each in found.facts],
            }
        )
        return
    table(("", str(snapshot)), _together(found, spread))
    say()
    table(
        ("user", "kind", "preferred one", "prompts", "ties", "contradictory", "usable"),
        [_line(each) for each in found.facts[:most]],
    )
    if len(found.facts) > most:
        say(f"… and {len(found.facts) - most:,} more (--most)")
    _warn_of_machines(machines_only=not found.people)
    if spread is not None and spread.users > 1:
        next_steps(f"palate users split {snapshot} --out people")


@users.command(
    help_epilogue=examples(
        """
        palate users split my-pairs --out my-people
        palate users split my-pairs --out my-people --unseen 0.25 --held-out 0.1
        palate users split my-pairs --out my-prompts --unseen 0
        """
    )
)
def split(
    snapshot: Path,
    /,
    *,
    out: Path,
    unseen: float = 0.25,
    held_out: float = 0.1,
    few: int = 4,
    seed: int = 0,
    json: Flag = False,
) -> None:
    """Keep some users, and some prompts of the others, out of training, to judge by.

    Writes four snapshots into one folder: train; held-out, other prompts of the
    same users; examples, a few pairs of each unseen user; unseen, the rest of
    theirs. Of one user no prompt is in two of them. Nothing of the old snapshot
    changes.

    Args:
        snapshot: A frozen snapshot.
        out: The new folder.
        unseen: The share of users nobody learns from, of those with pairs enough.
        held_out: The share of each other user's prompts that is held out.
        few: How many pairs of an unseen user are examples.
        seed: Who, and which prompts.
        json: Print JSON and nothing else.
    """
    from palate.data.seen import part_people

    made = part_people(snapshot, out, unseen=unseen, held_out=held_out, few=few, seed=seed)
    if json:
        paths = {name: part.path for name, part in made.parts.items()}
        emit({"path": out, "parts": paths, **made.asdict()})
        return
    table(("part", "users", "pairs", "prompts", "others' in train"), _parts(made))
    for told in _left_out(made, few):
        say(told)
    _warn_of_machines(machines_only=made.machines_only)
    next_steps(
        f"palate users list {out / 'train'}",
        f"palate train --model shipped --data {out / 'train'} --method ppd --out runs/ppd",
    )


def _together(found: "Everybody", spread: "Activity | None") -> list[tuple[str, str]]:
    """What is said of all users."""
    rows = [
        ("users", f"{len(found.facts):,}"),
        ("pairs with a preference", f"{sum(each.pairs for each in found.facts):,}"),
        ("ties", f"{found.ties:,}"),
        ("contradictory pairs", f"{found.contradictory:,}"),
        ("usable pairs", f"{spread.pairs if spread else 0:,}"),
    ]
    if spread is not None:
        rows += [
            (f"users with {spread.few} different ones", f"{spread.enough:,}"),
            ("users with a single one", f"{spread.alone:,}"),
            ("median per user", f"{spread.median:g}"),
            ("the busiest user's share", f"{spread.busiest_share:.1%} ({spread.busiest})"),
            ("the busiest hundredth's share", f"{spread.top_share:.1%} (n = {spread.top_users:,})"),
        ]
    others = {"by machines, left out": found.machines, "nobody's, left out": found.nameless}
    return rows + [(name, f"{count:,}") for name, count in others.items() if count]


def _line(each: "UserFacts") -> tuple[str, ...]:
    counts = (each.pairs, each.prompts, each.ties, each.contradictory, each.usable)
    return (each.user, each.source, *(f"{count:,}" for count in counts))


def _parts(made: "People") -> list[tuple[str, ...]]:
    return [
        (
            name,
            f"{made.users[name]:,}",
            f"{count:,}",
            f"{made.prompts[name]:,}",
            f"{made.known[name]:,}" if name in made.known else "",
        )
        for name, count in made.pairs.items()
    ]


def _left_out(made: "People", few: int) -> list[str]:
    """A line for everything that is in no part, or cannot be what it is for."""
    wrong = {
        "ties are left out": made.ties,
        "pairs are left out because the same user also said the opposite": made.contradictory,
        "judgements by machines are left out": made.machines,
        "judgements of nobody known are left out": made.nameless,
        "pairs of unseen users are set aside: they are on the prompts of examples": made.set_aside,
        "users have nothing that can be used": made.nothing,
        f"users cannot be unseen: they lack {few} different pairs and one on another prompt to "
        "judge by": made.small,
        "users in train have a single pair, which is no example of itself: nothing is learned of "
        "them": made.alone,
    }
    return [f"{count:,} {words}" for words, count in wrong.items() if count]


def _warn_of_machines(*, machines_only: bool) -> None:
    if machines_only:
        note("no person judged here: these users are machines, and their tastes are scores")

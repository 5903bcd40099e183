"""Training, held-out and unseen people: a snapshot taken apart by user, and by prompt within one.

Whether a model follows somebody it never learned from is asked of unseen people, of each of whom a
few pairs are known; whether it follows those it did learn from, of their other prompts. A user is
seen or unseen, never both, and of one user no prompt is on two sides. Other people may have asked
for the same thing: how many prompts training knows from somebody else is counted.

Read next: `people.py`, who is a user and which pairs can be used; `examples.py`, which few of them
stand for a user.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final

from palate.core.files import new_folder, write_json
from palate.core.problems import DataError, require
from palate.core.streams import Streams
from palate.data.comparison import Comparison
from palate.data.examples import examples_for
from palate.data.folds import folded
from palate.data.pack import Pack
from palate.data.pairs import Pair, PreferencePairs, pairs_of
from palate.data.people import FEW, Everybody, different, pictures_of, usable
from palate.data.snapshot import read_imports, read_rows
from palate.data.store import Snapshot, digest_rows, write_snapshot
from palate.data.synthetic import LABELLED_PART
from palate.data.votes import two_by_two

# What a snapshot's record calls such a split, and the file beside its parts.
PEOPLE: Final = "people"
FILE: Final = "people.json"
TRAIN, HELD_OUT, EXAMPLES, UNSEEN = "train", "held-out", "examples", "unseen"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """What was made.

    Attributes:
        parts: By name: `train`, `held-out` (other prompts of the same people), `examples` (a few
            pairs of each unseen user), `unseen` (the rest of theirs, to judge by).
        pairs: How many are in each part.
        users: Whose they are: how many users in each part.
        prompts: How many different ones in each part.
        seen: Users in `train`.
        unseen: Users in `examples` and `unseen`.
        small: Users with too little to be unseen, all of them seen.
        alone: Seen users with one pair of pictures in `train`: nothing is learned of them, as no
            other pair can be its example.
        nothing: Users of whom nothing could be used.
        ties: Left out, as nobody was preferred.
        contradictory: Pairs left out because the same user also said the opposite.
        machines: Judgements left out because there are people.
        nameless: Judgements left out because nobody knows whose they are.
        set_aside: Pairs of unseen users on the prompts of their examples, or of the same two
            pictures: in no part.
        known: How many prompts of `held-out` and of `unseen` are in `train` too, where somebody
            else asked for the same.
        machines_only: Whether the users are machines, as nobody else judged.
    """

    parts: Mapping[str, Snapshot]
    pairs: Mapping[str, int]
    users: Mapping[str, int]
    prompts: Mapping[str, int]
    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    small: int
    alone: int
    nothing: int
    ties: int
    contradictory: int
    machines: int
    nameless: int
    set_aside: int
    known: Mapping[str, int]
    machines_only: bool

    def asdict(self) -> dict[str, Any]:
        """The counts and names as plain values, without paths."""
        counts = ("small", "alone", "nothing", "ties", "contradictory", "machines", "nameless")
        return {
            "pairs": dict(self.pairs),
            "users": dict(self.users),
            "prompts": dict(self.prompts),
            "digests": {name: part.digest for name, part in self.parts.items()},
            "seen": list(self.seen),
            "unseen": list(self.unseen),
            **{name: getattr(self, name) for name in (*counts, "set_aside")},
            "known_from_others": dict(self.known),
            "machines_only": self.machines_only,
        }


def part_people(
    snapshot: Path, out: Path, *, unseen: float, held_out: float, few: int = FEW, seed: int
) -> People:
    """Write a folder of snapshots: people to learn from, and people and prompts to judge by.

    Ties, contradictory pairs and judgements that are no user's are left out of all parts. Records
    of more than two pictures become pairs. Who is unseen and which prompts are held out depends on
    the seed, names, texts and ids, not on their order; the folder appears whole or not at all.

    Args:
        snapshot: A frozen snapshot.
        out: The new folder; a part that nothing was asked for is not in it.
        unseen: The share of users nobody learns from, of those with enough pairs: `few` different
            ones and another on a prompt of its own.
        held_out: The share of prompts held out of each seen user, rounded up or down by lot, so
            that it is the mean share of users with few prompts too; one always stays.
        few: How many pairs of an unseen user are examples.
        seed: Who, and which.

    Raises:
        SettingError: when a share or `few` makes no sense.
        DataError: when the snapshot is damaged or holds too little to be taken apart so.
        StateError: when `out` exists or the disk refuses.
    """
    _sensible(unseen, held_out, few)
    rows, pack = read_rows(snapshot), Pack(snapshot)
    twos = {two.id: two for row in rows for two in two_by_two(row) if two.labelled}
    found = usable(_opened(snapshot, pack, twos.values()))
    large = [user for user, mine in found.pairs.items() if _to_judge_by(mine, few)]
    away = _draw_users(found, large, unseen, few, seed)
    streams = Streams(seed)
    parts: dict[str, list[Pair]] = {TRAIN: [], HELD_OUT: [], EXAMPLES: [], UNSEEN: []}
    for user, mine in found.pairs.items():
        if user in away:
            near, far = _examples(mine, few, seed, user)
            names = (EXAMPLES, UNSEEN)
        else:
            near, far = _by_prompt(mine, held_out, streams, user)
            names = (TRAIN, HELD_OUT)
        parts[names[0]] += near
        parts[names[1]] += far
    require(
        bool(parts[HELD_OUT]) or held_out == 0,
        got=f"{held_out} of each user's prompts in {snapshot}, which is none",
        need="users with several prompts, or a larger share",
        fix="0.5 holds out one of two; 0 holds out none.",
        kind=DataError,
    )
    filled = {name: pairs for name, pairs in parts.items() if pairs}
    made = _counted(found, filled, away, len(found.pairs) - len(large))
    about = {"seed": seed, "unseen": unseen, "held_out": held_out, "few": few}
    return _write(snapshot, out, rows, twos, filled, made, about, pack)


def _sensible(unseen: float, held_out: float, few: int) -> None:
    for name, share in (("unseen", unseen), ("held_out", held_out)):
        require(
            0 <= share < 1,
            got=f"{name}={share}",
            need="a share from 0 to below 1",
            fix="0.25 is a quarter of the users, or of each user's prompts.",
        )
    require(
        unseen > 0 or held_out > 0,
        got="no share of users and none of prompts",
        need="something to judge by",
        fix="Give a share of users nobody learns from, or of prompts that are held out.",
    )
    require(
        few >= 1,
        got=f"few={few}",
        need="at least one example of each unseen user",
        fix="PPD takes 4.",
    )


def _opened(snapshot: Path, pack: Pack, twos: Iterable[Comparison]) -> PreferencePairs:
    """Records of two pictures each as pairs, under the ids that the new snapshots give them."""
    pairs = [pair for two in twos for pair in pairs_of(two)]
    strict = [pair for pair in pairs if pair.agreement > 0.5]
    return PreferencePairs(snapshot, pack, strict, [p for p in pairs if p.agreement == 0.5])


def _draw_users(
    found: Everybody, large: Sequence[str], share: float, few: int, seed: int
) -> frozenset[str]:
    """Who is unseen; somebody always stays to learn from."""
    if share == 0:
        return frozenset()
    require(
        len(found.pairs) > 1,
        got=f"a single user, {next(iter(found.pairs))}",
        need="somebody to learn from and somebody else nobody learned from",
        fix="A share of 0 unseen users splits by prompt only.",
        kind=DataError,
    )
    most = max(each.different for each in found.facts)
    require(
        bool(large),
        got=f"{len(found.pairs):,} users, the busiest with {most:,} different pairs",
        need=f"somebody with {few} pairs to know them by and another prompt to judge by",
        fix="Ask for fewer examples, or for a share of 0 unseen users.",
        kind=DataError,
    )
    streams = Streams(seed)
    order = sorted(large, key=lambda user: streams("unseen users", user).seed)
    count = min(len(found.pairs) - 1, max(1, round(share * len(large))))
    return frozenset(order[:count])


def _prompts(mine: Iterable[Pair]) -> dict[str, list[Pair]]:
    """A user's pairs by prompt, the prompts in alphabetical order."""
    found: dict[str, list[Pair]] = {}
    for pair in mine:
        found.setdefault(folded(pair.prompt), []).append(pair)
    return dict(sorted(found.items()))


def _to_judge_by(mine: Sequence[Pair], few: int) -> list[str]:
    """The prompts without which there are still enough examples: one must be left to judge by."""
    total = different(mine)
    return [prompt for prompt, own in _prompts(total).items() if len(total) - len(own) >= few]


def _examples(
    mine: Sequence[Pair], few: int, seed: int, user: str
) -> tuple[list[Pair], list[Pair]]:
    """A few pairs drawn as they are in training, and all those on other prompts."""
    streams = Streams(seed)
    prompts = _to_judge_by(mine, few)
    kept = min(prompts, key=lambda prompt: streams("prompt to judge by", user, prompt).seed)
    pool = [pair for pair in different(mine) if folded(pair.prompt) != kept]
    (drawn,) = examples_for(pool, count=few, subsets=1, seed=seed, user=user)
    prompts_told = {folded(pair.prompt) for pair in drawn}
    shown = {pictures_of(pair) for pair in drawn}
    far = [pair for pair in mine if folded(pair.prompt) not in prompts_told]
    return list(drawn), [pair for pair in far if pictures_of(pair) not in shown]


def _by_prompt(
    mine: Sequence[Pair], share: float, streams: Streams, user: str
) -> tuple[list[Pair], list[Pair]]:
    """A seen user's pairs to learn from, and those on prompts that are held out."""
    prompts = _prompts(mine)
    order = sorted(prompts, key=lambda prompt: streams("held-out prompt", user, prompt).seed)
    by_lot = streams("held-out prompts", user).uniform()
    held = set(order[: min(len(order) - 1, int(share * len(order) + by_lot))])
    near = [pair for pair in mine if folded(pair.prompt) not in held]
    return near, [pair for pair in mine if folded(pair.prompt) in held]


def _counted(
    found: Everybody, parts: Mapping[str, Sequence[Pair]], away: frozenset[str], small: int
) -> People:
    """What is said of the parts, before they are written."""
    texts = {name: {folded(pair.prompt) for pair in pairs} for name, pairs in parts.items()}
    by_user: dict[str, list[Pair]] = {}
    for pair in parts[TRAIN]:
        by_user.setdefault(pair.judge, []).append(pair)
    total = sum(len(mine) for mine in found.pairs.values())
    return People(
        parts={},
        pairs={name: len(pairs) for name, pairs in parts.items()},
        users={name: len({pair.judge for pair in pairs}) for name, pairs in parts.items()},
        prompts={name: len(each) for name, each in texts.items()},
        seen=tuple(sorted(set(found.pairs) - away)),
        unseen=tuple(sorted(away)),
        small=small,
        alone=sum(len(different(mine)) == 1 for mine in by_user.values()),
        nothing=len(found.facts) - len(found.pairs),
        ties=found.ties,
        contradictory=found.contradictory,
        machines=found.machines,
        nameless=found.nameless,
        set_aside=total - sum(map(len, parts.values())),
        known={
            name: len(texts[name] & texts[TRAIN]) for name in (HELD_OUT, UNSEEN) if name in texts
        },
        machines_only=not found.people,
    )


def _write(
    snapshot: Path,
    out: Path,
    rows: Sequence[Comparison],
    twos: Mapping[str, Comparison],
    parts: Mapping[str, Sequence[Pair]],
    made: People,
    about: Mapping[str, Any],
    pack: Pack,
) -> People:
    """All parts in one folder, each a snapshot whose record says which part it is and of what."""
    imports, written = read_imports(snapshot), dict[str, Snapshot]()
    told = {"original": digest_rows(rows), **about}
    drawn = [each[LABELLED_PART] for each in imports if LABELLED_PART in each]
    with new_folder(out) as folder:
        for name, pairs in parts.items():
            note: dict[str, Any] = {PEOPLE: {"part": name, **told}}
            if drawn:
                # Ties and contradictions were left out: labels decided.
                note[LABELLED_PART] = {**drawn[-1], "at_random": False}
            of_part = [twos[pair.id] for pair in pairs]
            there = write_snapshot(folder / name, of_part, pack, [*imports, note])
            written[name] = replace(there, path=out / name)
        made = replace(made, parts=written)
        write_json(folder / FILE, {**told, **made.asdict()})
    return made

"""Does a model follow people? The questions put to one training, each answered by `evaluate`.

Pairs can be asked about whoever judged them. Pictures can be judged where tastes are known, as in
the small world: everyone's are drawn for everyone, and along the way between the two whose tastes
are least alike.

Read next: `palate/evaluate/ordering.py`, `crossed.py` and `slide.py`, which ask.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import final

from palate.backbones import Backbone
from palate.backbones.sample import Sampler
from palate.core.files import read_json
from palate.core.problems import DataError, require
from palate.data.pairs import PreferencePairs
from palate.evaluate.asked import Asked
from palate.evaluate.crossed import Crossed, draw_crossed
from palate.evaluate.identify import Identified, identify
from palate.evaluate.ordering import STILL, Margins, Ordering, ordering
from palate.evaluate.sides import two_sides
from palate.evaluate.slide import SHARES, Slide, slide
from palate.train.cache import Cache
from palate.train.finder import Finder
from palate.train.place import RECORD, SETTINGS
from palate.train.run import Run
from palate.world import Taste, TrueReward, likeness

Told = Callable[[str, int, int], None]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Follower:
    """A model that follows people, whom it is asked about, and how it draws.

    Attributes:
        model: The model.
        pooled: One trained without users on the same pairs; None where there is none.
        asked: Everyone's embedding, and pairs of theirs.
        seed: Of the starting noise.
        sampler: Steps, guidance and solver.
        strength: How much a user counts beside the prompt.
        told: Hears (what, done, in all).
    """

    model: Backbone
    pooled: Backbone | None
    asked: Asked
    seed: int
    sampler: Sampler
    strength: float
    told: Told

    def order(
        self, pairs: PreferencePairs, run: Run | None, cache: Path, tell: Callable[[str], None]
    ) -> Ordering:
        """How often pairs are ordered as their judge did.

        Args:
            pairs: Where the asked pairs' pictures are.
            run: The settings of the training, where they are known.
            cache: Where latents are kept.
            tell: Hears of latents that are made.
        """
        side = None if run is None else run.pictures.resolution
        kept = Cache(cache, self.model, side or self.model.resolution)
        kept.fill(self.model, self.asked.pairs, STILL, pairs.image, tell)
        return ordering(
            self.model,
            self.asked.pairs,
            self.asked.of,
            Margins(cache=kept),
            pooled=self.pooled,
            told=lambda done, total: self.told("pairs asked", done, total),
        )

    def cross(self, tastes: Mapping[str, Taste], prompts: Sequence[str]) -> Crossed:
        """Pictures for everyone, judged by everyone's true taste.

        Raises:
            DataError: when fewer than two people's tastes are known.
        """
        users = self._known(tastes)
        return draw_crossed(
            self.model,
            {name: self.asked.embeddings[name] for name in users},
            {name: _scorer(name, tastes) for name in users},
            prompts,
            pooled=self.pooled,
            seed=self.seed,
            sampler=self.sampler,
            strength=self.strength,
            progress=self.told,
        )

    def groups(
        self, tastes: Mapping[str, Taste], prompts: Sequence[str]
    ) -> dict[str, tuple[Crossed, ...]]:
        """`cross` for the people of the training and for the others, shuffled among themselves.

        Raises:
            DataError: when fewer than two people's tastes are known.
        """
        crossed = self.cross(tastes, prompts)
        named = {
            "seen": [name for name in crossed.users if name in self.asked.trained],
            "unseen": [name for name in crossed.users if name not in self.asked.trained],
        }
        return {group: (crossed.only(names),) for group, names in named.items() if names}

    def slides(
        self, tastes: Mapping[str, Taste], prompts: Sequence[str], count: int
    ) -> tuple[Slide, ...]:
        """The ways between the people whose tastes are least alike; nobody is on two of them.

        Raises:
            DataError: when fewer than two people's tastes are known.
        """
        users = self._known(tastes)
        chosen = opposed(users, tastes)[:count]
        return tuple(
            slide(
                self.model,
                self.asked.embeddings[one],
                self.asked.embeddings[other],
                SHARES,
                (_scorer(one, tastes), _scorer(other, tastes)),
                prompts,
                names=(one, other),
                seed=self.seed,
                sampler=self.sampler,
                strength=self.strength,
                progress=self.told,
            )
            for one, other in chosen
        )

    def _known(self, tastes: Mapping[str, Taste]) -> list[str]:
        users = [name for name in self.asked.embeddings if name in tastes]
        require(
            len(users) >= 2,
            got=f"{len(users)} of {len(self.asked.embeddings)} users whose taste is known",
            need="at least two, to draw for one and judge by the other",
            fix="Give the people.json that lies beside the pairs.",
            kind=DataError,
        )
        return users


def told_apart(find: Finder, pairs: PreferencePairs) -> tuple[Identified, ...]:
    """How often people are found again by other pairs of theirs; empty where they have too few.

    Raises:
        SettingError, WeightsError: when the run's encoder cannot be opened.
    """
    encoder = find.encoder()
    try:
        sides = two_sides(encoder, pairs, examples=find.examples, subsets=1)
    except DataError:
        return ()
    return (identify(sides.first[:, 0], sides.second[:, 0]),)


def run_of(folder: Path) -> tuple[Run | None, Path]:
    """The settings of a run or of an export in one, and where it keeps latents.

    None, and a cache beside the folder, where it is neither.
    """
    home = next((each for each in (folder, folder.parent) if (each / SETTINGS).is_file()), None)
    if home is None:
        return None, folder.parent / "cache"
    told = read_json(home / RECORD) if (home / RECORD).is_file() else {}
    before = told.get("cache", {}).get("folder")
    there = bool(before) and Path(str(before)).is_dir()
    return Run.from_yaml(home / SETTINGS), Path(str(before)) if there else home.parent / "cache"


def learned_from(run: Run | None, asked: Asked) -> int | None:
    """How many of the asked pairs are in the data of the training; None where nobody knows."""
    if run is None or run.data is None or not Path(run.data).is_dir():
        return None
    known = {pair.id for pair in PreferencePairs.open(Path(run.data))}
    return sum(pair.id in known for pair in asked.pairs)


def _scorer(name: str, tastes: Mapping[str, Taste]) -> TrueReward:
    return TrueReward(tastes[name], f"taste of {name}")


def opposed(people: Sequence[str], tastes: Mapping[str, Taste]) -> list[tuple[str, str]]:
    """People two by two, those whose tastes are least alike first; each person once."""
    ranked = sorted(
        combinations(people, 2), key=lambda two: likeness(tastes[two[0]], tastes[two[1]])
    )
    chosen: list[tuple[str, str]] = []
    taken: set[str] = set()
    for two in ranked:
        if not taken & {*two}:
            chosen.append(two)
            taken |= {*two}
    return chosen

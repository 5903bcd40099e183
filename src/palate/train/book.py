"""Whose embedding each pair is learned with: choices of its judge's other pairs, never itself.

A person has several choices of a few of their training pairs, and each choice is one embedding,
made once and kept. A pair is shown one of those that hold no judgement of its own two pictures,
drawn anew at each visit, so that nobody's answer is among the examples it is learned from. Pairs
of people without any other pair cannot be shown one: they are left out, and counted.

Held-out pairs of people who are trained are asked with examples from the training pairs; those of
people who are not, with examples from the person's own other held-out pairs.

At a share of visits the user is dropped. PPD does so (the rate is 0.1 here; the paper's was not
found) in order that nobody's embedding stays the base model. Here it is the base model to the bit
whatever is trained, so that a dropped visit has no gradient and only takes a pair out of the step.

Read next: `examples.py`, where the choices and their embeddings come from.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from palate.backbones import Personal
from palate.core.streams import Streams
from palate.data.examples import away_from
from palate.data.loader import ByUser, Order
from palate.data.pairs import Pair, PreferencePairs
from palate.data.people import capped, survey
from palate.train.personal import PersonalSettings
from palate.train.users import Users

Choice = tuple[Pair, ...]
Read = Callable[[str, Choice], Tensor]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Book:
    """What is known of the people whose pairs are learned from.

    Attributes:
        settings: The run's settings of them.
        seed: The run's seed.
        form: Tokens and width of an embedding.
        about: Who made the embeddings, and with which settings.
        choices: By user, choices of examples; the first is the one to know them by.
        people: Those who have a training pair, sorted.
        read: Somebody's embedding by one of their choices.
        digest: SHA-256 of everything that may be shown.
        left_out: Why pairs are left out of training, and how many.
        dropout: Share of visits for nobody.
    """

    settings: PersonalSettings
    seed: int
    form: tuple[int, int]
    about: Mapping[str, Any]
    choices: Mapping[str, tuple[Choice, ...]]
    people: tuple[str, ...]
    read: Read
    digest: str
    left_out: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    dropout: float = 0.0

    def of(self, pair: Pair, visit: int) -> Float[Tensor, " tokens width"]:
        """The embedding a pair is shown at a visit; zeros where the user is dropped or unknown."""
        streams, away = Streams(self.seed), self.away(pair)
        dropped = streams("user", visit, pair.id).uniform() < self.dropout
        if dropped or not away:
            return self.nobody
        place = streams("examples of", visit, pair.id).integer(0, len(away))
        return self.read(pair.judge, away[place])

    def away(self, pair: Pair) -> tuple[Choice, ...]:
        """The choices of its judge's examples that a pair may be shown."""
        return away_from(self.choices.get(pair.judge, ()), pair)

    @property
    def nobody(self) -> Float[Tensor, " tokens width"]:
        """The embedding with which the model is its base."""
        return torch.zeros(self.form)

    def still(self) -> "Book":
        """The same without dropping anybody, for health checks."""
        return replace(self, dropout=0.0)

    def trained(self, pairs: PreferencePairs) -> PreferencePairs:
        """The pairs that can be learned from: with a user, an example, and within the cap."""
        found = self.asked(pairs)
        cap = self.settings.cap
        return found if cap is None else capped(found, cap, self.seed)

    def asked(self, pairs: PreferencePairs) -> PreferencePairs:
        """The pairs whose judge is known by other pairs than each of them."""
        usable = {pair.id for own in survey(pairs).pairs.values() for pair in own}
        return pairs.filter(lambda pair: pair.id in usable and bool(self.away(pair)))

    def order(self, pairs: PreferencePairs, batch: int) -> Order | ByUser:
        """Which of the training pairs belong to which step."""
        orders: dict[str, Callable[[], Order | ByUser]] = {
            "activity": lambda: Order(len(pairs), batch, self.seed),
            "uniform": lambda: ByUser([pair.judge for pair in pairs], batch, self.seed),
        }
        return orders[self.settings.order]()

    @property
    def personal(self) -> Personal:
        """The attention to users that reads these embeddings."""
        return Personal(
            user_width=self.form[1],
            tokens=self.form[0],
            width=self.settings.width,
            seed=self.seed,
            about=self.about,
        )

    def users(self) -> Users:
        """Everyone it is trained with by their first choice, to be kept beside the weights."""
        rows = [self.read(name, self.choices[name][0]) for name in self.people]
        return Users(names=self.people, tensor=torch.stack(rows), about=self.about)

    def user(self, name: str) -> Float[Tensor, " tokens width"]:
        """Somebody's embedding from their first choice of examples.

        Raises:
            SettingError: when nobody is called so, with the nearest name.
        """
        return self.users().of(name)

    def facts(self, pairs: PreferencePairs) -> dict[str, Any]:
        """For the record of a run on these training pairs."""
        many = Counter(pair.judge for pair in pairs)
        return {
            **self.about,
            "digest": self.digest,
            "people": len(many),
            "pairs": len(pairs),
            "busiest": max(many.values(), default=0),
            "choices": sum(len(self.choices[name]) for name in self.people),
            "unseen": len(self.choices) - len(self.people),
            "cap": self.settings.cap,
            "left_out": dict(self.left_out),
        }

    def sentence(self, pairs: PreferencePairs) -> str:
        """What an event says of it."""
        people = len({pair.judge for pair in pairs})
        lost = [f"{count:,} {why}" for why, count in self.left_out.items() if count]
        tail = f"; left out: {', '.join(lost)}" if lost else ""
        return f"{people:,} people and {len(pairs):,} of their pairs{tail}."

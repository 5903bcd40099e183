"""Whose embedding each pair is learned with: choices of its judge's other pairs, never itself.

A person has several choices of a few of their training pairs, and each choice is one embedding,
made once and kept. A pair is shown one of those that hold no judgement of its own two pictures,
drawn anew at each visit, so that nobody's answer is among the examples it is learned from. Pairs
of people without any other pair cannot be shown one: they are left out, and counted.

That holds for the examples, and not for an encoder that was itself learned from people's choices
(`taste:FOLDER`). One that was learned from these very pairs has seen all their answers, those of
held-out pairs included; the book then says so in its notes.

Held-out pairs of people who are trained are asked with examples from the training pairs; those of
people who are not, with examples from the person's own other held-out pairs.

At a share of visits the user is dropped. PPD does so (the rate is 0.1 here; the paper's was not
found) in order that nobody's embedding stays the base model. Here it is the base model to the bit
whatever is trained, so that a dropped visit has no gradient and only takes a pair out of the step.

Read next: `choices.py`, where the choices come from; `examples.py`, their embeddings.
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
from palate.data.examples import Choice
from palate.data.loader import ByUser, Order
from palate.data.pairs import Pair, PreferencePairs
from palate.data.people import capped
from palate.train.choices import Choices
from palate.train.personal import PersonalSettings
from palate.train.users import Users, check_known

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
        choices: Everybody's choices of examples.
        people: Those who have a training pair, sorted.
        read: Somebody's embedding by one of their choices.
        digest: SHA-256 of everything that may be shown.
        left_out: By side of the split, `training` and `held out`: how many of its pairs are left
            out, by reason. With those that are used it is all of them.
        broken: Choices that nobody is shown because their embeddings are not finite.
        notes: What one should know of who made the embeddings, a sentence each.
        dropout: Share of visits for nobody.
    """

    settings: PersonalSettings
    seed: int
    form: tuple[int, int]
    about: Mapping[str, Any]
    choices: Choices
    people: tuple[str, ...]
    read: Read
    digest: str
    left_out: Mapping[str, Mapping[str, int]] = field(default_factory=lambda: MappingProxyType({}))
    broken: int = 0
    notes: tuple[str, ...] = ()
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
        return self.choices.away(pair)

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
        return self.choices.asked(pairs)

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
        if self.settings.learned:
            return Users.of_vectors(self.people, self.about)
        rows = [self.user(name) for name in self.people]
        return Users(names=self.people, tensor=torch.stack(rows), about=self.about)

    def user(self, name: str) -> Float[Tensor, " tokens width"]:
        """Somebody's embedding from their first choice of examples.

        Raises:
            SettingError: when nobody is called so, with the nearest name.
        """
        check_known(name, self.people)
        return self.read(name, self.choices.of[name][0])

    def facts(self, train: PreferencePairs, held_out: PreferencePairs) -> dict[str, Any]:
        """For the record of a run that learns from these pairs, and is checked by those."""
        many = Counter(pair.judge for pair in train)
        return {
            **self.about,
            "digest": self.digest,
            "people": len(many),
            "pairs": len(train),
            "busiest": max(many.values(), default=0),
            "choices": sum(len(self.choices.of[name]) for name in self.people),
            "broken": self.broken,
            "held_out": len(held_out),
            "unseen": len({pair.judge for pair in held_out} - set(self.people)),
            "cap": self.settings.cap,
            "left_out": {side: dict(lost) for side, lost in self.left_out.items()},
            "notes": list(self.notes),
        }

    def sentence(self, train: PreferencePairs, held_out: PreferencePairs) -> str:
        """What an event says of it."""
        people = len({pair.judge for pair in train})
        lost = [
            f"; {side}, left out: {', '.join(f'{many:,} {why}' for why, many in reasons.items())}"
            for side, reasons in self.left_out.items()
            if reasons
        ]
        return (
            f"{people:,} people and {len(train):,} of their pairs, checked by {len(held_out):,} "
            f"held-out ones{''.join(lost)}."
        )

"""One pair and one judge: what to ask next, what was heard, and the signed answer at the end.

The same for a model behind an endpoint and for one on this machine, which differ in nothing but how
they are asked.

Read next: `asking.py`, what is asked and what it amounts to.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import palate
from palate.data.orders import orders_in
from palate.label.asking import FORM, Asked, Heard, next_asked, verdict
from palate.label.labeler import Answer, Question
from palate.label.rubric import Rubric


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """What is said about one pair. Made by `begin`.

    Attributes:
        question: The pair.
        canary: Whether a verdict is tried, see `asking.py`.
        withheld: Whether nothing is asked, since the caption speaks to the judge.
        signature: Who is asked, by which palate, and what was found in the caption.
        heard: What was answered so far, by step.
    """

    question: Question
    canary: bool
    withheld: bool
    signature: Mapping[str, Any]
    heard: dict[str, Heard] = field(default_factory=dict[str, Heard])

    @classmethod
    def begin(
        cls,
        question: Question,
        *,
        judge: Mapping[str, Any],
        rubric: Rubric,
        canary: bool,
        allow_orders: bool,
    ) -> "Talk":
        """Read the caption, and get ready to ask.

        Args:
            question: The pair.
            judge: Who is asked, for the signature: identity, model, and what else tells it.
            rubric: What it is asked.
            canary: Whether a verdict is tried.
            allow_orders: Whether captions that speak to the judge are asked about.
        """
        orders = orders_in(question.prompt)
        signature = {
            "palate": palate.__version__,
            **judge,
            "rubric": {"name": rubric.name, "version": rubric.version, "digest": rubric.digest},
            "form": FORM,
            "canary": canary,
            "orders": orders,
        }
        withheld = bool(orders) and not allow_orders
        return cls(question=question, canary=canary, withheld=withheld, signature=signature)

    def next(self) -> Asked | None:
        """What to ask now; None where nothing more could change the answer."""
        if self.withheld:
            return None
        return next_asked(self.question, self.heard, canary=self.canary)

    def hear(self, asked: Asked, heard: Heard) -> None:
        """Take in what was answered."""
        self.heard[asked.step] = heard

    def answer(self) -> Answer:
        """What it all amounts to, once there is nothing more to ask."""
        if self.withheld:
            return Answer(agreement=None, reason="injected", signature=self.signature)
        return verdict(self.question, self.heard, self.signature, canary=self.canary)

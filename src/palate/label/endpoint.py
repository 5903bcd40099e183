"""Labels by a vision model behind any OpenAI-compatible endpoint: vLLM, SGLang, or hosted.

Each pair is asked as `asking.py` says, a few pairs at a time. Every answer of the model is in the
journal before the next request of its pair goes out, so that whatever is killed asks nothing twice.
What was said about the server instead (a time-out, a broken reply) is not kept: the next run asks
again. After too many such failures in a row the labelling stops, and names the last one.

Read next: `asking.py`, the questions; `server.py`, the bounds; `vision.py`, the same without a
network.
"""

import math
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, final

from palate.core.files import digest_json
from palate.core.problems import require
from palate.data.comparison import Source
from palate.label.address import check_key_stays_secret, plain_key, plain_url
from palate.label.asking import FORM
from palate.label.chat import Manners, Terms
from palate.label.journal import Journal
from palate.label.labeler import Answer, Pictures, Question, Told
from palate.label.rubric import Rubric, open_rubric
from palate.label.server import Bounds, client_package
from palate.label.spent import Spent
from palate.label.work import Meter, Work

KEY_FROM: Final = "PALATE_ENDPOINT_KEY"


@final
class EndpointLabeler:
    """A vision model behind an endpoint. Made by `open`."""

    source: Source = "vlm"

    def __init__(self, terms: Terms, prices: tuple[float, float] | None) -> None:
        self._terms, self._prices, self._meter = terms, prices, Meter()
        self.asks = digest_json({"kind": "endpoint", "form": FORM, **terms.raw})
        manners = terms.manners
        kept = {"canary": manners.canary, "allow_orders": manners.allow_orders}
        self.identity = digest_json({"asks": self.asks, **kept})
        self.judge = f"vlm {terms.model} {self.identity[:8]}"

    @classmethod
    def open(
        cls,
        *,
        model: str,
        url: str,
        rubric: Rubric | str | Path = "general",
        key: str | None = None,
        key_from: str = KEY_FROM,
        key_in_plain: bool = False,
        at_once: int = 4,
        retries: int = 3,
        timeout: float = 60.0,
        pause: float = 0.5,
        largest_side: int | None = None,
        probabilities: bool = True,
        structured: bool = True,
        canary: bool = True,
        allow_orders: bool = False,
        give_up_after: int = 8,
        price_in: float | None = None,
        price_out: float | None = None,
    ) -> "EndpointLabeler":
        """Get ready to ask; nothing is sent yet.

        Args:
            model: Its name, as the server reports it with every answer.
            url: The server's address, which often ends in `/v1`.
            rubric: A rubric, the name of a shipped one, or a file.
            key: For servers that want one; None takes it from the environment. Never recorded.
            key_from: The variable of the environment that holds it, if it is set.
            key_in_plain: Whether it may cross a public network by http, for all to read.
            at_once: Pairs asked about at one time.
            retries: How often a failed request is made again, at most 20 times.
            timeout: Seconds for one request as a whole.
            pause: Seconds before the first retry; doubled each time, up to 8.
            largest_side: Of the pictures that are sent; None sends them as they are.
            probabilities: See `Manners`, as for those that follow.
            structured: Whether a JSON schema is sent along.
            canary: Whether verdicts are tried by the reversed question.
            allow_orders: Whether captions that speak to the judge are asked about.
            give_up_after: Failures in a row that end a labelling.
            price_in: For a million tokens read, in any currency.
            price_out: For a million tokens written.

        Raises:
            SettingError: when an address or a number makes no sense.
            DataError: when the rubric cannot be read.
            MissingExtra: without the client.
        """
        require(
            bool(model.strip()),
            got="no name of a model",
            need="the name by which the server knows it",
            fix="Write endpoint:NAME; GET /models on the server lists the names.",
        )
        prices = _prices(price_in, price_out)
        address, secret = plain_url(url), plain_key(key or os.environ.get(key_from))
        check_key_stays_secret(address, secret, in_plain=key_in_plain)
        client_package()
        terms = Terms(
            model=model.strip(),
            url=address,
            key=secret,
            rubric=rubric if isinstance(rubric, Rubric) else open_rubric(rubric),
            bounds=Bounds(timeout=timeout, retries=retries, pause=pause),
            manners=Manners(
                largest_side=largest_side,
                probabilities=probabilities,
                structured=structured,
                canary=canary,
                allow_orders=allow_orders,
                at_once=at_once,
                give_up_after=give_up_after,
            ),
        )
        return cls(terms, prices)

    @property
    def rubric(self) -> Rubric:
        """What it asks."""
        return self._terms.rubric

    @property
    def spent(self) -> Spent:
        """What asking cost so far."""
        return self._meter.spent(self._prices)

    def label(
        self, questions: Sequence[Question], pictures: Pictures, journal: Journal, told: Told
    ) -> Iterator[tuple[Question, Answer]]:
        """Answer every question once, in the order in which the answers come.

        Raises:
            StateError: when the server failed too often in a row; what was answered is kept.
            SettingError: when the server refuses the key, the address or the model.
        """
        work = Work(self._terms, self.identity, self._meter, list(questions), pictures, journal)
        thread = threading.Thread(target=work.run, name="palate-endpoint", daemon=True)
        thread.start()
        try:
            for done in range(1, len(questions) + 1):
                found = work.results.get()
                if isinstance(found, BaseException):
                    raise found
                told(done, len(questions))
                yield found
        finally:
            work.stop()
            thread.join()


def _prices(price_in: float | None, price_out: float | None) -> tuple[float, float] | None:
    """Prices for a million tokens read and written; None where neither is known."""
    if price_in is None and price_out is None:
        return None
    prices = (price_in or 0.0, price_out or 0.0)
    require(
        min(prices) >= 0 and all(map(math.isfinite, prices)),
        got=f"prices {prices}",
        need="finite prices of at least 0, for a million tokens",
        fix="Leave them out where asking costs nothing.",
    )
    return prices

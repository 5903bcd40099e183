"""One labelling by an endpoint: an event loop in a thread of its own, a few pairs at a time.

The loop has its own thread because a labeler is an ordinary iterator, which may be used where
another loop runs already (a notebook).

Read next: `talk.py`, one pair; `server.py`, the bounds of a single request.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import final

from palate.core.problems import SettingError, StateError, require
from palate.label.asking import Asked, Heard, heard_from, key_of, unheard
from palate.label.chat import Terms, request
from palate.label.journal import Journal
from palate.label.labeler import Answer, Pictures, Question
from palate.label.reply import NoReply, Reply, read_reply, same_model
from palate.label.server import Server
from palate.label.spent import Spent
from palate.label.talk import Talk


@final
@dataclass(slots=True)
class Meter:
    """Counts while labelling; only the thread that asks writes to it."""

    answered: int = 0
    remembered: int = 0
    retried: int = 0
    failed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    uncounted: int = 0
    seconds: float = 0.0
    in_a_row: int = 0

    def spent(self, prices: tuple[float, float] | None) -> Spent:
        """The account so far; prices are for a million tokens in and out."""
        money = None
        if prices is not None:
            money = (prices[0] * self.tokens_in + prices[1] * self.tokens_out) / 1e6
        return Spent(
            answered=self.answered,
            remembered=self.remembered,
            retried=self.retried,
            failed=self.failed,
            tokens_in=self.tokens_in,
            tokens_out=self.tokens_out,
            uncounted=self.uncounted,
            seconds=self.seconds,
            money=money,
        )

    def again(self) -> None:
        """Count a retry."""
        self.retried += 1

    def lost(self) -> None:
        """Count a request that failed, and may have to be paid for."""
        self.uncounted += 1

    def count(self, reply: Reply) -> None:
        """Count what a reply cost, whatever is made of it."""
        self.tokens_in += reply.tokens_in or 0
        self.tokens_out += reply.tokens_out or 0
        self.uncounted += reply.tokens_in is None or reply.tokens_out is None


@final
@dataclass(eq=False, slots=True)
class Work:
    """One labelling: an event loop in a thread of its own, and a queue of what it found."""

    terms: Terms
    identity: str
    meter: Meter
    questions: Sequence[Question]
    pictures: Pictures
    journal: Journal
    results: "queue.Queue[tuple[Question, Answer] | BaseException]" = field(
        default_factory=queue.Queue
    )
    _loop: asyncio.AbstractEventLoop | None = None
    _main: "asyncio.Task[None] | None" = None
    _stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Everything that happens in the thread."""
        try:
            asyncio.run(self._all())
        except BaseExceptionGroup as group:
            self.results.put(_first(group))
        except asyncio.CancelledError:
            return
        # Whatever it was belongs to whoever asked, in the other thread.
        except BaseException as error:
            self.results.put(error)

    def stop(self) -> None:
        """Ask no more. Called from another thread, also after everything was asked."""
        self._stopped.set()
        loop, main = self._loop, self._main
        if loop is not None and main is not None and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(main.cancel)
            except RuntimeError:
                return  # It was closed between the two lines.

    async def _all(self) -> None:
        self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
        if self._stopped.is_set():
            return
        terms = self.terms
        meter = self.meter
        server = Server(
            url=terms.url,
            key=terms.key,
            bounds=terms.bounds,
            retried=meter.again,
            uncounted=meter.lost,
        )
        waiting = iter(self.questions)
        started = time.monotonic() - meter.seconds
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(terms.manners.at_once, len(self.questions))):
                    group.create_task(self._some(waiting, server, started))
        finally:
            await server.close()

    async def _some(self, waiting: Iterator[Question], server: Server, started: float) -> None:
        for question in waiting:
            answer = await self._one(question, server)
            self.meter.seconds = time.monotonic() - started
            self.results.put((question, answer))

    async def _one(self, question: Question, server: Server) -> Answer:
        """Ask about one pair until a label, or that there is none, is certain."""
        terms = self.terms
        talk = Talk.begin(
            question,
            judge={"identity": self.identity, "model": terms.model, "url": terms.url},
            rubric=terms.rubric,
            canary=terms.manners.canary,
            allow_orders=terms.manners.allow_orders,
        )
        while asked := talk.next():
            talk.hear(asked, await self._hear(question, asked, server))
        return talk.answer()

    async def _hear(self, question: Question, asked: Asked, server: Server) -> Heard:
        """One answer: remembered, or asked for and kept."""
        meter, key = self.meter, key_of(question, asked)
        known = self.journal.known(key)
        if known is not None:
            meter.remembered += 1
            return heard_from(known)
        try:
            heard = await self._ask(question, asked, server)
        except NoReply as failure:
            meter.failed += 1
            meter.in_a_row += 1
            self._give_up(failure)
            return unheard(failure.reason, detail=failure.detail[:300])
        meter.in_a_row = 0
        self.journal.keep(key, heard.asdict())
        return heard

    async def _ask(self, question: Question, asked: Asked, server: Server) -> Heard:
        """One request. Who answered is part of what was heard.

        Raises:
            NoReply: when the server failed, or another model answered.
            SettingError: when no other than another model answered so far.
        """
        body = await server.body(request(self.terms, question, asked, self.pictures))
        try:
            reply = read_reply(body, self.terms.rubric)
        except NoReply:
            self.meter.lost()
            raise
        self.meter.count(reply)
        self._check_model(reply.model)
        self.meter.answered += 1
        raw = {
            **reply.heard.raw,
            "shown": list(asked.shown),
            "model": reply.model,
            "fingerprint": reply.fingerprint,
        }
        heard = reply.heard
        return Heard(place=heard.place, first=heard.first, reason=heard.reason, raw=raw)

    def _check_model(self, found: str) -> None:
        """One judge is one model: what another one answers is no answer of this judge."""
        asked = self.terms.model
        if same_model(asked, found):
            return
        require(
            self.meter.answered > 0,
            got=f"answers by {found} from {self.terms.url}, where {asked} was asked",
            need="the name of the model that answers, which names the judge",
            fix=f"Write endpoint:{found}, a judge of its own; what {asked} answered before stays.",
            kind=SettingError,
        )
        raise NoReply("model-changed", f"{found} answered, not {asked}")

    def _give_up(self, failure: NoReply) -> None:
        changed = failure.reason == "model-changed"
        count = self.meter.in_a_row
        require(
            count < self.terms.manners.give_up_after,
            got=f"{count} failures in a row from {self.terms.url}; the last one: {failure}",
            need="a server that answers",
            fix="Write endpoint: and the name of the model that answers now, which makes another "
            "judge of it; or bring the one before back. Nothing answered is lost."
            if changed
            else "Look at the server, then run the same command again: nothing answered is lost.",
            kind=StateError,
        )


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error in a group of errors."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

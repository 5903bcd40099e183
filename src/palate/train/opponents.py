"""Opponents: pictures by the model of the round before, put against the pictures in the data.

Only the winners of the data are read, one prompt and picture after the other; what they won
against plays no part. The opponents of a model lie in a folder that is named after it, so those
of another model cannot be taken for them, and those already drawn are kept when a round is
interrupted.

Read next: `selfplay.py`, the rounds; `palate/data/store.py`, where the pictures are kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from palate.backbones.backbone import Backbone
from palate.backbones.sample import Sampler, deterministic, sample, starting_noise
from palate.core.files import digest_json, read_json, write_json
from palate.core.problems import require
from palate.data.comparison import Comparison, compare
from palate.data.pairs import PreferencePairs
from palate.data.store import Store
from palate.train.log import Event
from palate.train.run import Run
from palate.train.session import Tell
from palate.train.signals import Interrupted, Signals
from palate.train.sources import SelfPlaySettings

STORE, SNAPSHOT, MADE = "store", "snapshot", "opponents"
# Winners that were drawn to the last pixel, and so have no opponent.
ALIKE = "alike.json"
# Pictures that are kept together; a kill loses fewer.
BLOCK = 32
_SAY_EVERY = 8 * BLOCK
Winner = tuple[str, str]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Opponents:
    """Draws one opponent for every winner of the data.

    Attributes:
        run: The settings of the self-play.
        backbone: The model of the round before.
        pairs: The data.
        folder: The round's folder.
        tell: Hears events.
    """

    run: Run
    backbone: Backbone
    pairs: PreferencePairs
    folder: Path
    tell: Tell

    @property
    def key(self) -> str:
        """Digest of everything that decides the pictures: the model, and how it draws."""
        return digest_json({"model": dict(self.backbone.digests), "drawing": self.facts()})

    @property
    def place(self) -> Path:
        """The folder of this model's opponents."""
        return self.folder / f"{MADE}-{self.key[:12]}"

    def facts(self) -> dict[str, Any]:
        """How each picture is drawn."""
        settings = self._settings
        return {
            "seed": self.run.seed,
            "steps": settings.sampling_steps,
            "guidance": settings.guidance,
            "scheduler": self._scheduler,
            "size": self._side,
        }

    def freeze(self) -> Path:
        """The snapshot in which the data wins over this model; what is there already is kept.

        Raises:
            Interrupted: after SIGTERM or SIGINT; the pictures drawn so far are kept.
        """
        snapshot = self.place / SNAPSHOT
        if snapshot.is_dir():
            return snapshot
        store = Store(self.place / STORE)
        self._draw(store)
        store.freeze(snapshot)
        return snapshot

    def _draw(self, store: Store) -> None:
        """One opponent for every winner that has none yet."""
        # Sorted: the order of the data depends on the losers, which are not read.
        winners = sorted({(pair.prompt, pair.chosen) for pair in self.pairs})
        blocks = [winners[i : i + BLOCK] for i in range(0, len(winners), BLOCK)]
        alike = self._alike()
        done = alike | {_winner(row) for row in store.rows()}

        def noticed(name: str) -> None:
            self._say(f"{name}: finishing these pictures. Again to leave at once.")

        with Signals(noticed) as signals, store.writing():
            self._say(f"{len(winners)} opponents to draw, {len(done)} of them drawn already.")
            for number, block in enumerate(blocks):
                # A block is drawn whole or not at all: its pictures do not depend on interruptions.
                if not done.issuperset(block):
                    made = self._block(store, block)
                    store.add(made)
                    alike |= set(block) - {_winner(row) for row in made}
                    write_json(self.place / ALIKE, sorted(alike))
                drawn = min((number + 1) * BLOCK, len(winners))
                if drawn % _SAY_EVERY == 0:
                    self._say(f"{drawn} of {len(winners)} opponents drawn.")
                require(
                    signals.asked is None or drawn == len(winners),
                    got=f"{signals.asked} after {drawn} opponents of {len(winners)}",
                    need="nothing: the pictures drawn were kept",
                    fix="Go on with: palate resume and the folder of the run.",
                    kind=Interrupted,
                )

    def _alike(self) -> set[Winner]:
        """Winners that turned out to be what the model draws, in earlier attempts."""
        path = self.place / ALIKE
        found = read_json(path) if path.is_file() else []
        return {(prompt, picture) for prompt, picture in found}

    def _block(self, store: Store, block: Sequence[Winner]) -> list[Comparison]:
        """The winners of a block, each put against a picture drawn for its prompt."""
        settings, size = self._settings, (self._side, self._side)
        sampler = Sampler(
            steps=settings.sampling_steps, guidance=settings.guidance, scheduler=self._scheduler
        )
        # The picture a prompt's noise belongs to, so that two winners get two opponents.
        noise = starting_noise(
            self.backbone, [("opponent", *w) for w in block], self.run.seed, size
        )
        drawn = sample(
            self.backbone,
            [prompt for prompt, _ in block],
            noise,
            sampler,
            batch=min(self.run.plan.pairs_at_once, BLOCK),
        )
        made = [self._against(store, w, p) for w, p in zip(block, drawn, strict=True)]
        return [row for row in made if row is not None]

    def _against(self, store: Store, winner: Winner, drawn: torch.Tensor) -> Comparison | None:
        """The data's picture and the model's; None where they are one and the same."""
        prompt, chosen = winner
        images = (store.put(self.pairs.image(chosen)), store.put(drawn.numpy()))
        if images[0] == images[1]:
            return None
        return compare(
            prompt=prompt,
            images=images,
            agreement=1.0,
            judge=f"spin {self.key[:12]}",
            source="self",
            generation=(None, self._made()),
            origin=f"self-play against model {self.key[:12]}",
        )

    def _made(self) -> Mapping[str, Any]:
        return {**self.facts(), "model": dict(self.backbone.digests)}

    @property
    def _settings(self) -> SelfPlaySettings:
        return self.run.selfplay or SelfPlaySettings()

    @property
    def _scheduler(self) -> str:
        """Without noise, so that the pictures are the ends of the ways that `duel.py` follows."""
        return deterministic(self.backbone.scheduler_config)

    @property
    def _side(self) -> int:
        return self.run.pictures.resolution or self.backbone.resolution

    def _say(self, text: str) -> None:
        self.tell(Event(kind="cache", text=text))


def _winner(row: Comparison) -> Winner:
    """The prompt and the data's picture of a comparison with an opponent."""
    return row.prompt, row.images[0].sha256

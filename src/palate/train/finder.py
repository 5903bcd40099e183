"""Finds the people that words name, and refuses whom trained weights cannot draw for.

An embedding means something only to weights that were trained with the same encoder's. So pairs
are read by the very encoder that the weights name, and a file of another one's is refused.

Read next: `users.py`, the encoders and the people of a run; `embedding.py`, one person's file.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from palate.backbones import Personal
from palate.core.problems import SettingError, WeightsError, nearest, require
from palate.data.people import named_user
from palate.data.store import SNAPSHOT
from palate.scorers.users import UserEncoder
from palate.train.embedding import SUFFIX, UserEmbedding, embedding_of, listed
from palate.train.personal import LEARNED
from palate.train.users import learned_from, open_user_encoder, read_users
from palate.train.who import Part, Who, shares_of


@final
class Finder:
    """Finds the people whom trained weights can draw for.

    Args:
        personal: What the weights say of their user attention.
        folder: The folder of the weights, where the people it was trained with are kept.
        device: Where a network that makes embeddings computes.

    Attributes:
        known: The people the weights were trained with.
    """

    def __init__(self, personal: Personal, folder: Path, *, device: str = "cpu") -> None:
        self._personal, self._device = personal, device
        self.known = read_users(folder)
        self._encoder: UserEncoder | None = None

    @classmethod
    def of(cls, folder: Path, *, device: str = "cpu") -> "Finder":
        """Who finds people for exported weights, without loading a model.

        Raises:
            SettingError: when these weights know no users.
            WeightsError: when their file cannot be read.
        """
        # diffusers comes with it: seconds that only those who ask for it wait for.
        from palate.backbones.personal import WEIGHTS, settings_of

        file = (folder if folder.is_dir() else folder.parent) / WEIGHTS
        require(
            file.is_file(),
            got=f"{folder}, weights without user attention",
            need="weights that were trained to follow users",
            fix="Train them with: palate train --method ppd",
        )
        return cls(settings_of(file), file.parent, device=device)

    def __call__(self, words: str) -> Who:
        """The person, or the mixture of several, that these words name.

        Raises:
            SettingError: for words that name nobody, or shares that do not sum to one.
            DataError: when a snapshot has no pair of that person's that says what they prefer.
            WeightsError: when an embedding is another encoder's than the weights were trained
                with.
        """
        require(bool(words.strip()), got="an empty user", need="a WHO", fix="Name somebody.")
        is_one = self._knows(words) or Path(words).exists() or _place(words) is not None
        # A name, or a path, may look like a mixture.
        shares = {words: 1.0} if is_one else shares_of(words)
        parts = tuple(
            Part(words=one, share=share, person=self._person(one)) for one, share in shares.items()
        )
        notes = [f"{part.words}: {each}" for part in parts for each in part.person.notes]
        return Who(words=words, parts=parts, notes=tuple(notes))

    def _person(self, words: str) -> UserEmbedding:
        place, file = _place(words), Path(words)
        if words in self.known:
            found = self._of_the_run(words)
        elif place is not None:
            folder, user = place
            found = embedding_of(self.encoder(), folder, user=user, count=self.examples)
        elif file.suffix == SUFFIX:
            found = UserEmbedding.read(file)
        else:
            found = self._of_the_run(self._named(words))
        self._check(words, found)
        return found

    def _of_the_run(self, name: str) -> UserEmbedding:
        identity = str(self.known.about.get("identity", self._personal.about.get("identity", "")))
        return UserEmbedding(embedding=self.known[name], user=name, identity=identity)

    def _knows(self, words: str) -> bool:
        """Whether somebody of the run is called so, or their name ends so after its last `/`."""
        return words in self.known or any(n.rpartition("/")[2] == words for n in self.known)

    @property
    def fitted_on(self) -> str:
        """Digest of the snapshot whose answers the encoder itself was learned from.

        Empty for an encoder that was learned from nobody's answers.
        """
        return learned_from(self._personal.about.get("encoder", {}))

    @property
    def examples(self) -> int:
        """Pairs an embedding was made from in training."""
        return int(self._personal.about.get("examples", self._personal.tokens))

    def encoder(self) -> UserEncoder:
        """The very encoder that the weights were trained with.

        Raises:
            SettingError: when they were trained without one.
            WeightsError: when it has changed since, or its folder is not there.
        """
        if self._encoder is None:
            self._encoder = _reopened(self._personal.about, self.examples, self._device)
            _same("what reads pairs now", self._encoder, self._personal.about)
        return self._encoder

    def _check(self, words: str, found: UserEmbedding) -> None:
        """Refuse an embedding that these weights cannot read."""
        _same(words, found, self._personal.about)
        tokens, width = found.embedding.shape
        wanted = self._personal
        require(
            tokens <= wanted.tokens and width == wanted.user_width,
            got=f"{words}, an embedding of {tokens} tokens of {width} numbers",
            need=f"at most {wanted.tokens} tokens of {wanted.user_width}, as in training",
            fix="Make it again: palate users embed SNAPSHOT --weights RUN --out FILE.safetensors",
            kind=WeightsError,
        )

    def _named(self, words: str) -> str:
        """The name in the run that is meant."""
        try:
            return named_user(words, self.known.names)
        except SettingError as error:
            names = self.known.names
            people = f", or one of {len(names):,} people of the run: {listed(names)}"
            meant = _nearest_file(Path(words))
            nearest_one = error.fix if names else "Check the path."
            raise SettingError(
                got=f"user {words!r}, which is no file, no snapshot and nobody the run knows",
                need="an embedding file, a snapshot (FOLDER or FOLDER@USER)"
                + (people if names else ""),
                fix=nearest_one if meant is None else f"Did you mean {meant}?",
            ) from error


def _nearest_file(path: Path) -> Path | None:
    """The embedding file beside a misspelt one; only words that look like a path are one."""
    if not path.suffix and len(path.parts) < 2:
        return None
    there = [each.name for each in path.parent.glob(f"*{SUFFIX}")]
    guess = nearest(path.name, there)
    return None if guess is None else path.parent / guess


def _place(words: str) -> tuple[Path, str | None] | None:
    """The snapshot that words name, and whose pairs of it; None where they name no folder."""
    if Path(words).is_dir():
        return Path(words), None
    for at in re.finditer("@", words):
        folder, user = Path(words[: at.start()]), words[at.end() :]
        if user and folder.is_dir() and (folder / SNAPSHOT).is_file():
            return folder, user
    return None


def _reopened(about: Mapping[str, Any], examples: int, device: str) -> UserEncoder:
    """The encoder that weights were trained with, from what they say of it."""
    words = about.get("users")
    require(
        isinstance(words, str) and words != LEARNED,
        got="somebody's pairs, for weights that have learned a vector for each of their own people"
        if words == LEARNED
        else "weights that do not say who made their user embeddings",
        need="an encoder that makes an embedding of pairs",
        fix="Name somebody the run was trained with, or train with --personal.users looks.",
    )
    return open_user_encoder(
        str(words),
        pooling=about.get("pooling"),
        layer=about.get("layer"),
        prompt=about.get("prompt"),
        dtype=about.get("dtype"),
        examples=examples,
        device=device,
    )


def _same(words: str, made: UserEncoder | UserEmbedding, about: Mapping[str, Any]) -> None:
    """Refuse numbers of another encoder: they would be read as if they were this one's."""
    wanted = str(about.get("identity", ""))
    kind = made.about if not isinstance(made, UserEmbedding) else made.encoder
    require(
        made.identity == wanted,
        got=f"{words}: the encoder {kind.get('encoder', 'of users')} {made.identity[:12]}",
        need=f"the one of the training, {about.get('users', 'of users')} {wanted[:12]}",
        fix="Make the embedding of the person's pairs, with the model it was trained with: "
        "palate users embed SNAPSHOT --weights RUN --out FILE.safetensors",
        kind=WeightsError,
    )

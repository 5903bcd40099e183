"""A vision-language model on this machine: how probable answers are, and what it holds of a text.

Nothing is generated. To choose, the model reads instruction, text and pictures and the beginning of
its own answer, and the probability of every allowed answer is the product of its tokens'
probabilities there, divided by the sum over all allowed answers. What it holds of something read
are the hidden states after one of its layers. Text is made into tokens apart from the chat's own
marks, so that a caption which holds such a mark becomes letters and no mark.

Read next: `vision_folder.py`, what is opened; `palate/label/vision.py`, which makes labels of it;
`users_vision.py`, which makes user embeddings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from palate.core.files import digest_json
from palate.core.hub import fetch
from palate.core.problems import DataError, WeightsError, require, unknown
from palate.scorers.vision_folder import WANTED, Family, facts_of, load

Content = Sequence[str | NDArray[np.uint8]]
_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_SAY, _STOP = "<|im_start|>", "<|im_end|>"
# Part of the identity: raised when the same weights would give other probabilities.
_ARITHMETIC = 1


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hidden:
    """What one layer holds of something read.

    Attributes:
        states: One row per token, the first of the instruction, the last where the model would
            begin to answer.
        pictures: For each picture, the first token of the text that leads to it, and the token
            after its last.
    """

    states: Float[Tensor, " tokens width"]
    pictures: tuple[tuple[int, int], ...]


@final
class VisionModel:
    """A model of a known family, asked to choose or to read. Opened from a folder or a Hub id."""

    def __init__(
        self,
        *,
        name: str,
        identity: str,
        family: Family,
        dtype: str,
        network: Any,
        pictures: Any,
        words: Any,
    ) -> None:
        self.name, self.identity, self.dtype = name, identity, dtype
        self._family, self._network = family, network
        self._pictures, self._words = pictures, words
        self._device = next(network.parameters()).device
        used = (_SAY, _STOP, *family.before, family.pixel, *family.after)
        self._marks = {mark: self._mark(mark) for mark in used}
        text = network.config.get_text_config()
        self.layers, self.width = int(text.num_hidden_layers), int(text.hidden_size)
        self._room = int(text.max_position_embeddings)

    @classmethod
    def open(
        cls,
        model: str | Path,
        *,
        name: str | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | str | None = None,
    ) -> "VisionModel":
        """Open a folder or Hub id in the layout in which transformers publishes such a model.

        Args:
            model: The folder, or `owner/name`, or `owner/name@revision`.
            name: What reports call it; the folder's name when left out.
            device: Where it computes.
            dtype: Of weights and arithmetic, or its name, such as `bfloat16`; float32 on a
                processor and bfloat16 elsewhere when left out. It is part of the identity: who
                reopens a model on another device names it. Probabilities are always taken in
                float64.

        Raises:
            SettingError: for a name that is none of float32, bfloat16 and float16.
            WeightsError: when it is not a whole model of one of these families in safetensors.
        """
        place = torch.device(device)
        kind = _dtype(dtype or {"cpu": torch.float32}.get(place.type, torch.bfloat16))
        folder = fetch(model, files=WANTED)
        facts = {"files": facts_of(folder), "dtype": str(kind), "arithmetic": _ARITHMETIC}
        family, network, pictures, words = load(folder, kind)
        return cls(
            name=name or folder.name,
            identity=digest_json(facts),
            dtype=_name(kind),
            family=family,
            network=network.to(place),
            pictures=pictures,
            words=words,
        )

    def choose(
        self, instruction: str, content: Content, answers: Sequence[str], *, begun: str = ""
    ) -> dict[str, float]:
        """Probability of each answer, between 0 and 1, their sum 1.

        Args:
            instruction: What the model is to obey.
            content: Text and pictures (uint8 [height, width, 3]) as they follow each other.
            answers: What may be answered; none the beginning of another.
            begun: How the model's answer begins, before one of `answers`.

        Raises:
            DataError: when an answer begins another one, or a picture is none.
            WeightsError: when the model gives no number.
        """
        begins = [(a, b) for a in answers for b in answers if a is not b and b.startswith(a)]
        require(
            len(answers) > 1 and not begins and all(answers),
            got=f"the answers {', '.join(answers)}",
            need="at least two, none empty or the beginning of another",
            fix="Take A, B and tie.",
            kind=DataError,
        )
        context, pixels, _ = self._context(instruction, content)
        written = [self._tokens(f"assistant\n{begun}{answer}") for answer in answers]
        # Letters at the seam may melt into one token: what all answers share is context.
        shared = _shared(written)
        context += written[0][:shared]
        logs = self._logs(context, pixels, [tokens[shared:] for tokens in written])
        chances = np.exp(logs - logs.max())
        require(
            bool(np.isfinite(chances).all()),
            got=f"{self.name}, which gives no number for {', '.join(answers)}",
            need="finite probabilities",
            fix="Open it in float32, or use another copy of the weights.",
            kind=WeightsError,
        )
        return dict(zip(answers, (chances / chances.sum()).tolist(), strict=True))

    def hidden(self, instruction: str, content: Content, *, layer: int) -> Hidden:
        """The states after one layer when the model has read and is about to answer, float32.

        Args:
            instruction: What the model is to obey.
            content: Text and pictures (uint8 [height, width, 3]) as they follow each other.
            layer: 0 for what goes into the first layer, `layers` for what the last norm gives out;
                those between, and negative ones, as transformers counts `hidden_states`.

        Raises:
            DataError: when a picture is none, or there is more than the model can read at once.
            WeightsError: when a state is no number.
        """
        context, pixels, places = self._context(instruction, content)
        context += self._tokens("assistant\n")
        require(
            len(context) <= self._room,
            got=f"{len(context)} tokens for {self.name}",
            need=f"at most {self._room}",
            fix="Show fewer or smaller pictures.",
            kind=DataError,
        )
        answer = self._read(context, pixels, 1, output_hidden_states=True)
        states = answer.hidden_states[layer][0].float().cpu()
        require(
            bool(torch.isfinite(states).all()),
            got=f"{self.name}, which holds no number after layer {layer}",
            need="finite states",
            fix="Open it in float32, or use another copy of the weights.",
            kind=WeightsError,
        )
        return Hidden(states=states, pictures=tuple(places))

    def _context(
        self, instruction: str, content: Content
    ) -> tuple[list[int], dict[str, Any], list[tuple[int, int]]]:
        """Tokens up to where the model speaks, what it sees of pictures, and where they are."""
        images = [part for part in content if not isinstance(part, str)]
        for place, image in enumerate(images):
            require(
                image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3,
                got=f"picture {place} of {image.dtype} {image.shape}",
                need="uint8 [height, width, 3]",
                fix="Give RGB values from 0 to 255.",
                kind=DataError,
            )
        family, marks = self._family, self._marks
        seen, sizes = family.show(self._network, self._pictures, images) if images else ({}, [])
        counts = iter(sizes)
        tokens = [marks[_SAY], *self._tokens(f"system\n{instruction}"), marks[_STOP]]
        tokens += [*self._tokens("\n"), marks[_SAY]]
        text, places = "user\n", []
        for part in content:
            if isinstance(part, str):
                text += part
                continue
            start = len(tokens)
            tokens += [*self._tokens(text), *(marks[mark] for mark in family.before)]
            tokens += [marks[family.pixel]] * next(counts)
            tokens += [marks[mark] for mark in family.after]
            places.append((start, len(tokens)))
            text = ""
        tokens += [*self._tokens(text), marks[_STOP], *self._tokens("\n"), marks[_SAY]]
        return tokens, seen, places

    def _logs(
        self, context: list[int], pixels: Mapping[str, Any], endings: Sequence[Sequence[int]]
    ) -> NDArray[np.float64]:
        """Logarithm of the probability of each ending; the first tokens cost one pass together."""
        first = self._next(context, pixels, 1)[0]
        found: list[float] = []
        for tokens in endings:
            total = first[tokens[0]]
            if len(tokens) > 1:
                rest = self._next([*context, *tokens[:-1]], pixels, len(tokens) - 1)
                total = total + sum(row[t] for row, t in zip(rest, tokens[1:], strict=True))
            found.append(float(total))
        return np.array(found)

    def _next(self, tokens: list[int], pixels: Mapping[str, Any], keep: int) -> NDArray[np.float64]:
        """Log probabilities of the token after each of the last few, [keep, vocabulary]."""
        answer = self._read(tokens, pixels, keep)
        return torch.log_softmax(answer.logits[0].double(), dim=-1).cpu().numpy()

    @torch.no_grad()
    def _read(self, tokens: list[int], pixels: Mapping[str, Any], keep: int, **asked: bool) -> Any:
        """What the network says of the tokens; logits of the last few."""
        ids = torch.tensor([tokens], device=self._device)
        return self._network(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            use_cache=False,
            logits_to_keep=keep,
            **self._family.where(ids == self._marks[self._family.pixel]),
            **{name: value.to(self._device) for name, value in pixels.items()},
            **asked,
        )

    def _tokens(self, text: str) -> list[int]:
        """A text's tokens, none of which is a mark of the chat."""
        made = self._words(text, add_special_tokens=False, split_special_tokens=True)
        tokens = list(made.input_ids)
        forged = [mark for mark, token in self._marks.items() if token in tokens]
        require(
            not forged,
            got=f"a text in which the tokenizer of {self.name} finds {', '.join(forged)}",
            need="a tokenizer whose marks are special tokens, so that no text can hold one",
            fix="Copy the folder again, or leave the text out.",
            kind=WeightsError,
        )
        return tokens

    def _mark(self, mark: str) -> int:
        found = self._words.convert_tokens_to_ids(mark)
        known = self._words.get_vocab().get(mark)
        require(
            known is not None and found == known,
            got=f"the tokenizer of {self.name} without {mark}",
            need="the marks of its family's chat",
            fix="Copy the folder again; its tokenizer belongs to another model.",
            kind=WeightsError,
        )
        return int(found)


def _name(dtype: torch.dtype) -> str:
    """What it is called in records."""
    return str(dtype).removeprefix("torch.")


def _dtype(asked: torch.dtype | str) -> torch.dtype:
    """What weights and arithmetic are of, by itself or by name."""
    if isinstance(asked, torch.dtype):
        return asked
    if asked not in _DTYPES:
        raise unknown("dtype", asked, _DTYPES)
    return _DTYPES[asked]


def _shared(written: Sequence[Sequence[int]]) -> int:
    """How many tokens all begin with; at least one is left of each."""
    most = min(map(len, written)) - 1
    same = (len({tokens[place] for tokens in written}) == 1 for place in range(most))
    return next((place for place, alike in enumerate(same) if not alike), most)

"""A vision-language model on this machine: how probable each of a few answers is to a question.

Nothing is generated. The model reads instruction, text and pictures and the beginning of its own
answer, and the probability of every allowed answer is the product of its tokens' probabilities
there, divided by the sum over all allowed answers. Text is made into tokens apart from the chat's
own marks, so that a caption which holds such a mark becomes letters and no mark.

Read next: `vision_folder.py`, what is opened; `palate/label/vision.py`, which makes labels of it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from palate.core.files import digest_json
from palate.core.hub import fetch
from palate.core.problems import DataError, WeightsError, require
from palate.scorers.vision_folder import WANTED, facts_of, load

Content = Sequence[str | NDArray[np.uint8]]
_SAY, _STOP = "<|im_start|>", "<|im_end|>"
_SEE, _PIXELS, _SEEN = "<|vision_start|>", "<|image_pad|>", "<|vision_end|>"
# Part of the identity: raised when the same weights would give other probabilities.
_ARITHMETIC = 1


@final
class VisionModel:
    """A Qwen2.5-VL or Qwen3-VL model, asked to choose. Opened from a folder or a Hub id."""

    def __init__(
        self, *, name: str, identity: str, network: Any, pictures: Any, words: Any
    ) -> None:
        self.name, self.identity = name, identity
        self._network, self._pictures, self._words = network, pictures, words
        self._device = next(network.parameters()).device
        self._marks = {mark: self._mark(mark) for mark in (_SAY, _STOP, _SEE, _PIXELS, _SEEN)}

    @classmethod
    def open(
        cls,
        model: str | Path,
        *,
        name: str | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
    ) -> "VisionModel":
        """Open a folder or Hub id in the layout in which Qwen2.5-VL and Qwen3-VL are published.

        Args:
            model: The folder, or `owner/name`, or `owner/name@revision`.
            name: What reports call it; the folder's name when left out.
            device: Where it computes.
            dtype: Of weights and arithmetic; float32 on a processor and bfloat16 elsewhere when
                left out. Probabilities are always taken in float64.

        Raises:
            WeightsError: when it is not a whole model of one of these families in safetensors.
        """
        folder = fetch(model, files=WANTED)
        place = torch.device(device)
        kind = dtype or {"cpu": torch.float32}.get(place.type, torch.bfloat16)
        facts = {"files": facts_of(folder), "dtype": str(kind), "arithmetic": _ARITHMETIC}
        network, pictures, words = load(folder, kind)
        return cls(
            name=name or folder.name,
            identity=digest_json(facts),
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
        context, pixels = self._context(instruction, content)
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

    def _context(self, instruction: str, content: Content) -> tuple[list[int], dict[str, Any]]:
        """Tokens up to where the model speaks, and what the image processor makes of pictures."""
        images = [part for part in content if not isinstance(part, str)]
        for place, image in enumerate(images):
            require(
                image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3,
                got=f"picture {place} of {image.dtype} {image.shape}",
                need="uint8 [height, width, 3]",
                fix="Give RGB values from 0 to 255.",
                kind=DataError,
            )
        seen = dict(self._pictures(images=list(images), return_tensors="pt")) if images else {}
        counts = iter(self._counts(seen))
        marks = self._marks
        tokens = [marks[_SAY], *self._tokens(f"system\n{instruction}"), marks[_STOP]]
        tokens += [*self._tokens("\n"), marks[_SAY]]
        text = "user\n"
        for part in content:
            if isinstance(part, str):
                text += part
                continue
            tokens += [*self._tokens(text), marks[_SEE]]
            tokens += [marks[_PIXELS]] * next(counts)
            tokens, text = [*tokens, marks[_SEEN]], ""
        tokens += [*self._tokens(text), marks[_STOP], *self._tokens("\n"), marks[_SAY]]
        return tokens, seen

    def _counts(self, seen: Mapping[str, Any]) -> list[int]:
        """How many tokens each picture takes."""
        grid = seen.get("image_grid_thw")
        merged = self._pictures.merge_size**2
        return [] if grid is None else [int(n) // merged for n in grid.prod(dim=1)]

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

    @torch.no_grad()
    def _next(self, tokens: list[int], pixels: Mapping[str, Any], keep: int) -> NDArray[np.float64]:
        """Log probabilities of the token after each of the last few, [keep, vocabulary]."""
        ids = torch.tensor([tokens], device=self._device)
        answer = self._network(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            # Where pictures are, from which their places in space follow.
            mm_token_type_ids=(ids == self._marks[_PIXELS]).int(),
            use_cache=False,
            logits_to_keep=keep,
            **{name: value.to(self._device) for name, value in pixels.items()},
        )
        return torch.log_softmax(answer.logits[0].double(), dim=-1).cpu().numpy()

    def _tokens(self, text: str) -> list[int]:
        """A text's tokens, none of which is a mark of the chat."""
        made = self._words(text, add_special_tokens=False, split_special_tokens=True)
        return list(made.input_ids)

    def _mark(self, mark: str) -> int:
        found = self._words.convert_tokens_to_ids(mark)
        known = self._words.get_vocab().get(mark)
        require(
            known is not None and found == known,
            got=f"the tokenizer of {self.name} without {mark}",
            need="the marks of a Qwen-VL chat",
            fix="Copy the folder again; its tokenizer belongs to another model.",
            kind=WeightsError,
        )
        return int(found)


def _shared(written: Sequence[Sequence[int]]) -> int:
    """How many tokens all begin with; at least one is left of each."""
    most = min(map(len, written)) - 1
    same = (len({tokens[place] for tokens in written}) == 1 for place in range(most))
    return next((place for place, alike in enumerate(same) if not alike), most)

r"""What somebody likes, told from CLIP's features of the pictures: no vision-language model.

With the image features f of a CLIP model, of length one, an example says

$$v = f(\text{chosen}) - f(\text{rejected}).$$

Part of that is how well the pictures fit their caption, whose own feature, of length one, is p.
With `captions="apart"` this part stands alone: the row is $v - (v \cdot p)\,p$, followed by one
number more, $\sqrt{d}\,(v \cdot p)$ where d is the length of v. The root lets it weigh as much as
the others do together, because pictures for one caption differ little in how near they are to it.

Read next: `users.py`, what an embedding is; `users_vision.py`, which reads the captions as well.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, final, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from palate.core.files import digest_json
from palate.core.hub import fetch
from palate.core.problems import unknown
from palate.scorers.clip_folder import (
    WANTED,
    facts_of,
    load_network,
    load_processors,
    processors_of,
)
from palate.scorers.users import Example, Remembered, in_order
from palate.scorers.users_pooled import Pool, Pooling

Captions = Literal["ignored", "apart"]
# Part of the identity: raised when the same weights would give other numbers.
_ARITHMETIC: Final = 1


@final
class CLIPUsers:
    """User embeddings of a CLIP model's image features. Opened from a folder or a Hub id.

    Args:
        name: What reports call it.
        files: Digests of what the features depend on.
        network: transformers' `CLIPModel`, on its device.
        pictures: Its image processor.
        words: Its tokenizer.
        pool: From rows of examples to rows of a person.
        captions: `ignored`, or `apart` for the part that is the caption's in a number of its own.
        batch: Pictures in memory at once.
    """

    def __init__(
        self,
        *,
        name: str,
        files: Mapping[str, str],
        network: Any,
        pictures: Any,
        words: Any,
        pool: Pool,
        captions: Captions = "ignored",
        batch: int = 32,
    ) -> None:
        features = int(network.config.projection_dim)
        self.name = name
        self.tokens = pool.tokens
        self.width = features + {"ignored": 0, "apart": 1}[captions]
        self.about: Mapping[str, Any] = {
            "encoder": "clip",
            "model": digest_json(dict(files)),
            "pooling": pool.pooling,
            "captions": captions,
            "tokens": self.tokens,
            "width": self.width,
            "arithmetic": _ARITHMETIC,
        }
        self.identity = digest_json(self.about)
        self._network, self._pictures, self._words = network, pictures, words
        self._pool, self._batch = pool, batch
        self._rows = {"ignored": self._unlike, "apart": self._apart}[captions]
        self._device = next(network.parameters()).device
        self._seen, self._read = Remembered(), Remembered(str)

    @classmethod
    def open(
        cls,
        model: str | Path,
        *,
        pooling: Pooling = "mean",
        examples: int = 4,
        captions: Captions = "ignored",
        name: str | None = None,
        processors: str | Path | None = None,
        device: str | torch.device = "cpu",
        batch: int = 32,
    ) -> "CLIPUsers":
        """Open a folder or Hub id that holds a transformers `CLIPModel` with its processors.

        Args:
            model: The folder, or `owner/name`, or `owner/name@revision`.
            pooling: `mean` for one row, the mean over the examples; `pairs` for one per example.
            examples: Rows there are with `pairs`.
            captions: `ignored` or `apart`, see this module.
            name: What reports call it; the folder's name when left out.
            processors: Where image processor and tokenizer are when the model has none.
            device: Where it computes, in float32.
            batch: Pictures in memory at once. It does not change what is found.

        Raises:
            SettingError: for an unknown setting.
            WeightsError: when the folder is not a whole CLIP model in safetensors.
        """
        pool = Pool(pooling, examples)
        if captions not in get_args(Captions):
            raise unknown("captions", captions, get_args(Captions))
        folder = fetch(model, files=WANTED)
        eyes = processors_of(folder, processors)
        files = facts_of(folder, eyes)
        network = load_network(folder).to(device)
        pictures, words = load_processors(eyes)
        return cls(
            name=name or folder.name,
            files=files,
            network=network,
            pictures=pictures,
            words=words,
            pool=pool,
            captions=captions,
            batch=batch,
        )

    def embed(self, people: Sequence[Sequence[Example]]) -> Float[Tensor, " n tokens width"]:
        """One embedding per person, float32; equal pictures say nothing and give a row of zeros.

        Raises:
            DataError: when somebody has no example, or more than there are rows for.
        """
        self._pool.check(people)
        mine = [in_order(examples) for examples in people]
        every = [example for examples in mine for example in examples]
        rows = self._rows(every) if every else torch.zeros(0, self.width)
        return self._pool.of(rows.split([len(examples) for examples in mine]), self.width)

    def differences(self, examples: Sequence[Example]) -> Float[Tensor, " n width"]:
        """One row per example, in their order, in float32 and not scaled."""
        return self._rows(examples)

    def _unlike(self, examples: Sequence[Example]) -> Float[Tensor, " n features"]:
        """Chosen minus rejected, one row per example."""
        images = [image for each in examples for image in (each.chosen, each.rejected)]
        chosen, rejected = self._seen.of(images, self._look).unflatten(0, (-1, 2)).unbind(1)
        return chosen - rejected

    def _apart(self, examples: Sequence[Example]) -> Float[Tensor, " n width"]:
        """The differences without their captions' part, and that part."""
        rows = self._unlike(examples)
        captions = self._read.of([each.prompt for each in examples], self._reading)
        along = (rows * captions).sum(1, keepdim=True)
        return torch.cat([rows - along * captions, along * rows.shape[1] ** 0.5], dim=1)

    def _look(self, images: Sequence[np.ndarray]) -> Float[Tensor, " n features"]:
        """Features of pictures, each of length one."""
        network = self._network

        def features(some: Sequence[np.ndarray]) -> Tensor:
            pixels = self._pictures(images=list(some), return_tensors="pt").pixel_values
            there = network.vision_model(pixel_values=pixels.to(self._device, torch.float32))
            return network.visual_projection(there.pooler_output)

        return self._in_batches(images, features)

    def _reading(self, prompts: Sequence[str]) -> Float[Tensor, " n features"]:
        """Features of captions, each of length one; words beyond the model's length are cut."""
        network, words = self._network, self._words
        length = min(network.config.text_config.max_position_embeddings, words.model_max_length)

        def features(some: Sequence[str]) -> Tensor:
            tokens = words(
                list(some),
                padding="max_length",
                max_length=length,
                truncation=True,
                return_tensors="pt",
            ).to(self._device)
            there = network.text_model(
                input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
            )
            return network.text_projection(there.pooler_output)

        return self._in_batches(prompts, features)

    @torch.no_grad()
    def _in_batches(
        self, things: Sequence[Any], features: Callable[[Sequence[Any]], Tensor]
    ) -> Float[Tensor, " n features"]:
        starts = range(0, len(things), self._batch)
        parts = [features(things[start : start + self._batch]).cpu() for start in starts]
        return normalize(torch.cat(parts).float(), dim=1)

r"""Attention to a user beside every attention to text: one model that follows many tastes (PPD).

A user is a few vectors, made of some of their own judgements. Wherever the network attends to the
prompt, it attends to them as well, with keys and values of their own and the query it has
(Dang et al., 2025, arXiv:2501.06655; the form is IP-Adapter's, arXiv:2308.06721):

$$Z' = \text{softmax}(QK^\top/\sqrt d)\,V + \text{softmax}(QK_u^\top/\sqrt d)\,V_u, \qquad
K_u = P u\,W_k,\quad V_u = P u\,W_v$$

P is one projection shared by all layers; nothing has a bias, and W_v starts at zero. The second
term is left out where a row is for nobody, so nobody gets the base model to the bit.

Read next: `personal.py`, the file of these layers, and plain pipelines that have them;
`listening.py`, a model that draws for somebody.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import torch
from diffusers.models.attention_processor import Attention
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from palate.backbones.backbone import Personal
from palate.core.problems import SettingError, require
from palate.core.streams import Streams

# Where the new layers are in the network that they are put on.
PLACE = "user_attention"
# By class of network: the last name of the layers that attend to the prompt.
ATTENTION: Mapping[str, str] = {
    "UNet2DConditionModel": "attn2",
    "StableCascadeUNet": "attention",
    "SD3Transformer2DModel": "attn",
}
# Pipelines with these words in their names ask in other parts than prompt and no prompt.
_MORE_PARTS = ("PAG", "InstructPix2Pix")
# Plain pipelines that put the empty prompt of guidance after the other ones, not before.
_PROMPT_FIRST = ("StableCascadePriorPipeline",)


@final
class UserAttention(nn.Module):
    """All the new layers of one network: a shared projection, and keys and values per attention.

    Args:
        settings: Their sizes.
        heard: The attentions of the network, by name.
    """

    def __init__(self, settings: Personal, heard: Mapping[str, Attention]) -> None:
        super().__init__()
        self.settings = settings
        self.projection = nn.Linear(settings.user_width, settings.width, bias=False)
        self.keys, self.values = nn.ModuleDict(), nn.ModuleDict()
        for name, attention in heard.items():
            for layers in (self.keys, self.values):
                layers[_plain(name)] = nn.Linear(settings.width, _inner(attention), bias=False)
        self._silent = False
        # What this call of the network hears: the projected user, and which tokens are there.
        self._heard: tuple[Tensor, Tensor] | None = None
        self._drawn_for: Tensor | None = None
        self._guided: Callable[[], bool] = _never
        self._prompt_first = False
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """Projection and keys of unit answers to unit inputs, values of zero; drawn by name."""
        streams = Streams(self.settings.seed)
        for name, weight in self.named_parameters():
            kept = streams("user attention", name).normal(tuple(weight.shape))
            weight.copy_(kept / weight.shape[1] ** 0.5)
        for layer in self.values.values():
            layer.weight.zero_()  # pyright: ignore[reportCallIssue, reportArgumentType]

    def hear(self, user: Tensor | None, rows: int, *, whole: bool = False) -> None:
        """Listen to these users from now on, until `forget`.

        Args:
            user: [b, tokens, width]; None is nobody, or whoever `draw_for` said.
            rows: Rows of this call of the network.
            whole: Whether all rows are prompts, also in a pipeline that guides.

        Raises:
            SettingError: when the embeddings are of another form than the layers were made for.
        """
        self._heard = None
        user = self._whom(rows, whole=whole) if user is None else user
        if user is None or self._silent:
            return
        self.settings.check(user)
        there = user.ne(0).any(dim=-1)
        if bool(there.any()):
            self._heard = (self.projection(user.to(self.projection.weight)), there)

    def forget(self) -> None:
        """Listen to nobody."""
        self._heard = None

    def draw_for(self, user: Float[Tensor, " b tokens width"] | None) -> None:
        """Whom to listen to where a call of the network does not say, as in plain pipelines.

        Args:
            user: One embedding for all pictures, or one for each prompt of the next call of the
                pipeline; None for nobody. The half of a call that is the empty prompt of guidance
                is for nobody in any case.

        Raises:
            SettingError: when the embeddings are of another form than the layers were made for.
        """
        if user is not None:
            self.settings.check(user)
        self._drawn_for = user

    def within(self, pipeline: Any) -> None:
        """Ask a plain pipeline whether a call of its network is one half guidance, and which.

        Raises:
            SettingError: for a pipeline whose calls have more parts than these two.
        """
        name = type(pipeline).__name__
        require(
            not any(word in name for word in _MORE_PARTS),
            got=f"a {name}",
            need="a pipeline that asks its network with the prompt, and without it for guidance",
            fix="Use the plain text-to-image pipeline of the model.",
        )
        self._guided = lambda: bool(getattr(pipeline, "do_classifier_free_guidance", False))
        self._prompt_first = name in _PROMPT_FIRST

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Inside, nobody is listened to, whoever speaks."""
        before, self._silent = self._silent, True
        try:
            yield
        finally:
            self._silent = before

    def answer(self, name: str, attention: Attention, hidden: Tensor) -> Tensor | None:
        """What attention to the user adds to one layer's answer; None where there is nobody.

        Args:
            name: The layer.
            attention: The network's own attention there, whose query and output are shared.
            hidden: What it is asked about, [b, n, width] or [b, width, y, x].
        """
        if self._heard is None:
            return None
        user, there = self._heard
        image = hidden.ndim == 4
        flat = hidden.flatten(2).transpose(1, 2) if image else hidden
        query = _heads(attention, attention.to_q(flat))
        if attention.norm_q is not None:
            query = attention.norm_q(query)
        key, value = self.keys[_plain(name)](user), self.values[_plain(name)](user)
        # A row without any token attends to all, and its answer is not used.
        seen = (there | ~there.any(dim=1, keepdim=True))[:, None, None]
        found = functional.scaled_dot_product_attention(
            query,
            _heads(attention, key).to(query.dtype),
            _heads(attention, value).to(query.dtype),
            attn_mask=seen,
        )
        joined = found.transpose(1, 2).flatten(2)
        # Through the output's weight without its bias, which the text's answer has had already.
        outward: Any = attention.to_out
        added = functional.linear(joined, outward[0].weight.to(joined.dtype))
        added = added / attention.rescale_output_factor
        return added.transpose(1, 2).reshape(hidden.shape) if image else added

    @property
    def hears(self) -> bool:
        """Whether anybody is listened to in this call."""
        return self._heard is not None

    def present(self) -> Bool[Tensor, " b"]:
        """Which rows of the call are for somebody."""
        assert self._heard is not None  # only asked where there is an answer
        return self._heard[1].any(dim=1)

    def recomputing(self, module: Callable[..., Any], *inputs: Any) -> Any:
        """Run a block, forget its activations, and on the way back hear the same users again."""
        heard = self._heard

        def run(*again: Any) -> Any:
            before, self._heard = self._heard, heard
            try:
                return module(*again)
            finally:
                self._heard = before

        return checkpoint(run, *inputs, use_reentrant=False)

    def _whom(self, rows: int, *, whole: bool) -> Tensor | None:
        """The users of `draw_for` as the rows of a call, one half of which may be guidance's."""
        user = self._drawn_for
        if user is None:
            return None
        guided = self._guided() and not whole
        pictures = rows // 2 if guided else rows
        require(
            pictures > 0 and pictures % len(user) == 0 and (not guided or rows % 2 == 0),
            got=f"a call of {rows} rows, {pictures} pictures for {len(user)} users",
            need="as many pictures of each user, with guidance once more as many",
            fix="Give one embedding per prompt, or one for all; other guidance than by the empty "
            "prompt is not known here.",
        )
        user = user.to(self.projection.weight.device)
        user = user.repeat_interleave(pictures // len(user), dim=0)
        halves = [torch.zeros_like(user), user] if guided else [user]
        return torch.cat(halves[::-1] if self._prompt_first else halves)


@final
class Beside:
    """An attention processor with attention to the user beside it.

    Args:
        inner: The processor that was there.
        layers: The network's new layers.
        name: Which of them these are.
    """

    def __init__(self, inner: Any, layers: UserAttention, name: str) -> None:
        self.inner, self._layers, self._name = inner, layers, name

    def __call__(self, attn: Attention, hidden_states: Tensor, *others: Any, **named: Any) -> Any:
        """The text's answer, plus the user's in rows that are for somebody."""
        answer = self.inner(attn, hidden_states, *others, **named)
        added = self._layers.answer(self._name, attn, hidden_states)
        if added is None:
            return answer
        first = answer[0] if isinstance(answer, tuple) else answer
        rows = self._layers.present().view(-1, *[1] * (first.ndim - 1))
        # Chosen and not multiplied: rows for nobody keep their bits.
        first = torch.where(rows, first + added.to(first.dtype), first)
        return (first, *answer[1:]) if isinstance(answer, tuple) else first


@final
class UsersSilent:
    """The base network, spoken through the same modules with nobody to listen to."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network

    @contextmanager
    def __call__(self) -> Iterator[nn.Module]:
        """The network as it was before."""
        with layers_of(self._network).silence():
            yield self._network


def attach(network: nn.Module, settings: Personal) -> UserAttention:
    """Put attention to users on a network. Its answers stay what they were.

    The network can then be called with `user`, [b, tokens, width].

    Raises:
        SettingError: for a network of a kind that is not known here.
    """
    kind = type(network).__name__
    last = ATTENTION.get(kind)
    require(
        not hasattr(network, PLACE),
        got=f"attention to users for a {kind} that has some",
        need="a network without",
        fix="Open the pipeline again, and listen to the other file there.",
        kind=SettingError,
    )
    require(
        last is not None,
        got=f"attention to users for a {kind}",
        need=f"one of {', '.join(ATTENTION)}",
        fix="Use a model of one of these families.",
        kind=SettingError,
    )
    heard = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, Attention) and name.rpartition(".")[2] == last
    }
    foreign = [name for name, each in heard.items() if isinstance(each.processor, nn.Module)]
    require(
        not foreign,
        got=f"attention with weights of its own in {len(foreign)} layers, such as an IP-Adapter's",
        need="the network's own attention",
        fix="Unload the IP-Adapter, or leave the user out.",
        kind=SettingError,
    )
    layers = UserAttention(settings, heard).to(next(network.parameters()).device)
    beside = {name: Beside(attention.processor, layers, name) for name, attention in heard.items()}
    for name, attention in heard.items():
        attention.set_processor(beside[name])  # pyright: ignore[reportArgumentType]
    setattr(network, PLACE, layers)

    def before(_module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        noisy = given[0] if given else named["sample" if "sample" in named else "hidden_states"]
        # Stable Diffusion 3 asks once more for the prompt alone, with some layers left out.
        whole = named.get("skip_layers") is not None
        layers.hear(named.pop("user", None), len(noisy), whole=whole)
        require(
            not layers.hears or all(each.processor is beside[n] for n, each in heard.items()),
            got="a user for a network whose attention was exchanged since",
            need="attention to users in every layer that attends to the prompt",
            fix="Choose slicing, xformers or an IP-Adapter first, and listen last.",
            kind=SettingError,
        )
        return given, named

    network.register_forward_pre_hook(before, with_kwargs=True)
    network.register_forward_hook(lambda *_: layers.forget(), always_call=True)
    return layers


def layers_of(network: nn.Module) -> UserAttention:
    """The attention to users that was put on a network.

    Raises:
        SettingError: when there is none.
    """
    found = getattr(network, PLACE, None)
    if not isinstance(found, UserAttention):
        raise SettingError(
            got="a user for a model that knows no users",
            need="a model that was trained with users",
            fix="Name the run or export of a personal training, or leave the user out.",
        )
    return found


def _never() -> bool:
    """A call that is not a plain pipeline's says itself whom each row is for."""
    return False


def _plain(name: str) -> str:
    """A layer's name without dots, which names of modules may not have."""
    return name.replace(".", "_")


def _inner(attention: Attention) -> int:
    """Width of an attention's queries over all heads."""
    return int(attention.to_q.out_features)


def _heads(attention: Attention, flat: Float[Tensor, " b n w"]) -> Float[Tensor, " b h n d"]:
    """Split the width among the heads."""
    return flat.unflatten(-1, (attention.heads, -1)).transpose(1, 2)

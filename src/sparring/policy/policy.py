"""A language model with its tokenizer: what is sampled, scored and trained.

The layers above see text, token ids and log-probabilities, and not which library or attention computes them.
"""

import copy
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from sparring.core.batch import Groups
from sparring.core.errors import ConfigError, RoundError
from sparring.core.files import readable
from sparring.core.types import Prompt
from sparring.policy.cache import has_plain_attention
from sparring.policy.logp import row_wise_logp, shared_logp
from sparring.policy.rendering import Renderer

NEEDED_ARGUMENTS = {"attention_mask", "position_ids", "logits_to_keep"}


def read_state(path: Path) -> dict[str, Tensor]:
    """What `Policy.save_trainable_state` wrote."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise RoundError(f"{path} cannot be read as weights ({error}); restore it, or do without it.") from error


class Policy(nn.Module):
    """`model` is a causal language model of transformers, or a LoRA of peft around one.

    `eos_ids` are all tokens that end a response, `context` the most tokens that prompt and response may have together.
    `shares_prompt` says whether `logp` computes a prompt once for all its responses. It is decided here: gradient
    checkpointing recomputes layers without a cache, and a recurrent layer's state cannot be read at several places.
    """

    def __init__(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        self.model = model
        self.tokenizer: Any = tokenizer
        base = self.base
        missing = NEEDED_ARGUMENTS - set(signature(base.forward).parameters)
        if missing:
            raise ConfigError(
                f"{type(base).__name__} takes no {', '.join(sorted(missing))}, which padded batches need; "
                "choose a model of another architecture."
            )
        self.eos_ids = end_tokens(base, self.tokenizer.eos_token_id)
        padding = self.tokenizer.pad_token_id
        self.pad_id: int = self.eos_ids[0] if padding is None else padding
        self.context: int = getattr(self.config, "max_position_embeddings", None) or tokenizer.model_max_length
        self.plain_attention = has_plain_attention(self.config)
        checkpointing = any(getattr(module, "gradient_checkpointing", False) for module in base.modules())
        self.shares_prompt = self.plain_attention and not checkpointing
        self.renderer = Renderer(tokenizer, self.eos_ids)

    @property
    def lora(self) -> bool:
        return hasattr(self.model, "get_base_model")

    @property
    def base(self) -> PreTrainedModel:
        """The model of transformers, inside the LoRA if there is one."""
        model: Any = self.model
        return model.get_base_model() if self.lora else model

    @property
    def config(self) -> PreTrainedConfig:
        return self.base.config.get_text_config(decoder=True)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    # ---------------------------------------------------------------- text

    def render(self, prompt: Prompt) -> tuple[int, ...]:
        """The prompt as the model reads it, with exactly one BOS if the model uses one."""
        return self.renderer.render(prompt)

    def encode_response(self, text: str) -> tuple[int, ...]:
        """A response as if the model had written it: its tokens and one end token."""
        return self.renderer.encode_response(text)

    def decode(self, prompt_ids: Sequence[int], ids: Sequence[int]) -> str:
        """The text of a response, without special tokens."""
        return self.renderer.decode(prompt_ids, ids)

    # ---------------------------------------------------------------- numbers

    def logp(self, groups: Groups) -> Float[Tensor, " responses"]:
        """Of each response log p(response | prompt): nats, summed over its tokens, float32, differentiable."""
        if self.shares_prompt:
            return shared_logp(self.model, self.config, groups)
        return row_wise_logp(self.model, groups)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluation mode and no gradients inside. Not inference mode: its tensors could not be trained on."""
        training = [module for module in self.modules() if module.training]
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for module in training:
                module.training = True

    # ---------------------------------------------------------------- weights

    def trainable_state(self) -> dict[str, Tensor]:
        """The weights that training changes, not copied; tied weights once, and of a LoRA only the adapter."""
        return {name: weight.detach() for name, weight in self.model.named_parameters() if weight.requires_grad}

    @torch.no_grad()
    def load_trainable_state(self, state: dict[str, Tensor]) -> None:
        own = self.trainable_state()
        if own.keys() != state.keys() or any(own[name].shape != state[name].shape for name in own):
            raise ConfigError(
                f"the stored weights are not those of this model ({len(state)} tensors, {len(own)} expected, names or "
                "shapes differ); use the model and LoRA settings they were made with."
            )
        for name, weight in own.items():
            weight.copy_(state[name])
        torch.clear_autocast_cache()  # it may hold casts of what was overwritten

    def save_trainable_state(self, path: Path) -> None:
        save_file({name: weight.contiguous() for name, weight in self.trainable_state().items()}, path)
        readable(path)

    @contextmanager
    def using_state(self, state: Path | dict[str, Tensor]) -> Iterator[None]:
        """Inside, the policy has the weights of `state`, a file of `save_trainable_state`; afterwards its own again."""
        own = {name: weight.to("cpu", copy=True) for name, weight in self.trainable_state().items()}
        self.load_trainable_state(read_state(state) if isinstance(state, Path) else state)
        try:
            yield
        finally:
            self.load_trainable_state(own)

    def fingerprint(self) -> str:
        """16 hexadecimal digits that change when a trainable weight does, or the model under a LoRA is another."""
        digest = hashlib.sha256(str(self.base.name_or_path).encode() if self.lora else b"")
        for name, weight in sorted(self.trainable_state().items()):
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
            digest.update(weight.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]

    def save(self, directory: Path, merge_lora: bool = False) -> None:
        """Model, tokenizer and generation settings as transformers reads them; of a LoRA the adapter, unless merged."""
        model: Any = self.model
        if self.lora and merge_lora:
            model = copy.deepcopy(model).merge_and_unload()
        if self.lora and not merge_lora:
            # "auto" would ask the hub whether the vocabulary has grown.
            model.save_pretrained(directory, save_embedding_layers=False)
        else:
            model.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)
        readable(*directory.glob("*.safetensors"))


def end_tokens(model: PreTrainedModel, tokenizer_end: int | None) -> tuple[int, ...]:
    """Every end token that generation settings, configuration or tokenizer name, in this order."""
    named: list[int | list[int] | None] = [
        model.generation_config.eos_token_id if model.generation_config is not None else None,
        getattr(model.config.get_text_config(decoder=True), "eos_token_id", None),
        tokenizer_end,
    ]
    flat = [token for entry in named if entry is not None for token in ([entry] if isinstance(entry, int) else entry)]
    if not flat:
        raise ConfigError(
            f"neither the tokenizer nor the generation settings of {model.name_or_path or 'this model'} name an end "
            "token, so no response could end; set eos_token in its tokenizer_config.json."
        )
    return tuple(dict.fromkeys(flat))

"""What annotators with a model of their own share: loading it whole or not at all, and forward passes in batches.

Not here: how prompts and responses become tokens, which every annotator says itself.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from sparring.core.collate import cut_batches, pad
from sparring.core.errors import ConfigError

DTYPES = ("float32", "bfloat16", "float16", "auto")
UNREADABLE = (OSError, ValueError, RuntimeError, SafetensorError)
TOO_LONG = "too long"  # status of a judgement about texts that a model cannot read whole


class Row(NamedTuple):
    """What a model reads in one forward pass. `types` is 1 in the second text of a pair, else 0."""

    ids: tuple[int, ...]
    types: tuple[int, ...]


Forward = Callable[
    [Int[Tensor, "rows time"], Bool[Tensor, "rows time"], Int[Tensor, "rows time"]], Float[Tensor, " rows"]
]


class Classifier:
    """A sequence classifier of one output and its tokenizer. Answers in float32, a linear head computes in it too.

    `max_length` is None where neither model nor tokenizer knows a limit. The weights move to the device when they are
    first needed, for only then has every process of a distributed run its own.
    """

    def __init__(self, path: str, *, dtype: str, device: str | None, trust_remote_code: bool) -> None:
        source = resolve(path)
        self.device = checked_device(device)
        try:
            config = AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
            self.tokenizer: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
        except UNREADABLE as error:
            raise unreadable(path, error) from error
        if config.num_labels != 1:
            raise ConfigError(
                f"the model {path!r} has {config.num_labels} outputs; give a classifier with one, a score."
            )
        self.model = load_whole(
            path,
            AutoModelForSequenceClassification,
            source,
            config=config,
            dtype=checked_dtype(dtype),
            trust_remote_code=trust_remote_code,
        )
        in_float32(self.model)
        text = config.get_text_config()
        self.pad_id: int | None = text.pad_token_id
        self.has_types = getattr(text, "type_vocab_size", 0) > 1
        check_vocabulary(path, len(self.tokenizer), self.model)
        known = (self.tokenizer.model_max_length, getattr(text, "max_position_embeddings", None))
        # A tokenizer without a limit says 10**30.
        self.max_length = min((limit for limit in known if limit is not None and limit < 10**9), default=None)

    def outputs(self, rows: Sequence[Row], token_budget: int) -> list[float]:
        self.model.to(self.device)
        return run_in_batches(rows, self._forward, token_budget=token_budget, device=self.device)

    def _forward(
        self, ids: Int[Tensor, "rows time"], mask: Bool[Tensor, "rows time"], types: Int[Tensor, "rows time"]
    ) -> Float[Tensor, " rows"]:
        pad_id = self.pad_id
        if pad_id is None:
            # A decoder finds the end of a row by its padding. One that has none gets a token that no row contains.
            pad_id = self.model.config.get_text_config().pad_token_id = next(
                token for token in range(ids.numel() + 1) if not (ids == token).any()
            )
        extra = {"token_type_ids": types} if self.has_types else {}
        output = self.model(input_ids=ids.masked_fill(~mask, pad_id), attention_mask=mask.long(), **extra)
        return output.logits.float().squeeze(-1)


def run_in_batches(rows: Sequence[Row], forward: Forward, *, token_budget: int, device: torch.device) -> list[float]:
    """The output for every row; rows of similar length share a batch, and equal rows one forward pass."""
    distinct = list(dict.fromkeys(rows))
    outputs: dict[Row, float] = {}
    with torch.inference_mode():
        for batch in cut_batches([len(row.ids) for row in distinct], [1] * len(distinct), token_budget):
            chosen = [distinct[i] for i in batch]
            ids, mask = pad([row.ids for row in chosen], pad_id=0, left=False)
            types, _ = pad([row.types for row in chosen], pad_id=0, left=False)
            answers = forward(ids.to(device), mask.to(device), types.to(device)).tolist()
            outputs.update(zip(chosen, answers, strict=True))
    return [outputs[row] for row in rows]


def without_controls(text: str, controls: Iterable[str]) -> str:
    """The text with a space for each control word, so that no candidate can begin or end a part by spelling one."""
    for control in controls:
        text = text.replace(control, " ")
    return text


def control_words(tokenizer: Any) -> tuple[str, ...]:
    return tuple(str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)


def load_whole(path: str, kind: Any, source: str, **options: Any) -> Any:
    """The model in eval mode; a tensor that the file lacks would be random, and is refused."""
    try:
        model, report = kind.from_pretrained(source, output_loading_info=True, **options)
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ConfigError(
            f"the weights of {path!r} lack {len(missing)} tensors, {missing[0]} among them, which would be random; "
            "give a complete model of this kind."
        )
    return model.eval()


def in_float32(model: Any) -> None:
    """A linear head on top computes in float32: rounded to bfloat16, scores would have three digits."""
    head = getattr(model, "score", getattr(model, "classifier", None))
    if isinstance(head, nn.Linear):
        head.float()
        head.register_forward_pre_hook(lambda _, inputs: tuple(part.float() for part in inputs))


def resolve(path: str) -> str:
    """A directory with a model in it, or else what can only be a name on the hub."""
    directory = Path(path).expanduser()
    if directory.is_dir():
        if not (directory / "config.json").is_file():
            raise ConfigError(f"{path} is no model directory: it has no config.json; give the directory of a model.")
        return str(directory)
    if directory.is_absolute() or path.startswith((".", "~")) or directory.exists():
        raise ConfigError(f"there is no directory {path}; give the directory of a model, or a name on the hub.")
    return path


def unreadable(path: str, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split())[:200]
    return ConfigError(
        f"cannot read the model {path!r}; check its files, and the network if it is on the hub ({reason})."
    )


def check_vocabulary(path: str, words: int, model: Any) -> None:
    embedded = model.get_input_embeddings().num_embeddings
    if words > embedded:
        raise ConfigError(f"the tokenizer of {path!r} has {words} tokens, but its model knows {embedded}; use its own.")


def check_budget(token_budget: int) -> int:
    if token_budget < 1:
        raise ConfigError(f"annotator.token_budget is {token_budget}; give the tokens of one forward pass, 1 or more.")
    return token_budget


def checked_dtype(dtype: str) -> str:
    if dtype not in DTYPES:
        raise ConfigError(f"the dtype of the annotator's model is {dtype!r}; choose one of {', '.join(DTYPES)}.")
    return dtype


def checked_device(device: str | None) -> torch.device:
    """Without a name the GPU of this process, or the CPU where there is none."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        named = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(
            f"the annotator's device is {device!r}; give cpu, cuda, cuda:0, or null for either."
        ) from error
    if named.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"the annotator's device is {device!r}, but there is no GPU here; use cpu, or null.")
    return named

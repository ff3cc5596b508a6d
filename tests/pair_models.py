"""A small random PairRM saved in both layouts of the hub, and its arithmetic written out, one pair at a time."""

import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from torch.nn.functional import gelu, layer_norm
from transformers import DebertaV2Config, DebertaV2Model, PreTrainedTokenizerFast

MARKERS = ["<|source|>", "<|candidate1|>", "<|candidate2|>", "<|candidate|>"]
WORDS = ["the", "cat", "sat", "on", "mat", "a", "dog", "ran", "far", "red"]
HEADS, BUCKETS, POSITIONS = 2, 8, 64  # so few that short texts reach the logarithmic buckets


def tokenizer(markers: list[str]) -> PreTrainedTokenizerFast:
    """Each of `WORDS` is one token; other text becomes letters."""
    pieces = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "▁", *(f"▁{word}" for word in WORDS)]
    letters = [*"abcdefghijklmnopqrstuvwxyz|<>[].,ACELPSX0123456789"]
    backend = Tokenizer(models.Unigram([(p, -1.0) for p in pieces] + [(letter, -20.0) for letter in letters], 3, False))
    backend.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.Replace("\n", " ")])
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.add_tokens([AddedToken(marker, special=False) for marker in markers])
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]"
    )


def encoder_config(words: int) -> DebertaV2Config:
    """As DeBERTa-v3's, only smaller."""
    return DebertaV2Config(
        vocab_size=words,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        intermediate_size=24,
        max_position_embeddings=POSITIONS,
        relative_attention=True,
        position_buckets=BUCKETS,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        initializer_range=0.25,  # far from uniform attention, so that a wrong position or mask shows
        pad_token_id=0,
    )


def save_pairrm(directory: Path, markers: list[str] = MARKERS) -> Path:
    """The layout of PairRM-hf: the encoder's configuration and the weights under the names of its library."""
    words = tokenizer(markers)
    torch.manual_seed(0)
    config = encoder_config(len(words))
    encoder, width = DebertaV2Model(config), config.hidden_size
    weights = {f"pretrained_model.{name}": weight for name, weight in encoder.state_dict().items()}
    weights |= {"head_layer.1.weight": torch.randn(width, 2 * width), "head_layer.1.bias": torch.randn(width)}
    weights |= {"head_layer.4.weight": torch.randn(1, width), "head_layer.4.bias": torch.randn(1)}
    directory.mkdir(parents=True, exist_ok=True)
    words.save_pretrained(directory)
    ranker = {"architectures": ["DebertaV2PairRM"], "n_tasks": 1, "drop_out": 0.05, "pos_att_type": "p2c|c2p"}
    ids = {"sep_token_id": 2, "source_prefix_id": 70, "cand_prefix_id": 73, "cand1_prefix_id": 71}
    (directory / "config.json").write_text(json.dumps(config.to_dict() | ranker | ids))
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def save_first_layout(directory: Path, pairrm: Path) -> Path:
    """The layout of PairRM: its config.json is the ranker's, which only names the encoder."""
    encoder_config(100).save_pretrained(directory / "encoder")
    for file in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (directory / file).write_bytes((pairrm / file).read_bytes())
    ranker = {"ranker_type": "pairranker", "model_type": "deberta", "model_name": str(directory / "encoder")}
    lengths = {"source_maxlength": 1224, "candidate_maxlength": 412, "n_tasks": 1, "drop_out": 0.05}
    (directory / "config.json").write_text(json.dumps(ranker | lengths))
    return directory


def slow_logit(directory: Path, prompt: str, first: str, second: str) -> float:
    """L(first, second) of texts that need no cutting, in double precision, from the files alone."""
    backend = Tokenizer.from_file(str(directory / "tokenizer.json"))
    texts = zip(MARKERS[:3], (prompt, first, second), strict=True)
    ids = [token for marker, text in texts for token in backend.encode(marker + text).ids]
    weights = {name: weight.double() for name, weight in load_file(directory / "model.safetensors").items()}
    states = deberta({name.removeprefix("pretrained_model."): weight for name, weight in weights.items()}, ids)
    source, one, two = (states[ids.index(backend.token_to_id(marker))] for marker in MARKERS[:3])

    def score(candidate: Tensor) -> Tensor:
        hidden = weights["head_layer.1.weight"] @ torch.cat([source, candidate]) + weights["head_layer.1.bias"]
        return weights["head_layer.4.weight"] @ torch.tanh(hidden) + weights["head_layer.4.bias"]

    return float(score(one) - score(two))


def deberta(weights: dict[str, Tensor], ids: list[int]) -> Tensor:
    """Disentangled attention (arXiv 2006.03654, 2111.09543) for one text; (time, width)."""

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        return layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-7)

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (HEADS, -1)).transpose(0, 1)

    relative = norm("encoder.LayerNorm", weights["encoder.rel_embeddings.weight"])
    place = torch.tensor([[bucket(i - j) + BUCKETS for j in range(len(ids))] for i in range(len(ids))])
    place = place.clamp(0, 2 * BUCKETS - 1)
    x = norm("embeddings.LayerNorm", weights["embeddings.word_embeddings.weight"][torch.tensor(ids)])
    for number in range(2):
        layer = f"encoder.layer.{number}"
        query, key, value = (heads(linear(f"{layer}.attention.self.{k}_proj", x)) for k in ("query", "key", "value"))
        far_query, far_key = (heads(linear(f"{layer}.attention.self.{k}_proj", relative)) for k in ("query", "key"))
        content = query @ key.mT
        to_place = torch.einsum("hid,hijd->hij", query, far_key[:, place])
        from_place = torch.einsum("hjd,hijd->hij", key, far_query[:, place])
        attention = ((content + to_place + from_place) / math.sqrt(3 * query.shape[-1])).softmax(-1)
        mixed = (attention @ value).transpose(0, 1).flatten(1)
        x = norm(f"{layer}.attention.output.LayerNorm", linear(f"{layer}.attention.output.dense", mixed) + x)
        wide = gelu(linear(f"{layer}.intermediate.dense", x))
        x = norm(f"{layer}.output.LayerNorm", linear(f"{layer}.output.dense", wide) + x)
    return x


def bucket(distance: int) -> int:
    """Exact up to half the buckets, logarithmic beyond."""
    middle = BUCKETS // 2
    if abs(distance) <= middle:
        return distance
    steps = math.log(abs(distance) / middle) / math.log((POSITIONS - 1) / middle) * (middle - 1)
    return int(math.copysign(math.ceil(steps) + middle, distance))

"""Small random models in the layout of a saved model: one that chats, one that only continues text."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sparring.core.types import Message, Prompt
from sparring.policy.loading import load_policy
from sparring.policy.policy import Policy

torch.set_num_threads(1)

TEXTS = [
    "the cat sat on the mat and the dog ran to the red door",
    "one day a small bird found a big ball, and the bird was happy.",
    "Return None if empty, else return the first word of the text",
    "the girl said hello to the boy; they went to the park and played all day",
]
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def chat_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE. Its template ends a turn with <|end|>, which is not the tokenizer's end token </s>."""
    special = ["<pad>", "<s>", "</s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=special[3:],
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def plain_tokenizer() -> PreTrainedTokenizerFast:
    """As Llama 2's: every text gets a space in front, which decoding takes away. It adds </s>, and pad is unk."""
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(vocab_size=360, special_tokens=special, show_progress=False)
    backend.train_from_iterator(TEXTS, trainer)
    state = json.loads(backend.to_str())
    state["added_tokens"] = state["added_tokens"][:3]  # the bytes are words like others
    backend = Tokenizer.from_str(json.dumps(state))
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<unk>", unk_token="<unk>"
    )


def save_llama(directory: Path, tokenizer: PreTrainedTokenizerFast, eos: list[int]) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.25,  # far from uniform, so that a wrong position or mask shows
        bos_token_id=1,
        eos_token_id=eos[0],
        pad_token_id=0,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=eos, pad_token_id=0)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """End tokens: </s> (2) and <|end|> (3)."""
    return save_llama(tmp_path_factory.mktemp("chat"), chat_tokenizer(), [2, 3])


@pytest.fixture(scope="session")
def plain_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No chat template; end tokens <s> (1), which also begins texts, and </s> (2)."""
    return save_llama(tmp_path_factory.mktemp("plain"), plain_tokenizer(), [1, 2])


@pytest.fixture
def chat_policy(chat_model: Path) -> Policy:
    return load_policy(str(chat_model))


@pytest.fixture
def plain_policy(plain_model: Path) -> Policy:
    return load_policy(str(plain_model))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference material that lies beside some checkouts."""
    for parent in Path(__file__).resolve().parents:
        if (parent / "shared" / "specs").is_dir():
            return parent / "shared"
    pytest.skip("there is no shared/ beside this checkout")


@pytest.fixture(scope="session")
def stories260k(shared: Path) -> Path:
    """A real pretrained model of one megabyte without chat template; end tokens 1 and 2, 1 also begins texts."""
    return shared / "models" / "stories260k"


@pytest.fixture(scope="session")
def ask() -> Callable[..., Prompt]:
    def one_turn(text: str, name: str = "p", teacher: str | None = None) -> Prompt:
        return Prompt(name, (Message("user", text),), teacher=teacher)

    return one_turn

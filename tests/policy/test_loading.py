import json
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from sparring.core.errors import ConfigError
from sparring.policy.loading import load_policy, random_llama
from sparring.policy.policy import Policy

CONF = Path(__file__).parents[2] / "conf"
LLAMA: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32,
}


def test_all_end_tokens_are_found(chat_policy: Policy, plain_policy: Policy) -> None:
    assert chat_policy.eos_ids == (2, 3)
    assert plain_policy.eos_ids == (1, 2)
    assert (chat_policy.pad_id, chat_policy.context) == (0, 128)


def test_dropout_is_off_even_in_training_mode(chat_model: Path, tmp_path: Path) -> None:
    GPT2LMHeadModel(GPT2Config(vocab_size=320, n_embd=16, n_layer=1, n_head=2)).save_pretrained(tmp_path)
    policy = load_policy(str(tmp_path), tokenizer=str(chat_model))
    assert policy.model.training
    ids = torch.tensor([[1, 5, 6, 7]])
    assert torch.equal(policy.model(ids).logits, policy.model(ids).logits)
    assert policy.config.attn_pdrop == 0.0


def test_random_weights_are_a_function_of_the_seed(chat_model: Path) -> None:
    def fingerprint(seed: int) -> str:
        return load_policy(str(chat_model), random_init=True, seed=seed).fingerprint()

    torch.manual_seed(0)
    first = fingerprint(5)
    assert fingerprint(5) == first
    assert fingerprint(6) != first
    assert load_policy(str(chat_model)).fingerprint() != first


def test_a_random_llama_has_the_sizes_and_the_words_asked_for(chat_model: Path) -> None:
    policy = random_llama(tokenizer=str(chat_model), **LLAMA)
    assert policy.config.vocab_size == 320
    assert (policy.context, policy.pad_id, policy.eos_ids) == (32, 0, (2,))
    # Embedding 320 * 16 (tied), q and o 16 * 16, k and v 16 * 8, three of 16 * 24, two norms and the last one.
    assert sum(weight.numel() for weight in policy.parameters()) == 320 * 16 + 512 + 256 + 3 * 384 + 3 * 16


def test_settings_of_the_model_can_be_changed(chat_model: Path) -> None:
    assert load_policy(str(chat_model), config_overrides={"max_position_embeddings": 64}).context == 64
    with pytest.raises(ConfigError, match="max_positions is no setting of a llama"):
        load_policy(str(chat_model), config_overrides={"max_positions": 64})


def test_weights_have_the_dtype_asked_for(chat_model: Path) -> None:
    assert next(load_policy(str(chat_model), dtype="bfloat16").parameters()).dtype == torch.bfloat16
    assert next(load_policy(str(chat_model), dtype="auto").parameters()).dtype == torch.float32
    with pytest.raises(ConfigError, match="'int8'; it must be one of float32"):
        load_policy(str(chat_model), dtype="int8")


@pytest.mark.parametrize("path", ["/no/such/model", "./no/such/model", "../no", "sparring:no"])
def test_a_directory_that_is_not_there_is_named(path: str) -> None:
    with pytest.raises(ConfigError, match=path):
        load_policy(path)


def test_a_directory_without_a_model_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no model directory: it has no config\.json"):
        load_policy(str(tmp_path))


def test_a_hub_name_without_network_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="cannot read the model 'no-one/nothing'; check its name, and the network"):
        load_policy("no-one/nothing")


def test_weights_that_are_incomplete_or_broken_are_refused(chat_model: Path, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    shutil.copytree(chat_model, directory)
    weights = load_file(directory / "model.safetensors")
    weights.pop("model.norm.weight")
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"lack 1 tensors, model\.norm\.weight among them"):
        load_policy(str(directory))
    (directory / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ConfigError, match="cannot read the model"):
        load_policy(str(directory))


def test_a_tokenizer_with_more_words_than_the_model_is_refused(plain_model: Path, chat_model: Path) -> None:
    with pytest.raises(ConfigError, match="360 tokens, but the model knows 320"):
        load_policy(str(chat_model), tokenizer=str(plain_model))


def test_a_model_without_any_end_token_is_refused(chat_model: Path, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    shutil.copytree(chat_model, directory)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        settings = json.loads((directory / name).read_text())
        settings = {key: value for key, value in settings.items() if not key.startswith("eos_token")}
        settings |= {"eos_token_id": None} if name == "config.json" else {}
        (directory / name).write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="name an end token"):
        load_policy(str(directory))


def test_dropout_in_a_lora_is_refused(chat_model: Path) -> None:
    with pytest.raises(ConfigError, match=r"lora_dropout is 0\.1"):
        load_policy(str(chat_model), lora=peft.LoraConfig(lora_dropout=0.1, target_modules="all-linear"))


@pytest.mark.parametrize("model", ["hf", "llama"])
@pytest.mark.parametrize("lora", [False, True])
def test_lora_is_one_word_on_the_command_line(model: str, lora: bool, chat_model: Path) -> None:
    place = {"hf": f"model.path={chat_model}", "llama": f"model.tokenizer={chat_model}"}[model]
    overrides = [f"+model={model}", place, "+seed=1", *(["model/lora=default"] if lora else [])]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(overrides=overrides)
    policy = instantiate(config.model, _convert_="all")
    assert policy.lora is lora
    assert all("lora_" in name for name in policy.trainable_state()) is lora


def test_the_default_sampler_composes(chat_policy: Policy) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(overrides=["+sampler=default"])
    assert instantiate(config.sampler).num_generations == 5

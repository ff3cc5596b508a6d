"""From a path or a list of sizes to a `Policy`; dropout is off, always: a log-ratio of two dropout masks is noise.

A LoRA is put on here, once. Quantised and sharded loading are not here.
"""

import warnings
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from sparring.core.errors import ConfigError
from sparring.core.files import read_json
from sparring.core.model_files import check_complete, checked_dtype, model_source, unreadable
from sparring.core.torch_seeding import torch_seed
from sparring.policy.policy import Policy

if TYPE_CHECKING:
    import peft  # takes a second to import, so only users of LoRA pay for it

PACKAGED = "sparring:"


def load_policy(
    path: str,
    *,
    dtype: str = "float32",
    attn_implementation: str = "sdpa",
    trust_remote_code: bool = False,
    lora: "peft.LoraConfig | None" = None,
    gradient_checkpointing: bool = False,
    random_init: bool = False,
    seed: int = 0,
    config_overrides: dict[str, Any] | None = None,
    tokenizer: str | None = None,
) -> Policy:
    """The model and tokenizer at `path`: a directory, a name on the hub, or "sparring:tiny", which is in this package.

    `random_init` takes only the configuration from `path` and draws the weights from `seed`. A directory with nothing
    but a LoRA is read with the model that it names, and goes on as a LoRA: that is what its export holds.
    """
    if (base := adapted_model(path)) is not None:
        if lora is not None or random_init:
            raise ConfigError(f"{path} is a LoRA itself; leave out model.lora and model.random_init, or give {base}.")
        policy = load_policy(
            base,
            dtype=dtype,
            attn_implementation=attn_implementation,
            trust_remote_code=trust_remote_code,
            gradient_checkpointing=gradient_checkpointing,
            config_overrides=config_overrides,
            tokenizer=tokenizer or path,
        )
        return Policy(with_saved_lora(policy.base, path), policy.tokenizer)
    source, config = resolve(path), read_config(path, trust_remote_code)
    without_dropout(config)
    for name, value in (config_overrides or {}).items():
        if not hasattr(config, name):
            raise ConfigError(f"model.config_overrides.{name} is no setting of a {config.model_type} model; remove it.")
        setattr(config, name, value)
    options: dict[str, Any] = {
        "dtype": checked_dtype("model.dtype", dtype),
        "attn_implementation": attn_implementation,
        "trust_remote_code": trust_remote_code,
    }
    model = from_config(config, seed, **options) if random_init else from_weights(path, source, config, **options)
    return finish(model, load_tokenizer(tokenizer or path, trust_remote_code), lora, gradient_checkpointing)


def random_llama(
    *,
    tokenizer: str | PreTrainedTokenizerBase,
    hidden_size: int,
    intermediate_size: int,
    num_hidden_layers: int,
    num_attention_heads: int,
    num_key_value_heads: int,
    max_position_embeddings: int,
    initializer_range: float = 0.02,
    tie_word_embeddings: bool = True,
    dtype: str = "float32",
    attn_implementation: str = "sdpa",
    lora: "peft.LoraConfig | None" = None,
    gradient_checkpointing: bool = False,
    seed: int = 0,
) -> Policy:
    """A Llama with random weights and the vocabulary of `tokenizer`: for pretraining, and for measuring speed."""
    words: Any = load_tokenizer(tokenizer, trust_remote_code=False) if isinstance(tokenizer, str) else tokenizer
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        num_key_value_heads=num_key_value_heads,
        max_position_embeddings=max_position_embeddings,
        initializer_range=initializer_range,
        tie_word_embeddings=tie_word_embeddings,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    if dtype == "auto":
        raise ConfigError("model.dtype is 'auto', which a model without stored weights cannot have; name one.")
    model = from_config(
        config, seed, dtype=checked_dtype("model.dtype", dtype), attn_implementation=attn_implementation
    )
    return finish(model, words, lora, gradient_checkpointing)


def resolve(path: str) -> str:
    """A directory with a model in it, one of this package among them, or else what can only be a name on the hub."""
    if path.startswith(PACKAGED):
        directory = Path(str(files("sparring"))) / "assets" / path.removeprefix(PACKAGED)
        if not directory.is_dir():
            raise ConfigError(f"{path} is not in this installation of sparring; name a directory or a hub model.")
        return str(directory)
    return model_source(path)


def read_config(path: str, trust_remote_code: bool) -> PreTrainedConfig:
    """The configuration of the model at `path`, or beneath the LoRA there: without it there is nothing to load."""
    source = resolve(adapted_model(path) or path)
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise unreadable("model", path, error) from error


def load_tokenizer(path: str, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    # Not `resolve`: a tokenizer's directory needs no model in it.
    source = resolve(path) if path.startswith(PACKAGED) or not Path(path).expanduser().is_dir() else path
    try:
        return AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise unreadable("tokenizer", path, error) from error


def from_weights(path: str, source: str, config: PreTrainedConfig, **options: Any) -> PreTrainedModel:
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(source, config=config, output_loading_info=True, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise unreadable("model", path, error) from error
    model, report = loaded
    check_complete(path, report["missing_keys"])
    return model


def from_config(config: PreTrainedConfig, seed: int, **options: Any) -> PreTrainedModel:
    with torch_seed(seed, torch.device("cpu")):
        return AutoModelForCausalLM.from_config(config, **options)


def finish(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    lora: "peft.LoraConfig | None",
    gradient_checkpointing: bool,
) -> Policy:
    embedding: Any = model.get_input_embeddings()
    embedded: int = embedding.num_embeddings
    if len(tokenizer) > embedded:
        raise ConfigError(f"the tokenizer has {len(tokenizer)} tokens, but the model knows {embedded}; use its own.")
    switch_off_dropout(model)
    if gradient_checkpointing:
        # Renamed in transformers 5.2x; both names take the same settings.
        enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
        enable({"use_reentrant": False})
    wrapped = model if lora is None else with_lora(model, lora)
    return Policy(wrapped.train(), tokenizer)  # without dropout the mode matters to gradient checkpointing alone


def with_lora(model: PreTrainedModel, lora: "peft.LoraConfig") -> nn.Module:
    from peft import get_peft_model

    if lora.lora_dropout:
        raise ConfigError(f"model.lora.lora_dropout is {lora.lora_dropout}; set it to 0, for policies have no dropout.")
    with warnings.catch_warnings():
        # peft 0.21 asks transformers for something by a name that 5.2x deprecates; nothing a user could mend.
        warnings.filterwarnings("ignore", "`(is_)?gradient_checkpointing", FutureWarning)
        return get_peft_model(model, lora)


def adapted_model(path: str) -> str | None:
    """The model that a directory's LoRA was trained on; None where it holds a model, or is none."""
    directory = Path(path).expanduser()
    described = directory / "adapter_config.json"
    if not described.is_file() or (directory / "config.json").is_file():
        return None
    base = read_json(described).get("base_model_name_or_path")
    if not isinstance(base, str):
        raise ConfigError(f"{described} does not say which model it is for; add base_model_name_or_path.")
    return base


def with_saved_lora(model: PreTrainedModel, path: str) -> nn.Module:
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`(is_)?gradient_checkpointing", FutureWarning)
        try:
            wrapped = PeftModel.from_pretrained(model, path, is_trainable=True)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise unreadable("LoRA", path, error) from error
    switch_off_dropout(wrapped)  # which it may have been trained with elsewhere
    return wrapped.train()


def switch_off_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def without_dropout(config: PreTrainedConfig) -> None:
    """Every dropout and layer-drop rate that the configuration names becomes 0."""
    settings = config.get_text_config(decoder=True)
    for name, value in settings.to_dict().items():
        if isinstance(value, float) and any(word in name for word in ("dropout", "pdrop", "layerdrop")):
            setattr(settings, name, 0.0)

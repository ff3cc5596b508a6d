"""A language model that is a softmax table: for each game, named by a prompt of one token, a distribution over actions.

A Llama of the library whose layer adds nothing and whose embeddings are unit vectors, so that the output matrix is the
table: column g holds the logits after prompt g, and is all that is trained. Every action is followed by the end token
with certainty, before and after training without weight decay. It is sampled, scored, stored and exported like any
other model, so what is verified with it is the product.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sparring.core.errors import ConfigError
from sparring.games.matrix import MatrixGame
from sparring.policy.policy import Policy

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
NEVER = -1e4  # a logit whose probability is 0 in float32, and so its gradient


def game_policy(games: Mapping[str, MatrixGame], initial: Mapping[str, Sequence[float]] | None = None) -> Policy:
    """Plays each game with its `initial` distribution over the game's labels, uniform where none is given."""
    start = _distributions(games, initial or {})
    actions = (label for game in games.values() for label in game.labels)
    words = list(dict.fromkeys([PAD, END, UNKNOWN, *games, *actions]))
    token = {word: number for number, word in enumerate(words)}
    model = _table_model(len(words), token, states=len(games) + 1)
    with torch.no_grad():
        table = model.lm_head.weight.fill_(NEVER)
        for column, (name, game) in enumerate(games.items()):
            rows = [token[label] for label in game.labels]
            table[rows, column] = torch.from_numpy(np.log(start[name])).float()
        table[token[END], len(games)] = 0.0
        table[:, len(games) + 1 :] = 0.0  # room that rotary positions ask for
        model.model.embed_tokens.weight.copy_(_states(words, list(games)))
    model.requires_grad_(False)
    model.lm_head.weight.requires_grad_(True)
    return Policy(model.train(), _tokenizer(token))


def _states(words: Sequence[str], games: Sequence[str]) -> Float[Tensor, "words width"]:
    """Unit vectors: one for each game's prompt, and one that all other words share, after which the text ends."""
    states = torch.zeros(len(words), _width(len(games) + 1))
    for row, word in enumerate(words):
        states[row, games.index(word) if word in games else len(games)] = 1.0
    return states


def _width(states: int) -> int:
    return states + states % 2


def _table_model(vocabulary: int, token: Mapping[str, int], *, states: int) -> LlamaForCausalLM:
    width = _width(states)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=8,
        rms_norm_eps=0.0,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=token[END],
        pad_token_id=token[PAD],
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weight in model.model.layers.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.zero_()
        model.model.norm.weight.fill_(width**-0.5)  # the norm of a unit vector's entries is 1 / root(width)
    return model


def _tokenizer(token: Mapping[str, int]) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel(dict(token), unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=END,
        pad_token=PAD,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def _distributions(
    games: Mapping[str, MatrixGame], initial: Mapping[str, Sequence[float]]
) -> dict[str, Float[np.ndarray, " n"]]:
    if not games:
        raise ConfigError("model.games is empty; give games by name, or use experiment=nash_lab.")
    if strange := sorted(initial.keys() - games.keys()):
        raise ConfigError(f"model.initial names {strange[0]!r}, which is no game; the games are {', '.join(games)}.")
    labels = {label for game in games.values() for label in game.labels}
    for word in (*games, *labels):
        if word.split() != [word] or word in (PAD, END, UNKNOWN):
            raise ConfigError(f"{word!r} cannot be a token; names of games and actions are one word each.")
    if shared := sorted(labels & games.keys()):
        raise ConfigError(f"{shared[0]!r} names a game and an action, but prompts and answers differ; rename one.")
    start: dict[str, Float[np.ndarray, " n"]] = {}
    for name, game in games.items():
        given = np.array(initial.get(name, [1.0 / len(game.labels)] * len(game.labels)), dtype=np.float64)
        if given.shape != (len(game.labels),) or not (given > 0).all() or abs(given.sum() - 1.0) > 1e-6:
            raise ConfigError(
                f"model.initial.{name} is no distribution over {len(game.labels)} actions; give each a positive "
                "probability, 1 in all."
            )
        start[name] = given / given.sum()
    return start

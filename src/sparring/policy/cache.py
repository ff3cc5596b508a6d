"""Key/value caches with room for a whole generation.

The library's cache grows by concatenation: every decoded token copies everything before it. Here a token is written
into its place. Sliding-window, quantised and recurrent layers keep the library's own classes.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):
    """Keys and values of one attention layer, as views of buffers `room` tokens long. Not differentiable."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.length = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        super().lazy_initialization(key_states, value_states)
        self._keys = self._buffer(key_states, len(key_states))
        self._values = self._buffer(value_states, len(value_states))

    def update(
        self,
        key_states: Float[Tensor, "rows heads new key_dim"],
        value_states: Float[Tensor, "rows heads new value_dim"],
        *args: object,
        **kwargs: object,
    ) -> tuple[Float[Tensor, "rows heads time key_dim"], Float[Tensor, "rows heads time value_dim"]]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        begin, self.length = self.length, self.length + key_states.shape[-2]
        self._keys[:, :, begin : self.length] = key_states
        self._values[:, :, begin : self.length] = value_states
        return self._expose()

    def get_seq_length(self) -> int:
        return self.length

    def reorder_cache(self, beam_idx: Int[Tensor, " rows"]) -> None:
        """As in every layer of the library: keep, drop or repeat rows."""
        for name in ("_keys", "_values"):
            old = getattr(self, name)
            new = self._buffer(old, len(beam_idx))
            torch.index_select(old[:, :, : self.length], 0, beam_idx, out=new[:, :, : self.length])
            setattr(self, name, new)
        self._expose()

    def _buffer(self, like: Tensor, rows: int) -> Tensor:
        return like.new_empty((rows, like.shape[1], self.room, like.shape[3]))

    def _expose(self) -> tuple[Tensor, Tensor]:
        keys, values = self._keys[:, :, : self.length], self._values[:, :, : self.length]
        self.keys, self.values = keys, values
        return keys, values


def has_plain_attention(config: PreTrainedConfig) -> bool:
    """Whether every layer attends to everything before it, so that a row's cache is just its keys and values."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)


def roomy_cache(config: PreTrainedConfig, room: int) -> DynamicCache:
    """A cache for decoding up to `room` tokens, prompt included."""
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def select_rows(cache: DynamicCache, rows: Int[Tensor, " rows"]) -> None:
    """Keep, drop or repeat rows of every layer. The library's name for it comes from beam search."""
    cache.reorder_cache(rows)  # pyright: ignore[reportArgumentType]

"""From a configuration node to an object: the only caller of `hydra.utils.instantiate`."""

from typing import Any

from hydra.utils import instantiate


def make(node: dict[str, Any]) -> Any:
    """What a `_target_` node describes; containers arrive as plain lists and dictionaries."""
    return instantiate(node, _convert_="all")

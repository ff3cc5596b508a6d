"""The configuration that a run has recorded, for those that come after it. Imports neither torch nor Hydra."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from yaml import YAMLError

from sparring.core.errors import DataError

# Where and how a paid annotator is asked, who keeps its answers and what it may spend: none of it changes an answer.
ASKING = frozenset(
    {"base_url", "api_key_env", "concurrency", "requests_per_minute", "tokens_per_minute", "timeout", "max_retries"}
    | {"backoff", "book", "purse"}
)


def saved_config(run: Path) -> dict[str, Any]:
    """As plain dictionaries; every reference in it was resolved when it was written."""
    path = run / "config.yaml"
    try:
        config = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} cannot be read ({reason}); restore it, or leave the run out.") from error
    if not config or not isinstance(config, dict):
        raise DataError(f"{path} is no configuration; restore it, or leave the run out.")
    return {str(key): value for key, value in config.items()}


def saved_part(run: Path, name: str) -> dict[str, Any]:
    """What the configuration has under `name`, which a file that was cut short may have lost."""
    part = saved_config(run).get(name)
    if not isinstance(part, dict):
        raise DataError(f"{run / 'config.yaml'} has no {name}; restore it, or leave the run out.")
    return part


def answering(node: Any) -> Any:
    """Of an annotator's configuration what its answers may depend on."""
    if isinstance(node, list):
        return [answering(child) for child in node]
    if not isinstance(node, dict):
        return node
    return {key: answering(child) for key, child in node.items() if key not in ASKING}

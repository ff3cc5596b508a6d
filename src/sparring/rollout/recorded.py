"""What rollouts of recorded data share: the checks that a record fits this run and that chunks are still its own."""

from collections.abc import Mapping
from typing import Any

from sparring.core.errors import DataError, RoundError
from sparring.data.rounds import Chunks
from sparring.policy.policy import Policy


def check_tokens(policy: Policy, prompt_ids: tuple[int, ...], ids: tuple[int, ...], text: str, where: str) -> None:
    """Recorded tokens are trained on as they are, so they must mean in this policy's vocabulary what was recorded."""
    known = max((*prompt_ids, *ids)) < policy.config.vocab_size
    if not known or policy.decode(prompt_ids, ids).strip() != text.strip():
        raise DataError(
            f"{where} holds tokens of another tokenizer; use the model it was made with, or one of the same family."
        )


def check_chunk(chunks: Chunks, table: str, number: int, made_of: Mapping[str, Any]) -> None:
    """Refuse a chunk that an earlier process made with another policy or of other records."""
    facts = chunks.facts(table, number)
    for what, now in made_of.items():
        if facts[what] != now:
            raise RoundError(
                f"{chunks.path(table, number)} was made with {what} {facts[what]}, but now it is {now}; "
                "bring back what it was made with, or start over with resume=never overwrite=true."
            )

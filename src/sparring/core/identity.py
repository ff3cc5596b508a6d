"""Names of things by their content: the same messages have the same id in any run and on any machine."""

import hashlib
import json
from collections.abc import Sequence

from sparring.core.types import Message


def prompt_id(messages: Sequence[Message]) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the roles and contents, in order."""
    canonical = json.dumps([[message.role, message.content] for message in messages], ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]

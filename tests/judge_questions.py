"""Candidates to be judged, and answers to what is asked of them."""

from sparring.core.answers import Answer
from sparring.core.types import Candidates, Message, Prompt, Response


def candidates(*texts: str, request: str = "Which colour?", name: str = "p") -> Candidates:
    responses = tuple(Response(text, (), "policy", "stop", 0.0) for text in texts)
    return Candidates(Prompt(name, (Message("user", request),)), (), responses)


def answer(text: str, *, tokens: int = 10, top: dict[str, float] | None = None) -> Answer:
    return Answer(text, "m", 100, tokens, 0.5, top or {})

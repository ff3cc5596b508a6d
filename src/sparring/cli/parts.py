"""Objects that several nodes of a configuration name, like the annotator: built once and shared."""

from collections.abc import Callable, Iterable
from typing import Any

from sparring.annotators.answer_book import nobody
from sparring.cli.make import make

_SHARED = ("answers", "budget", "prompts", "sampler", "annotator")


class Parts:
    """Builds a node with the shared parts in it, at any depth; each is built when it is first asked for.

    `payer` names the run in the book of answers, for a limit counts what one run has paid. `further` are nodes that
    are shared too, wherever they stand.
    """

    def __init__(
        self, cfg: dict[str, Any], *, payer: Callable[[], str] = nobody, further: Iterable[dict[str, Any]] = ()
    ) -> None:
        named = {name: cfg[name] for name in _SHARED if name in cfg}
        self._names = list(named)
        self._nodes: list[dict[str, Any]] = [*named.values(), *further]
        self._built: dict[int, Any] = {}
        self._payer = payer

    def make(self, node: dict[str, Any], **given: Any) -> Any:
        """`make(node)` with `given` beside its keys, unless the node itself is shared."""
        if node in self._nodes:
            return self._part(node)
        return self._called(node, given)

    @property
    def sampler(self) -> Any:  # a Sampler, whose import takes torch
        return self._part(self._nodes[self._names.index("sampler")])

    def _part(self, node: dict[str, Any]) -> Any:
        number = self._nodes.index(node)
        if number not in self._built:
            given = {"payer": self._payer} if self._names[number : number + 1] == ["answers"] else {}
            self._built[number] = self._called(node, given)
        return self._built[number]

    def _called(self, node: dict[str, Any], given: dict[str, Any]) -> Any:
        """Only nodes with a shared part below them are put together here: Hydra would copy the part."""
        holding = {key: self._filled(value) for key, value in node.items() if self._holds_shared(value)}
        if not holding and not given:
            return make(node)
        own = {key: value for key, value in node.items() if key not in holding}
        return make({**own, "_partial_": True})(**holding, **given)

    def _filled(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._filled(child) for child in value]
        if not isinstance(value, dict):
            return value
        if "_target_" in value:
            return self.make(value)
        return {key: self._filled(child) for key, child in value.items()}

    def _holds_shared(self, value: Any) -> bool:
        if isinstance(value, list):
            return any(map(self._holds_shared, value))
        return isinstance(value, dict) and (value in self._nodes or any(map(self._holds_shared, value.values())))

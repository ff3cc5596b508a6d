"""`sparring evaluate` inside the test's process."""

from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO

from hydra.core.global_hydra import GlobalHydra

from sparring.cli.evaluate import main


@dataclass(frozen=True)
class Outcome:
    status: int
    output: str
    errors: str

    @property
    def sentence(self) -> str:
        """What a refused command said, which must be one line, and its whole complaint."""
        assert self.status == 2, self.errors
        [line] = self.errors.splitlines()
        return line.removeprefix("sparring: ")


def evaluate(*arguments: object) -> Outcome:
    output, errors, status = StringIO(), StringIO(), 0
    with redirect_stdout(output), redirect_stderr(errors):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            GlobalHydra.instance().clear()
    return Outcome(status, output.getvalue(), errors.getvalue())

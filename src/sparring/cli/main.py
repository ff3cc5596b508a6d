"""The command line. Nothing heavy is imported before a command is known, so that help is instant."""

import os
import sys

from sparring import __version__

USAGE = """usage: sparring COMMAND ...

  sparring train experiment=NAME [KEY=VALUE ...]   run self-play; the same command continues an interrupted run
  sparring show RUN [--prompt N]                   the rounds of a run, and one prompt followed through a round
  sparring pair RUN [pairing=A,B KEY=VALUE ...]    other pairs of a run's stored judgements, their funnels side by side
  sparring export RUN to=FILE.jsonl [rounds=0,1]   pairs of a run as a preference data set of TRL
  sparring report DIR ... [KEY=VALUE ...]          runs joined into one table of arms, with intervals
  sparring calibrate annotator=NAME data=PATH      how well an annotator agrees with recorded judgements
  sparring evaluate suite=NAME policies=A,B ...    policies that were trained elsewhere, measured together
  sparring play RUN role=ROLE                      a game of Taboo against a policy, in the terminal
  sparring --version

`sparring train --help` lists the configuration groups and keys; `sparring train experiment=quickstart` is a first run.
"""


def main() -> None:
    try:
        _main()
        sys.stdout.flush()
    except BrokenPipeError:  # who reads has seen enough, like `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains at its end
        sys.exit(141)


def _main() -> None:
    command, arguments = (sys.argv[1] if len(sys.argv) > 1 else "--help"), sys.argv[2:]
    if command in ("-h", "--help", "help"):
        print(USAGE, end="")
    elif command == "--version":
        print(f"sparring {__version__}")
    elif command == "train":
        import sparring.cli.train as train

        # Lightning starts further ranks by running argv[0] again, so it must be a script that trains.
        sys.argv = [os.path.abspath(train.__file__), *arguments]
        train.main()
    elif command == "show":
        from sparring.cli.show import main as show

        show(arguments)
    elif command == "pair":
        from sparring.cli.pair import main as pair

        pair(arguments)
    elif command == "export":
        from sparring.cli.export import main as export

        export(arguments)
    elif command == "report":
        from sparring.cli.report import main as report

        report(arguments)
    elif command == "calibrate":
        from sparring.cli.calibrate import main as calibrate

        calibrate(arguments)
    elif command == "evaluate":
        from sparring.cli.evaluate import main as evaluate

        evaluate(arguments)
    elif command == "play":
        from sparring.cli.play import main as play

        play(arguments)
    else:
        print(f"sparring: there is no command {command!r}; see sparring --help.", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

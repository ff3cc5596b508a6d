"""What a fork server of test runs imports once: the package under run-time type checks, as pytest has it."""

from jaxtyping import install_import_hook

#install_import_hook("sparring", "beartype.beartype")

import lightning  # noqa: E402, F401
import pandas  # noqa: E402, F401  (pyarrow does, at its first row)
import torch  # noqa: E402
import transformers  # noqa: E402, F401

import sparring.annotators.critics  # noqa: E402
import sparring.annotators.panel  # noqa: E402
import sparring.callbacks.export  # noqa: E402
import sparring.callbacks.round_optimizer  # noqa: E402
import sparring.callbacks.wandb_tables  # noqa: E402
import sparring.callbacks.win_rate  # noqa: E402
import sparring.cli.build  # noqa: E402
import sparring.cli.run_directory  # noqa: E402
import sparring.cli.tables  # noqa: E402
import sparring.cli.train  # noqa: E402
import sparring.data.stories  # noqa: E402
import sparring.objectives.dno  # noqa: E402
import sparring.pairing.dno_margin  # noqa: E402
import sparring.pairing.filters  # noqa: E402
import sparring.policy.loading  # noqa: E402, F401

torch.set_num_threads(1)

"""What a user gets wrong is refused in one sentence, before any work is done for it."""

import pytest


def test_smoke(small):
    outcome = small()
    assert outcome.status == 0, outcome.errors
    assert outcome.errors == ""
    print(outcome.made)

@pytest.mark.parametrize("a", ["rounds=abc","objective.foo=1","objective=foo","sampler.max_new_tokens=abc","rollout.reference=foo","prompts.split=foo","callbacks.round_optimizer.shape=foo","objective.optimizer.lr=-1", "+objective.foo=1","trainer=gpu", "sampler.num_generations=1","objctive=dno","+sweeps=foo","foo/bar=1","objective.optimizer.lr=[1","run_name","~sampler.top_p","trainer.precision=17","+trainer.max_epochs=3", "sampler.max_new_tokens=200","pairing.filters.min_margin.threshold=0.999", "objective.optimizer.lr=1e30","model.path=/nope","trainer.accelerator=foo","+objective.optimizer.betas=[2,3]","objective.optimizer.betas=[2,3]","rounds='${foo}'","annotator.critics.no_repetition.run=-1","callbacks.foo=1","callbacks=null","objective=null","logger.csv=x","objective.optimizer=null","objective._target_=foo.Bar","hydra.foo=1","threads=0","model/lora=default","model/lora=foo","-m trainer=ddp","batch_size=1.5","seed=-1","overwrite=1","resume=x"])
def test_s(small,a,capsys):
    outcome = small(*a.split())
    with capsys.disabled(): print("\n",a,"->", outcome.status, outcome.errors, len(outcome.made), outcome.output[-100:] if outcome.status==0 else "")

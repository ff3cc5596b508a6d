import json
from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sparring.core.collate import make_groups
from sparring.core.errors import ConfigError, RoundError
from sparring.policy.loading import load_policy
from sparring.policy.policy import Policy

IDS = torch.tensor([[1, 20, 30, 40, 50]])


@pytest.fixture
def lora_policy(chat_model: Path) -> Policy:
    torch.manual_seed(0)
    policy = load_policy(str(chat_model), lora=peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, weight in policy.trainable_state().items():
            if "lora_B" in name:
                weight.normal_(std=0.3)  # peft starts them at zero
    return policy


@torch.no_grad()
def test_a_saved_policy_is_the_same_policy_when_loaded(chat_policy: Policy, tmp_path: Path) -> None:
    for weight in chat_policy.trainable_state().values():
        weight.add_(0.01)
    chat_policy.save(tmp_path)
    loaded = load_policy(str(tmp_path))
    assert loaded.fingerprint() == chat_policy.fingerprint()
    assert loaded.eos_ids == chat_policy.eos_ids
    assert loaded.renderer.end_id == chat_policy.renderer.end_id


@torch.no_grad()
def test_a_fingerprint_sees_the_last_bit_of_one_weight(chat_policy: Policy) -> None:
    before = chat_policy.fingerprint()
    weight = chat_policy.trainable_state()["model.norm.weight"]
    weight[0] = torch.nextafter(weight[0], torch.tensor(2.0))
    assert chat_policy.fingerprint() != before


def test_a_fingerprint_does_not_depend_on_the_mode(chat_policy: Policy) -> None:
    assert chat_policy.eval().fingerprint() == chat_policy.train().fingerprint()


def test_tied_weights_are_stored_once(chat_policy: Policy) -> None:
    assert "lm_head.weight" not in chat_policy.trainable_state()
    assert "model.embed_tokens.weight" in chat_policy.trainable_state()


@torch.no_grad()
def test_weights_come_back_after_working_with_others(chat_policy: Policy, tmp_path: Path) -> None:
    initial = chat_policy.fingerprint()
    chat_policy.save_trainable_state(tmp_path / "initial.safetensors")
    for weight in chat_policy.trainable_state().values():
        weight.mul_(1.1)
    trained = chat_policy.fingerprint()

    def fail() -> None:
        with chat_policy.using_state(tmp_path / "initial.safetensors"):
            assert chat_policy.fingerprint() == initial
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert chat_policy.fingerprint() == trained


@pytest.mark.parametrize("content", [None, b"", b"\xff" * 99])
def test_a_file_that_holds_no_weights_is_refused(chat_policy: Policy, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "policy-001.safetensors"
    if content is not None:
        path.write_bytes(content)
    refused = pytest.raises(RoundError, match=r"policy-001.safetensors cannot be read as weights \(")
    with refused, chat_policy.using_state(path):
        pytest.fail("it has no weights")


def test_weights_of_another_model_are_refused(chat_policy: Policy) -> None:
    state = chat_policy.trainable_state()
    state.pop("model.norm.weight")
    with pytest.raises(ConfigError, match="not those of this model"):
        chat_policy.load_trainable_state(state)


def test_evaluating_ends_even_if_the_work_fails(chat_policy: Policy) -> None:
    chat_policy.train()
    chat_policy.base.model.layers[0].eval()
    modes = [module.training for module in chat_policy.modules()]

    def fail() -> None:
        with chat_policy.evaluating():
            assert not any(module.training for module in chat_policy.modules())
            assert not torch.is_grad_enabled()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [module.training for module in chat_policy.modules()] == modes
    assert torch.is_grad_enabled()


def test_scores_made_while_evaluating_can_be_trained_against(chat_policy: Policy) -> None:
    groups = make_groups([[1, 5]], [[[6, 7]]], pad_id=0, device=chat_policy.device)
    with chat_policy.evaluating():
        reference = chat_policy.logp(groups)
    (chat_policy.logp(groups) * reference).sum().backward()  # inference-mode tensors would raise here


def test_only_the_adapter_of_a_lora_is_state(lora_policy: Policy, chat_policy: Policy) -> None:
    state = lora_policy.trainable_state()
    assert state
    assert all("lora_" in name for name in state)
    size, whole = (sum(w.numel() for w in p.trainable_state().values()) for p in (lora_policy, chat_policy))
    assert size < whole / 4


def test_a_lora_leaves_the_model_beneath_untouched_in_training(lora_policy: Policy) -> None:
    groups = make_groups([[1, 5]], [[[6, 7]]], pad_id=0, device=lora_policy.device)
    lora_policy.logp(groups).sum().backward()
    assert {name for name, p in lora_policy.model.named_parameters() if p.grad is not None} == set(
        lora_policy.trainable_state()
    )


@torch.no_grad()
def test_a_merged_export_computes_what_the_adapter_does(lora_policy: Policy, tmp_path: Path) -> None:
    before = {name: weight.clone() for name, weight in lora_policy.model.state_dict().items()}
    expected = lora_policy.model(IDS).logits
    lora_policy.save(tmp_path, merge_lora=True)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.allclose(merged(IDS).logits, expected, atol=1e-4)
    after = lora_policy.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # peft's own call, outside load_policy
@torch.no_grad()
def test_an_adapter_export_works_on_the_model_it_was_trained_on(
    lora_policy: Policy, chat_model: Path, tmp_path: Path
) -> None:
    lora_policy.save(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    again = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(chat_model), tmp_path)
    assert torch.allclose(again(IDS).logits, lora_policy.model(IDS).logits, atol=1e-5)
    policy = load_policy(str(tmp_path))
    assert torch.allclose(policy.model(IDS).logits, lora_policy.model(IDS).logits, atol=1e-5)
    assert policy.lora
    assert policy.fingerprint() == lora_policy.fingerprint()
    with pytest.raises(ConfigError, match=r"is a LoRA itself; leave out model.lora"):
        load_policy(str(tmp_path), lora=peft.LoraConfig(r=2, target_modules="all-linear"))


def saved_lora(chat_model: Path, directory: Path, **settings: float) -> Path:
    """As peft leaves one, its second factors not at 0."""
    base = AutoModelForCausalLM.from_pretrained(chat_model)
    lora = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules="all-linear", **settings))  # type: ignore
    with torch.no_grad():
        for name, weight in lora.named_parameters():
            weight += 0.1 * torch.ones_like(weight) if "lora_B" in name else 0
    lora.save_pretrained(str(directory), save_embedding_layers=False)
    AutoTokenizer.from_pretrained(chat_model).save_pretrained(directory)
    return directory


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
@torch.no_grad()
def test_a_lora_that_was_trained_with_dropout_has_none_here(chat_model: Path, tmp_path: Path) -> None:
    policy = load_policy(str(saved_lora(chat_model, tmp_path / "with", lora_dropout=0.5)))
    without = load_policy(str(saved_lora(chat_model, tmp_path / "without")))
    assert policy.model.training
    assert torch.equal(policy.model(IDS).logits, policy.model(IDS).logits)
    assert policy.trainable_state().keys() == without.trainable_state().keys()
    assert not torch.equal(policy.model(IDS).logits, load_policy(str(chat_model)).model(IDS).logits)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
def test_a_lora_that_cannot_be_put_on_its_model_is_refused(chat_model: Path, plain_model: Path, tmp_path: Path) -> None:
    lora = saved_lora(chat_model, tmp_path / "lora")
    config = json.loads((lora / "adapter_config.json").read_text())

    def said(**changes: object) -> str:
        (lora / "adapter_config.json").write_text(json.dumps(config | changes))
        with pytest.raises(ConfigError) as refused:
            load_policy(str(lora))
        return str(refused.value)

    assert "does not say which model it is for; add base_model_name_or_path." in said(base_model_name_or_path=None)
    assert "there is no directory /gone" in said(base_model_name_or_path="/gone")
    assert f"cannot read the LoRA '{lora}'" in said(r=3)
    (lora / "adapter_model.safetensors").write_bytes(b"nothing")
    assert f"cannot read the LoRA '{lora}'" in said()
    (lora / "adapter_model.safetensors").unlink()
    assert f"cannot read the LoRA '{lora}'" in said()


@torch.no_grad()
def test_a_new_lora_is_the_model_itself(chat_model: Path, chat_policy: Policy) -> None:
    policy = load_policy(str(chat_model), lora=peft.LoraConfig(r=2, target_modules="all-linear"))
    assert torch.equal(policy.model(IDS).logits, chat_policy.model(IDS).logits)
    assert policy.shares_prompt

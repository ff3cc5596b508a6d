import torch
from hypothesis import given
from hypothesis import strategies as st

from sparring.core.seeding import derive_seed, numpy_rng
from sparring.core.torch_seeding import torch_seed

CPU = torch.device("cpu")


def test_a_seed_is_the_same_on_every_machine() -> None:
    # First 8 bytes of BLAKE2b-64 of "1/sample/0/2", halved; written down once, so that stored rounds stay repeatable.
    assert derive_seed(1, "sample", 0, 2) == 6513606086399419116


@given(st.lists(st.integers(0, 10**6) | st.text("abc", min_size=1, max_size=3), min_size=1, max_size=4))
def test_a_seed_fits_in_63_bits_and_depends_on_its_last_part(parts: list[int | str]) -> None:
    assert 0 <= derive_seed(*parts) < 2**63
    assert derive_seed(*parts, 0) != derive_seed(*parts, 1)


def test_numpy_generators_of_different_paths_differ() -> None:
    assert numpy_rng(0, "a").random() == numpy_rng(0, "a").random()
    assert numpy_rng(0, "a").random() != numpy_rng(0, "b").random()


def test_the_global_generator_goes_on_as_if_nothing_had_happened() -> None:
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    first = torch.rand(1)
    with torch_seed(7, CPU):
        inside = torch.rand(1)
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)
    with torch_seed(7, CPU):
        assert torch.equal(torch.rand(1), inside)

"""A pretrained model, in the formats that the compiler chooses for it: nothing leaves its range."""

import pytest

from benchmarks import real_models
from benchmarks.campaign_models import pretrained
from benchmarks.campaigns import attack


@pytest.mark.parametrize("policy", ["proved", "guarded"])
def test_a_pretrained_model_keeps_what_is_proved(policy):
    """Real inputs, hostile ones, and those that climb from them."""
    made, first = pretrained(real_models.names(3), policy)
    found = attack(made, 20 * sum(x.size for x in first[0].values()), first=first)
    assert found.good, found.where
    assert 0.25 < found.used <= 1

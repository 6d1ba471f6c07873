"""The search for fraction bits, where errors do not fall in proportion to a unit."""

import pytest

from mpcc.errors import MpccError
from mpcc.ir.phi import FormatOptions
from mpcc.passes.analyse import analyse
from mpcc.passes.analysis.search import Attempt, Search
from tests.passes.secure_nets import random_net

ENOUGH = 21


def chosen(monkeypatch, error_at):
    """The formats that are found where the budget's share that errors take is a given function."""

    def error(self, phi, count, whole=False):
        found = error_at(phi.frac)
        self.attempts.append(Attempt(phi, found * self.options.max_error))
        return found

    monkeypatch.setattr(Search, "_error", error)
    net = random_net(5)
    return analyse(net.module, net.constants, (), FormatOptions(ring=64), explain=False).phi


def test_what_no_prediction_reaches_is_measured(monkeypatch):
    # Four bits where a unit falls by one, as behind a logarithm of few units.
    assert chosen(monkeypatch, lambda frac: 16.0 ** (ENOUGH - frac)).frac == ENOUGH


def test_what_no_format_reaches_is_refused(monkeypatch):
    with pytest.raises(MpccError, match="E-range-error"):
        chosen(monkeypatch, lambda frac: 2.0)

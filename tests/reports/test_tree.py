"""The tree of the cost, its orders, and the table in the terminal."""

import re

import pytest
from rich.console import Console

from mpcc.cost import predict, profile
from mpcc.cost.timeline import STARTING
from mpcc.reports import SORTS, cost_tree, tree
from tests.reports.programs import HOSTILE, chain, hostile, report
from tests.test_cost import module

NODES = {"a": "/net/block1/a", "b": "/net/block1/b", "c": "/net/block2/c"}


def test_layers_add_up_to_the_whole():
    made = report(chain("abc"))
    root = tree(made)
    layers = [row for _, row in root.walk() if row.kind == "layer"]
    assert [row.name for row in layers] == ["x_0", "a", "b", "c"]
    assert sum(row.sent for row in layers) == root.sent == 7 * 64
    assert sum(row.messages for row in layers) == root.messages == 7
    for name, times in made.times.items():
        parts = sum(row.seconds[name] for row in layers)
        assert parts + times.path[STARTING] == pytest.approx(times.seconds)
    for layer in layers:
        assert sum(step.sent for step in layer.below) == layer.sent
        for name in made.times:
            steps = sum(step.seconds[name] for step in layer.below)
            assert steps == pytest.approx(layer.seconds[name])


def test_names_of_the_source_model_make_groups():
    root = tree(report(chain("abc")), NODES)
    assert [(level, row.kind, row.name) for level, row in root.walk() if row.kind != "step"] == [
        (0, "program", "whole program"),
        (1, "layer", "x_0"),
        (1, "group", "net"),
        (2, "group", "block1"),
        (3, "layer", "a (/net/block1/a)"),
        (3, "layer", "b (/net/block1/b)"),
        (2, "layer", "c (/net/block2/c)"),
    ]
    net = root.below[1]
    assert net.sent == 6 * 64
    assert net.rounds == 6
    assert net.seconds["lan"] == pytest.approx(sum(row.seconds["lan"] for row in net.below))


def test_deep_names_make_no_deep_recursion():
    deep = "/".join(["d"] * 5000)
    root = tree(report(chain("abc")), {"a": deep + "/a", "b": deep + "/b", "c": "e/c"})
    assert max(level for level, _ in root.walk()) < 20


def test_every_order():
    made = predict(module(), profile("wan"))
    orders = {by: [row.name for row in tree(made).sorted(by, "wan").below] for by in SORTS}
    assert orders["program"] == ["w_0", "x_0", "fc_0", "out_0"]
    assert orders["bytes"] == ["out_0", "fc_0", "x_0", "w_0"]
    assert orders["rounds"][0] == "fc_0"
    assert orders["name"] == ["fc_0", "out_0", "w_0", "x_0"]
    # Two messages one after the other there, one to the client; what came before is not waited for.
    assert orders["time"][:2] == ["fc_0", "out_0"]


def shown(report, sort="program", depth=None, nodes=None, width=160):
    console = Console(width=width)
    with console.capture() as capture:
        console.print(cost_tree(report, sort, depth, nodes, width))
    return capture.get()


def test_narrow_terminals_show_names_whole():
    wide, narrow = (shown(predict(module(), profile("wan")), width=w) for w in (160, 60))
    assert "products" in wide
    assert "products" not in narrow
    assert all(name in narrow for name in ("w_0", "x_0", "fc_0", "out_0", "rounds", "time"))
    assert max(map(len, narrow.splitlines())) <= 60


def test_terminal_table():
    text = shown(predict(module(), profile("wan")))
    assert re.search(r"fc_0 .* 2 .* 35 B .* 26.7 % .* 2 ", text)
    assert "whole program" in text
    assert "rounds: 4 per run" in text
    assert "reshare" not in text


def test_depth_of_the_table():
    made = report(chain("abc"))
    assert "truncate" in shown(made, "time", 2)
    grouped = shown(made, "program", 1, NODES)
    assert "net" in grouped
    assert "block1" not in grouped


def test_names_are_text_in_the_terminal():
    text = shown(report(hostile()))
    assert "\x1b[31m" not in text
    assert "\u202e" not in text
    assert "</script>" in text
    assert HOSTILE[3] in text

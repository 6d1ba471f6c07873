"""Sessions of real processes at random points of which something goes wrong: docs/faults.md.

Each test plays all its sessions, writes what came of them to ``build/faults/NAME.md``, and then
fails if any promise was broken: a right answer or an error that names party and step, in time, with
nothing left behind.
"""

import collections
import functools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from mpcc import _native
from mpcc.artifact import Artifact
from tests.e2e.support import make_source, mpcc
from tests.faults.points import KINDS, OUTPUT, STRATA, inside, on_the_wire, stratum
from tests.faults.relay import HANDSHAKE, ONLINE, SETUP
from tests.faults.scenario import Model, play

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SEED = 20_240_601
ROOT = Path(__file__).parents[2]
REPORTS = ROOT / "build" / "faults"
BUILD = Path(os.environ.get("MPCC_NATIVE_BUILD") or ROOT / "build" / "native")
# Sessions at a time, of four processes each, which wait for a deadline most of the time.
AT_A_TIME = 2
SPOILT = ("cut", "corrupt", "truncate", "duplicate", "swap")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Compiles a model by its name; its answer is onnxruntime's."""

    @functools.cache
    def make(name):
        folder = tmp_path_factory.mktemp(name)
        source = make_source(name, folder)
        artifact = folder / f"{name}.mpcc"
        said = mpcc("compile", source.model, "-o", artifact, *source.options)
        assert said.returncode == 0, said.stderr
        session = onnxruntime.InferenceSession(source.model, providers=["CPUExecutionProvider"])
        names = [o.name for o in session.get_outputs()]
        answer = dict(zip(names, session.run(names, source.inputs), strict=True))
        return Model(name, artifact, source.data, answer)

    return make


@pytest.fixture(scope="module")
def undisturbed(model, tmp_path_factory):
    """Bytes by phase and direction: the least of two sessions through the relay, without faults."""

    @functools.cache
    def measure(name):
        found = []
        for number in range(2):
            outcome = play(model(name), tmp_path_factory.mktemp("undisturbed") / str(number))
            assert (outcome.verdict, outcome.problems) == ("answer", []), outcome.said
            found.append(outcome.seen)
        first, second = found
        return {p: {k: min(n, second[p][k]) for k, n in of.items()} for p, of in first.items()}

    return measure


@pytest.fixture(scope="module")
def faulty_party():
    """The executable that spoils its own frames; built by ``make native-tests``."""
    program = BUILD / "party" / "mpcc-party-faulty"
    assert program.is_file(), "run `make native-tests`"
    return program


def play_all(name, cases, folder, session):
    """(case, outcome) of each case; a report of them."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        jobs = [pool.submit(session, folder / str(i), case) for i, case in enumerate(cases)]
        played = [(case, job.result()) for case, job in zip(cases, jobs, strict=True)]
    lines = ["| fault | point | outcome | seconds | codes |", "|---|---|---|---:|---|"]
    for case, outcome in played:
        who = f" {case.victim}" if getattr(case, "victim", "") else ""
        amount = f" {case.amount:g}" if case.amount else ""
        at = case.offset if hasattr(case, "victim") else f"message {case.message}+{case.offset}"
        layer = stratum(case) if hasattr(case, "victim") else case.phase
        point = f"{layer} {case.link[0]}→{case.link[1]} {at}"
        verdict = "**" + "; ".join(outcome.problems) + "**" if outcome.problems else outcome.verdict
        row = [case.kind + who + amount, point, verdict, f"{outcome.seconds:.1f}", outcome.codes]
        lines.append(f"| {' | '.join(row)} |")
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / f"{name}.md").write_text("\n".join(lines) + "\n")
    return played


def summary(name, played):
    """Kinds and what came of them, in one line."""
    counts = collections.Counter((case.kind, outcome.verdict) for case, outcome in played)
    kinds = dict.fromkeys(case.kind for case, _ in played)
    parts = []
    for kind in kinds:
        of = [f"{n} {verdict}" for (k, verdict), n in sorted(counts.items()) if k == kind]
        parts.append(f"{kind} {' '.join(of)}")
    return f"faults {name}: {len(played)} sessions; {'; '.join(parts)}"


def broken(played):
    """Every broken promise with what the endpoints said."""
    return "\n\n".join(
        f"{case}\n  {outcome.problems}\n"
        + "\n".join(f"  {who}: {text}" for who, text in outcome.said.items())
        for case, outcome in played
        if outcome.problems
    )


# With those inside TLS, more than 100 points; A's sessions are the quick ones.
@pytest.mark.parametrize(("name", "strata", "rounds"), [("A", STRATA, 2), ("blazeface", STRATA, 1)])
def test_on_the_wire(model, undisturbed, tmp_path, record_property, name, strata, rounds):
    cases = on_the_wire(SEED, undisturbed(name), strata, rounds)
    program = model(name)
    played = play_all(name, cases, tmp_path, lambda folder, case: play(program, folder, case))
    record_property("score", summary(name, played))
    assert not broken(played), broken(played)

    acted = collections.Counter((c.kind, stratum(c)) for c, outcome in played if outcome.acted)
    assert acted == {(kind, layer): rounds for kind in KINDS for layer in strata}
    for case, outcome in played:
        # A record that was changed is no record: its code does not match, whoever changed it.
        if case.kind in SPOILT and case.phase in (SETUP, ONLINE):
            assert outcome.verdict == "error", (case, outcome)
    # A pause or delay below the deadline does no harm once the endpoints are connected.
    mild = [o.verdict for c, o in played if c.kind == "resume" and c.phase != HANDSHAKE]
    assert "answer" in mild


@pytest.mark.parametrize(("name", "layers"), [("A", (ONLINE, OUTPUT)), ("blazeface", (ONLINE,))])
def test_inside_tls(model, faulty_party, tmp_path, record_property, name, layers):
    messages = _native.describe_program(Artifact.load(model(name).artifact).program)["messages"]
    cases = inside(SEED, messages, layers)
    program = model(name)
    played = play_all(
        f"{name}-inside",
        cases,
        tmp_path,
        lambda folder, case: play(program, folder, inside=case, program=faulty_party),
    )
    record_property("score", summary(f"{name} inside TLS", played))
    assert not broken(played), broken(played)
    for case, outcome in played:
        # On a busy machine a delay may add up to the deadline.
        assert outcome.verdict == "error" or case.kind == "delay", (case, outcome)


def test_a_wrong_answer_would_be_noticed(model, tmp_path):
    right = model("A")
    shifted = {n: np.asarray(a) + np.float32(0.05) for n, a in right.answer.items()}
    wrong = Model(right.name, right.artifact, right.data, shifted)
    assert any("WRONG" in p for p in play(wrong, tmp_path / "session").problems)

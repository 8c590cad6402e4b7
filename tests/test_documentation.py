"""The examples in the package's docstrings run."""

from __future__ import annotations

import doctest
import importlib
import inspect
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


# The modules of types, in which every name of `__all__` has an example.
TYPES = [
    "annotations",
    "btf",
    "btf_schema",
    "c_header",
    "codec",
    "comparison",
    "numpy_dtype",
    "python_class",
    "schema",
]


def public_names() -> list[tuple[str, str]]:
    found = []
    for name in TYPES:
        module = importlib.import_module(f"arenads.{name}")
        found += [(name, each) for each in module.__all__ if callable(getattr(module, each))]
    return found


@pytest.mark.parametrize(("module", "name"), public_names())
def test_everything_public_about_types_has_an_example(module: str, name: str) -> None:
    public = getattr(importlib.import_module(f"arenads.{module}"), name)
    if getattr(public, "__metadata__", None) is not None:
        return  # an annotation such as u32; the module's docstring has the table of them
    assert ">>> " in (inspect.getdoc(public) or ""), name


@pytest.mark.parametrize(("module", "name"), public_names())
def test_every_method_of_what_is_public_about_types_says_what_it_does(
    module: str, name: str
) -> None:
    public = getattr(importlib.import_module(f"arenads.{module}"), name)
    if not inspect.isclass(public):
        return
    for attribute, value in vars(public).items():
        function = getattr(value, "fget", None) or getattr(value, "__func__", value)
        if not attribute.startswith("_") and inspect.isfunction(function):
            assert (function.__doc__ or "").strip(), f"{name}.{attribute}"


@pytest.mark.parametrize("name", [name for name in arenads.__all__ if name[0].isupper()])
def test_every_public_class_says_what_it_is(name: str) -> None:
    assert (getattr(arenads, name).__doc__ or "").strip()

"""The package's docstrings say what a user needs, and their examples run."""

from __future__ import annotations

import ast
import builtins
import doctest
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple

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


# --- the public names of the package ----------------------------------------------------


class Member(NamedTuple):
    """A public method or property, and the class that a user sees it in."""

    cls: type
    name: str
    function: Callable[..., object]

    def __str__(self) -> str:
        return f"{self.cls.__name__}.{self.name}"


def is_annotation(public: object) -> bool:
    """Whether it is an annotation such as u32: a module's docstring has the table of them."""
    return getattr(public, "__metadata__", None) is not None


def is_ours(cls: type) -> bool:
    return cls.__module__.split(".")[0] == "arenads"


PUBLIC = {
    name: getattr(arenads, name)
    for name in arenads.__all__
    if not is_annotation(getattr(arenads, name))
}
CLASSES = {name: public for name, public in PUBLIC.items() if inspect.isclass(public)}
# Errors are raised, not made: the examples of what raises them show them.
ERRORS = {name for name, cls in CLASSES.items() if issubclass(cls, BaseException)}


def members() -> list[Member]:
    """Methods and properties of public classes, their own or of bases in this package."""
    found = []
    for cls in (CLASSES[name] for name in CLASSES if name not in ERRORS):
        for base in filter(is_ours, cls.__mro__):
            for name, value in vars(base).items():
                function: Any = next(
                    (
                        each
                        for each in (
                            getattr(value, "fget", None),
                            getattr(value, "func", None),
                            getattr(value, "__func__", None),
                            value,
                        )
                        if inspect.isfunction(each)
                    ),
                    None,
                )
                seen = inspect.getattr_static(cls, name)
                if function is not None and not name.startswith("_") and seen is value:
                    found.append(Member(cls, name, function))
    return found


def examples(documented: object) -> str:
    """The code of the examples in a docstring."""
    parsed = doctest.DocTestParser().get_examples(getattr(documented, "__doc__", None) or "")
    return "".join(example.source for example in parsed)


def test_the_package_lists_its_public_names() -> None:
    listed = re.findall(r"\w+", arenads.__doc__ or "")
    assert [name for name in arenads.__all__ if name not in listed] == []


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_says_what_it_is(name: str) -> None:
    first = (PUBLIC[name].__doc__ or "").strip().split("\n")[0]
    assert len(first.split()) >= 3, name
    # What msgspec and dataclasses write where nobody does.
    assert not first.startswith(f"{name}("), name


@pytest.mark.parametrize("name", [name for name in PUBLIC if name not in ERRORS])
def test_every_public_name_has_an_example(name: str) -> None:
    assert examples(PUBLIC[name]), name


@pytest.mark.parametrize("member", members(), ids=str)
def test_every_public_method_says_what_it_does(member: Member) -> None:
    assert len((member.function.__doc__ or "").split()) >= 3


@pytest.mark.parametrize("member", members(), ids=str)
def test_every_public_method_is_used_in_an_example(member: Member) -> None:
    """In its own docstring, or in that of a public class that has it."""
    classes = [each for each in member.cls.__mro__ if CLASSES.get(each.__name__) is each]
    places: list[object] = [member.function, *classes]
    assert any(re.search(rf"\.{member.name}\b", examples(each)) for each in places)


def raised(function: Callable[..., object]) -> set[str]:
    """The errors of this package that a function raises with its own words."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            words = ast.unparse(node.exc.func)
            absent = (
                "StructureAbsentError"
                if function.__qualname__[:6] == "Arena."
                else "KeyAbsentError"
            )
            found.add(absent if words == "self._absent" else words)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "self._writable":
            found.add("ReadOnlyError")
    return found & ERRORS


FUNCTIONS = [public for public in PUBLIC.values() if inspect.isfunction(public)]
RAISING = {
    f"{each.__module__}.{each.__qualname__}": each
    for each in [*FUNCTIONS, *(member.function for member in members())]
    if raised(each)
}


@pytest.mark.parametrize("name", RAISING)
def test_what_a_function_raises_itself_is_in_its_docstring(name: str) -> None:
    text = inspect.getdoc(RAISING[name]) or ""
    _, _, section = text.partition("Raises\n------\n")
    assert {error for error in raised(RAISING[name]) if error not in section} == set()


def test_errors_that_docstrings_name_exist() -> None:
    functions = [*FUNCTIONS, *(member.function for member in members())]
    for function in functions:
        for error in re.findall(r"\b\w+Error\b", inspect.getdoc(function) or ""):
            assert error in ERRORS or hasattr(builtins, error), (function, error)


def attributes(cls: type) -> dict[str, bool]:
    """The public attributes that a class sets, and whether it describes each.

    In the section Attributes of its docstring, or by a string below where it is set.
    """
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    bodies = {"": tree.body}
    for each in tree.body:
        if isinstance(each, ast.FunctionDef) and each.name == "__init__":
            bodies["self."] = each.body
    section = (inspect.cleandoc(cls.__doc__ or "")).partition("Attributes\n----------\n")[2]
    described = {
        name
        for names in re.findall(r"^(\w[\w, ]*?)(?: : .*)?$", section, re.M)
        for name in names.split(", ")
    }
    found: dict[str, bool] = {}
    for prefix, body in bodies.items():
        for statement, after in zip(body, [*body[1:], ast.Pass()], strict=True):
            targets = statement.targets if isinstance(statement, ast.Assign) else []
            if isinstance(statement, ast.AnnAssign):
                targets = [statement.target]
            for target in targets:
                spelled = ast.unparse(target)
                name = spelled.removeprefix(prefix)
                if spelled == prefix + name and name.isidentifier() and name[0] != "_":
                    below = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                    found[name] = found.get(name, False) or below or name in described
    return found


@pytest.mark.parametrize("name", CLASSES)
def test_every_attribute_of_a_public_class_is_described(name: str) -> None:
    bases = [each for each in CLASSES[name].__mro__ if is_ours(each)]
    known: dict[str, bool] = {}
    for base in bases:
        for attribute, described in attributes(base).items():
            known[attribute] = known.get(attribute, False) or described
    assert [attribute for attribute, described in known.items() if not described] == []

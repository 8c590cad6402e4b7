"""The package's build, as a hook of hatchling; not part of an installed package.

It compiles the C extension `arenads._core` and every program in bpf_progs/. A wheel
gets them with the C headers and the programs' sources; an editable install leaves them in
the checkout's arenads/ folder, where git ignores them.
"""

from __future__ import annotations

import importlib
import sys
import sysconfig
import tempfile
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ArenadsBuildHook(BuildHookInterface[BuilderConfig]):
    """Builds what is written in C."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Ask for ziglang where the machine's own compilers cannot do the job."""
        with _source_package(self.root):
            from arenads import compiler, errors

            try:
                compiler.find_host_compiler()
                compiler.find_bpf_compiler()
            except errors.CompilerMissingError:
                return [f"ziglang=={compiler.ZIG_VERSION}"]
        return []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build before the wheel is put together; `version` is "standard" or "editable"."""
        from packaging.tags import platform_tags

        root = Path(self.root)
        editable = version == "editable"
        if editable:
            place = root / "arenads"
        else:
            self._holder = tempfile.TemporaryDirectory(prefix="arenads-build-")
            place = Path(self._holder.name)
        with _source_package(self.root):
            from arenads import errors

            try:
                headers = self._python_headers()
                programs = self._build_programs(place / "programs")
                extension = self._build_extension(place, headers)
            except errors.ArenadsError as error:
                self._stop(str(error))
        # Not the first tag: that one claims to run on other distributions too.
        platform = next(tag for tag in platform_tags() if tag.startswith("linux"))
        build_data["pure_python"] = False
        build_data["tag"] = f"{_python_tag()}-{platform}"
        if editable:
            return
        included = {path: path.relative_to(place) for path in (extension, *programs)}
        for folder, suffixes, home in (
            ("include", {".h"}, "include"),
            ("bpf_progs", {".c", ".h"}, "programs/src"),
        ):
            for path in sorted((root / folder).rglob("*")):
                if path.suffix in suffixes:
                    included[path] = home / path.relative_to(root / folder)
        build_data["force_include"].update(
            {str(path): f"arenads/{name}" for path, name in included.items()}
        )

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was built aside."""
        if hasattr(self, "_holder"):
            self._holder.cleanup()

    def _python_headers(self) -> list[Path]:
        places = [Path(sysconfig.get_path(name)) for name in ("include", "platinclude")]
        if not any((place / "Python.h").is_file() for place in places):
            self._stop(
                f"the C headers of Python {sysconfig.get_python_version()} are needed: expected"
                f" Python.h in {places[0]}, found none. Install them (Debian and Ubuntu:"
                " apt install python3-dev; Fedora: dnf install python3-devel), or use a Python"
                " that has them, such as one from python.org, pyenv or uv."
            )
        return list(dict.fromkeys(places))

    def _build_extension(self, place: Path, headers: list[Path]) -> Path:
        from arenads import compiler

        # cffi confines itself to the limited API wherever there is one.
        limited = _python_tag().endswith("abi3")
        suffix = ".abi3.so" if limited else str(sysconfig.get_config_var("EXT_SUFFIX"))
        with tempfile.TemporaryDirectory(prefix="arenads-build-") as directory:
            source = Path(directory) / "_core.c"
            builder = importlib.import_module("arenads._core_build").builder
            builder().emit_c_code(str(source))
            return compiler.compile_shared(
                source,
                place / f"_core{suffix}",
                include_dirs=headers,
                flags=["-g1", "-fvisibility=hidden"],
            )

    def _build_programs(self, place: Path) -> list[Path]:
        from arenads import compiler

        place.mkdir(exist_ok=True)
        built = []
        for source in sorted((Path(self.root) / "bpf_progs").glob("*.bpf.c")):
            kernel = place / source.name.replace(".bpf.c", ".bpf.o")
            native = place / source.name.replace(".bpf.c", ".native.so")
            if source.name.startswith("bench_"):  # about kernel maps, which only the kernel has
                built.append(compiler.compile(source, kernel))
            else:  # the native build brings the BPF object along
                built += [compiler.compile(source, native, engine="native"), kernel]
        return built

    def _stop(self, message: str) -> NoReturn:
        self.app.abort(f"arenads: {message}")
        raise SystemExit(1)


def _python_tag() -> str:
    """Return the Python and ABI tags of the extension."""
    from packaging.tags import sys_tags

    limited = sys.implementation.name == "cpython" and not (
        sysconfig.get_config_var("Py_GIL_DISABLED") or sysconfig.get_config_var("Py_DEBUG")
    )
    if limited:
        return "cp311-abi3"
    tag = next(sys_tags())
    return f"{tag.interpreter}-{tag.abi}"


@contextmanager
def _source_package(root: str) -> Iterator[None]:
    """Make the modules of the source tree importable without running arenads/__init__.py.

    That one needs the extension, which does not exist yet.
    """
    saved = {name: module for name, module in sys.modules.items() if _ours(name)}
    package = types.ModuleType("arenads")
    package.__path__ = [str(Path(root) / "arenads")]
    for name in saved:
        del sys.modules[name]
    sys.modules["arenads"] = package
    try:
        yield
    finally:
        for name in [name for name in sys.modules if _ours(name)]:
            del sys.modules[name]
        sys.modules.update(saved)


def _ours(name: str) -> bool:
    return name == "arenads" or name.startswith("arenads.")

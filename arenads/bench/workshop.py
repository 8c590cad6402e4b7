"""What the cells of one run share: compiled code, filled maps, orders of keys."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import io
import shutil
import sysconfig
import tempfile
from array import array
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import cffi

from arenads import compiler
from arenads.arena import choose_engine
from arenads.bench import floor, order
from arenads.bench.cell import Cell, Distribution, Need
from arenads.bench.measure import allowed_cpus
from arenads.btf import KERNEL_BTF
from arenads.errors import ArenadsError, CompilerMissingError

__all__ = ["Workshop", "why_not"]

T = TypeVar("T")


class Workshop:
    """Makes what cells need and keeps it: for the run, or until the next cell needs another.

    A context manager; leaving it takes everything away.
    """

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="arenads-bench-"))
        self._built: dict[tuple[object, ...], Path] = {}
        self._libraries: dict[Path, ctypes.CDLL] = {}
        self._extensions: dict[str, Any] = {}
        self._orders: dict[tuple[object, ...], array[int]] = {}
        self._shared_key: object = None
        self._shared: Any = None
        self._holder = ExitStack()

    # --- code ---------------------------------------------------------------------------

    def program(self, name: str, defines: Sequence[str] = ()) -> Path:
        """Return the BPF object of bpf_progs/NAME.bpf.c with these definitions.

        Without any it is the one that was built with the package.
        """
        if not defines and (built := compiler.shipped_program(name)).suffix == ".o":
            return built
        key = ("program", name, *defines)
        if key not in self._built:
            output = self._directory / f"{name}{len(self._built)}.bpf.o"
            source = compiler.shipped_source(name)
            self._built[key] = compiler.compile(source, output, defines=defines)
        return self._built[key]

    def library(self, name: str, defines: Sequence[str] = ()) -> ctypes.CDLL:
        """Return arenads/bench/NAME.c, compiled with these definitions as users compile."""
        key = ("library", name, *defines)
        if key not in self._built:
            output = self._directory / f"{name}{len(self._built)}.so"
            source = Path(__file__).with_name(f"{name}.c")
            self._built[key] = compiler.compile_shared(source, output, defines=defines)
        path = self._built[key]
        if path not in self._libraries:
            self._libraries[path] = ctypes.CDLL(str(path))
        return self._libraries[path]

    def extension(self, name: str, declarations: str) -> Any:
        """Return arenads/bench/NAME.c as a module made by cffi, as our own extension is.

        `declarations` are those of its functions. The module has `lib` and `ffi`.
        """
        if name not in self._extensions:
            source = Path(__file__).with_name(f"{name}.c")
            full = f"arenads_bench_{name}"
            builder = cffi.FFI()
            builder.cdef(declarations)
            builder.set_source(full, source.read_text())
            written = self._directory / f"{full}.c"
            with contextlib.redirect_stdout(io.StringIO()):  # cffi says which file it writes
                builder.emit_c_code(str(written))
            built = compiler.compile_shared(
                written,
                self._directory / f"{full}.so",
                include_dirs=[source.parent, *python_headers()],
                flags=["-fvisibility=hidden"],
            )
            spec = importlib.util.spec_from_file_location(full, built)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            self._extensions[name] = module
        return self._extensions[name]

    # --- data ---------------------------------------------------------------------------

    def order(self, entries: int, distribution: Distribution) -> array[int]:
        """Return the indexes of entries in the order in which loops come to them."""
        key = (entries, distribution)
        if key not in self._orders:
            self._orders[key] = order.make(entries, distribution)
        return self._orders[key]

    def shared(self, key: object, make: Callable[[], AbstractContextManager[T]]) -> T:
        """Return what `make` gives, made anew only if the last cell's had another key.

        Its context is left when another key comes, or at the end.
        """
        if self._shared_key != key:
            self._release()
            self._shared_key = key
            try:
                self._shared = self._holder.enter_context(make())
            except ArenadsError as error:
                self._shared = error
        if isinstance(self._shared, ArenadsError):
            raise self._shared  # of the first cell that wanted it, and of each that follows
        made: T = self._shared
        return made

    def distrust(self) -> None:
        """Have what is shared made anew: a cell that failed may have left it in any state."""
        if not isinstance(self._shared, ArenadsError):
            self._release()

    def _release(self) -> None:
        self._shared_key = self._shared = None
        self._holder.close()

    # --- the end ------------------------------------------------------------------------

    def close(self) -> None:
        """Take everything away; idempotent."""
        try:
            self._release()
        finally:
            shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def python_headers() -> list[Path]:
    """Return where C code finds the headers of this Python."""
    names = ("include", "platinclude")
    return list(dict.fromkeys(Path(sysconfig.get_path(name)) for name in names))


def why_not(cell: Cell, found: dict[Need, str]) -> str:
    """Return why a cell cannot run here; empty if it can.

    `found` keeps the answers: each thing is tried once.
    """
    cpus = cell.cpus + bool(cell.concurrent)
    if cpus > len(allowed_cpus()):
        return f"it needs {cpus} CPUs; this process may use {len(allowed_cpus())}"
    for need in sorted(cell.needs):
        if need not in found:
            found[need] = _PROBES[need]()
        if found[need]:
            return found[need]
    return ""


def _why_no_kernel() -> str:
    engine, reason = choose_engine("auto")
    if engine != "kernel":
        return reason
    try:
        from arenads import libbpf

        libbpf.version()
    except ArenadsError as error:
        return error.message
    return ""


def _why_no_compiler(find: Callable[[], compiler.Compiler]) -> Callable[[], str]:
    def why() -> str:
        try:
            find()
        except CompilerMissingError as error:
            first, _, rest = error.message.partition("\n")
            return f"{first} {rest.rpartition(chr(10))[2]}".strip()
        return ""

    return why


def _why_no_tree() -> str:
    """The kernel's trees have a way from node to node since Linux 6.16."""
    try:
        names = Path(KERNEL_BTF).read_bytes()
    except OSError as error:
        return f"{KERNEL_BTF}: {error.strerror}"
    wanted = ("bpf_rbtree_add_impl", "bpf_rbtree_root", "bpf_rbtree_left")
    missing = [name for name in wanted if f"\0{name}\0".encode() not in names]
    return f"this kernel has no {' and '.join(missing)}" if missing else ""


def _why_no_headers() -> str:
    places = python_headers()
    if any((place / "Python.h").is_file() for place in places):
        return ""
    return (
        f"it needs the C headers of Python: expected Python.h in {places[0]}, found none"
        " (Debian and Ubuntu: apt install python3-dev)"
    )


def _why_no_module(name: str, package: str) -> Callable[[], str]:
    def why() -> str:
        try:
            importlib.import_module(name)
        except ImportError as error:
            return f"it needs {package}: pip install 'arenads[bench]' ({error})"
        return ""

    return why


_PROBES: dict[Need, Callable[[], str]] = {
    "kernel": _why_no_kernel,
    "bpf_rbtree": _why_no_tree,
    "bpf compiler": _why_no_compiler(compiler.find_bpf_compiler),
    "host compiler": _why_no_compiler(compiler.find_host_compiler),
    "python headers": _why_no_headers,
    "lmdb": _why_no_module("lmdb", "lmdb"),
    "UltraDict2": _why_no_module("UltraDict2", "UltraDict2"),
    "numpy": _why_no_module("numpy", "numpy"),
    "pyarrow": _why_no_module("pyarrow", "pyarrow"),
    "glib": floor.why_not,
    "khash": floor.why_no_khash,
}

"""What the benchmark ran on: figures mean little without it."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import msgspec

from arenads import __version__, compiler
from arenads.bench.measure import allowed_cpus
from arenads.errors import ArenadsError

__all__ = ["Machine", "describe"]

# Of ours, and of the peers'.
_LIBRARIES = ("cffi", "msgspec", "numpy", "lmdb", "UltraDict2")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The machine and the software. What cannot be found out is empty.

    Attributes
    ----------
    cpu : str
        Its model.
    architecture : str
    cpus : int
        How many the benchmark could use.
    memory : int
        Bytes.
    kernel : str
        Release.
    hypervisor : bool
        Whether the CPU says that it is a virtual one.
    governor : str
        Of its frequency, such as "performance".
    mitigations : dict
        What the kernel does about each weakness of the CPU that it knows of.
    bpf_compiler, host_compiler, libbpf, python, arenads : str
        Versions.
    revision : str
        Of the checkout that arenads is run from, with a + if files were changed since.
    libraries : dict of str
        Versions of the packages that either side is made of, by name.
    """

    cpu: str
    architecture: str
    cpus: int
    memory: int
    kernel: str
    hypervisor: bool
    governor: str
    mitigations: dict[str, str]
    bpf_compiler: str
    host_compiler: str
    libbpf: str
    python: str
    arenads: str
    revision: str = ""
    libraries: dict[str, str] = {}

    def of_arenads(self) -> str:
        """Return the version with the revision: "0.1.0 1f2e3d4"."""
        return f"{self.arenads} {self.revision}".rstrip()

    def of_libraries(self) -> str:
        """Return the libraries as text: "cffi 2.1.1, numpy 2.3.0"."""
        return ", ".join(f"{name} {version}" for name, version in self.libraries.items())

    def lines(self) -> tuple[str, ...]:
        """Return what belongs above a table."""
        virtual = ", virtual" if self.hypervisor else ""
        governor = f", governor {self.governor}" if self.governor else ""
        return (
            f"{self.cpu}{virtual}, {self.cpus} CPUs{governor}; Linux {self.kernel}",
            f"arenads {self.of_arenads()}, libbpf {self.libbpf or 'absent'}, BPF compiler"
            f" {self.bpf_compiler or 'absent'}, host compiler {self.host_compiler or 'absent'},"
            f" Python {self.python}" + (f", {self.of_libraries()}" if self.libraries else ""),
        )


def describe() -> Machine:
    """Describe this machine.

    >>> describe().cpus >= 1
    True
    """
    information = _read("/proc/cpuinfo")
    model = re.search(r"^(?:model name|Model|cpu model|uarch)\s*:\s*(.+)$", information, re.M)
    weaknesses = Path("/sys/devices/system/cpu/vulnerabilities")
    names = sorted(os.listdir(weaknesses)) if weaknesses.is_dir() else []
    return Machine(
        cpu=model[1].strip() if model else platform.machine(),
        architecture=platform.machine(),
        cpus=len(allowed_cpus()),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=os.uname().release,
        hypervisor=bool(re.search(r"^flags\s*:.*\bhypervisor\b", information, re.M)),
        governor=_read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip(),
        mitigations={name: _read(weaknesses / name).strip() for name in names},
        bpf_compiler=_compiler("bpf"),
        host_compiler=_compiler("host"),
        libbpf=_libbpf(),
        python=platform.python_version(),
        arenads=__version__,
        revision=_revision(),
        libraries=dict(_libraries()),
    )


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _compiler(target: str) -> str:
    find = compiler.find_bpf_compiler if target == "bpf" else compiler.find_host_compiler
    try:
        return str(find())
    except ArenadsError:
        return ""


def _libraries() -> Iterator[tuple[str, str]]:
    for name in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            yield name, metadata.version(name)


def _revision() -> str:
    """Of the repository that has this package, not of one that it was installed into."""
    top = Path(__file__).parents[2]
    if not (top / ".git").exists():
        return ""
    words = ["git", "-C", str(top), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(
            words, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _libbpf() -> str:
    from arenads import libbpf

    try:
        return "{}.{}".format(*libbpf.version())
    except ArenadsError:
        return ""

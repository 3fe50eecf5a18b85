# SPDX-License-Identifier: Apache-2.0
"""Compile the real components from their published Go modules.

    components/<name>/{go.mod,go.sum,tools.go} --go build--> <cache>/lab/bin/<name>/<digest>/<program>

Each component has a wrapper module: ``tools.go`` names upstream's main packages, ``go.mod`` requires them at
one version, ``go.sum`` (made with the checksum database on) says what every downloaded byte must be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from lab.cache import digest_of, lab_dir, produce
from lab.errors import LabError
from lab.progress import step
from lab.run import run

COMPONENTS_DIR = Path(__file__).resolve().parent / "components"
COMPILE_TIMEOUT_S = 3600

_NO_COMMIT = "0" * 40
_IMPORT = re.compile(r'^\s*_ "(?P<path>[^"]+)"$', re.MULTILINE)
_REQUIRE = re.compile(r"^(?:require)?\s+(?P<module>\S+) (?P<version>v\S+)", re.MULTILINE)

# What must be so, whatever the caller's settings are: the wrapper decides versions, go.sum decides bytes.
_ENVIRONMENT = {
    "GO111MODULE": "on",
    "GOARCH": "amd64",
    "GOAMD64": "v1",
    "GOFLAGS": "-mod=readonly",
    "GOINSECURE": "",
    "GONOSUMDB": "",
    "GOOS": "linux",
    "GOTOOLCHAIN": "local",
    "GOWORK": "off",
}


@dataclass(frozen=True, kw_only=True)
class Component:
    """One upstream project: its module, its version, and how its programs are linked.

    ``version`` is upstream's own; ``module_version`` differs from it only where upstream's tag is no version
    of the module. ``variables`` are set by the linker (-X). ``programs`` gives another file name to a
    program that Go would name after its import path.
    """

    name: str
    module: str
    version: str
    module_version: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    programs: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    cgo: bool = False
    libraries: tuple[str, ...] = ()

    @property
    def module_dir(self) -> Path:
        """Return the directory of the wrapper module."""
        return COMPONENTS_DIR / self.name


def _kubernetes_variables(version: str) -> dict[str, str]:
    major, minor, _ = version.removeprefix("v").split(".")
    values = {
        "gitVersion": version,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
        "gitCommit": _NO_COMMIT,
        "buildDate": "1970-01-01T00:00:00Z",
    }
    return {f"k8s.io/component-base/version.{name}": value for name, value in values.items()}


COMPONENTS: tuple[Component, ...] = (
    Component(
        name="pause",
        module="caisson.lab/pause",
        version="3.10.2",
        variables={"main.version": "3.10.2"},
    ),
    Component(
        name="cni",
        module="github.com/containernetworking/plugins",
        version="v1.9.1",
        variables={"github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion": "v1.9.1"},
    ),
    Component(
        name="critools",
        module="sigs.k8s.io/cri-tools",
        version="v1.36.0",
        variables={"sigs.k8s.io/cri-tools/pkg/version.Version": "v1.36.0"},
    ),
    Component(
        name="runc",
        module="github.com/opencontainers/runc",
        version="v1.4.3",
        variables={"main.version": "1.4.3"},
        tags=("seccomp",),
        cgo=True,
        libraries=("libseccomp",),
    ),
    Component(
        name="etcd",
        module="go.etcd.io/etcd/server/v3",
        version="v3.6.8",
        programs={"server": "etcd"},
    ),
    Component(
        name="containerd",
        module="github.com/containerd/containerd/v2",
        version="v2.3.7",
        variables={"github.com/containerd/containerd/v2/version.Version": "v2.3.7"},
    ),
    Component(
        name="registry",
        module="github.com/distribution/distribution/v3",
        version="v3.1.2",
        variables={"github.com/distribution/distribution/v3/version.version": "v3.1.2"},
    ),
    Component(
        name="coredns",
        module="github.com/coredns/coredns",
        version="v1.14.2",
        variables={"github.com/coredns/coredns/coremain.GitCommit": "lab"},
    ),
    Component(
        name="calico",
        module="github.com/projectcalico/calico",
        version="v3.31.0",
        module_version="v0.0.0-20251021213802-b1f3c43f8437",
        variables={"github.com/projectcalico/calico/pkg/buildinfo.Version": "v3.31.0"},
    ),
    Component(
        name="kubernetes",
        module="k8s.io/kubernetes",
        version="v1.36.4",
        variables=_kubernetes_variables("v1.36.4"),
    ),
)


def component(name: str) -> Component:
    """Return a component by name.

    Raises:
        LabError: there is none of that name.
    """
    for candidate in COMPONENTS:
        if candidate.name == name:
            return candidate
    raise LabError(
        f"the lab compiles no component {name!r}",
        details="known: " + ", ".join(sorted(known.name for known in COMPONENTS)),
        resolution="add it to COMPONENTS in lab/golang.py and give it a wrapper module in lab/components/",
    )


def build(name: str) -> Path:
    """Return the directory with a component's programs; compile them unless the cache has them.

    Raises:
        LabError: unknown component, no Go, no C library for it, or the compiler failed.
    """
    wanted = component(name)
    return produce(output_dir(wanted), lambda work_dir: _compile(wanted, work_dir))


def build_all() -> dict[str, Path]:
    """Return the directories of all components by name; compile what is not cached, small ones first."""
    return {known.name: build(known.name) for known in COMPONENTS}


def output_dir(wanted: Component) -> Path:
    """Return where a component's programs are kept, compiled or not."""
    return lab_dir("bin") / wanted.name / digest_of(dict(_inputs(wanted)))


def calico_module_dir() -> Path:
    """Return the unpacked source of Calico's module (``manifests/``, ``node/filesystem/``)."""
    calico = component("calico")
    args = ["go", "mod", "download", "-json", calico.module]
    answer = run(args, cwd=calico.module_dir, env=_ENVIRONMENT, timeout_s=COMPILE_TIMEOUT_S, check=False)
    try:
        document = json.loads(answer.stdout)
    except ValueError:
        document = {"Error": answer.stderr}
    directory = document.get("Dir")
    if not directory:
        raise LabError(
            f"the source of {calico.module} cannot be had",
            details=str(document.get("Error", "")).strip(),
            resolution="see that the Go module proxy can be reached, then run again",
        )
    return Path(directory)


def main_packages(wanted: Component) -> tuple[str, ...]:
    """Return the import paths of a component's main packages: those of its tools.go, or the module itself."""
    tools_file = wanted.module_dir / "tools.go"
    if not tools_file.exists():
        return (wanted.module,)
    return tuple(match["path"] for match in _IMPORT.finditer(tools_file.read_text()))


def required_versions(wanted: Component) -> dict[str, str]:
    """Return the versions of all modules that a wrapper's go.mod requires, by module path."""
    text = (wanted.module_dir / "go.mod").read_text()
    return {match["module"]: match["version"] for match in _REQUIRE.finditer(text)}


def build_flags(wanted: Component) -> tuple[str, ...]:
    """Return the flags of ``go build`` for a component; they are part of its cache key."""
    variables = " ".join(f"-X {name}={value}" for name, value in sorted(wanted.variables.items()))
    flags = ["-trimpath", "-buildvcs=false", "-ldflags", f"-s -w {variables}".rstrip()]
    if wanted.tags:
        flags += ["-tags", ",".join(wanted.tags)]
    return tuple(flags)


def _inputs(wanted: Component) -> Iterator[tuple[str, str | bytes]]:
    for file in sorted(wanted.module_dir.iterdir()):
        if file.name in ("go.mod", "go.sum") or file.suffix == ".go":
            yield file.name, file.read_bytes()
    yield "flags", "\0".join((*build_flags(wanted), f"cgo={wanted.cgo}"))
    yield "programs", json.dumps(dict(wanted.programs), sort_keys=True)
    yield "compiler", _go_version()
    for library in wanted.libraries:
        yield f"library {library}", _library_version(library)


def _compile(wanted: Component, work_dir: Path) -> None:
    packages = main_packages(wanted)
    args = ["go", "build", *build_flags(wanted), "-o", f"{work_dir}/", *packages]
    env = {**_ENVIRONMENT, "CGO_ENABLED": "1" if wanted.cgo else "0"}
    with step(f"compile {wanted.name} {wanted.version}"):
        run(args, cwd=wanted.module_dir, env=env, timeout_s=COMPILE_TIMEOUT_S)
    for made, wished in wanted.programs.items():
        (work_dir / made).rename(work_dir / wished)


@cache
def _go_version() -> str:
    try:
        return run(["go", "env", "GOVERSION"], env=_ENVIRONMENT, timeout_s=60).stdout.strip()
    except LabError as exc:
        raise LabError(
            "the lab compiles Go programs, and 'go' does not run here",
            details=exc.message,
            resolution="install Go 1.26 or later and have it on PATH",
        ) from exc


@cache
def _library_version(library: str) -> str:
    try:
        return run(["pkg-config", "--modversion", library], timeout_s=60).stdout.strip()
    except LabError as exc:
        raise LabError(
            f"the C library {library} is not installed for compiling",
            details=exc.message,
            resolution=f"install its development package (Debian: {library}-dev) and pkg-config",
        ) from exc

# SPDX-License-Identifier: Apache-2.0
"""Make the reference pages of docs/ from what the product itself reads: schemas, tables, error classes.

``python -m tools.reference`` writes them; a test compares them with what stands in docs/.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

import build.base.errors
from installer import checks
from installer.base.paths import Paths
from installer.checks import between
from installer.cli import common, explanations
from installer.cli import main as cli
from installer.cli import nodes as cli_nodes
from installer.cli import reset as cli_reset
from installer.config import nodes
from installer.engine import hostkeys, jobrecord, lock, remotefiles, saltssh, ssh, sshfaults
from installer.engine.phase import Operation
from installer.operations import (
    adding,
    bootstrap,
    node_add,
    node_remove,
    removing,
    replica_images,
    replica_renewal,
    replicating,
    reset,
    reset_plan,
    settling,
)
from lab import likeness
from tools import refusals

REPOSITORY_DIR = Path(__file__).resolve().parent.parent
REFERENCE_DIR = REPOSITORY_DIR / "docs" / "reference"
DIFFERENCES_FILE = REPOSITORY_DIR / "tests" / "node" / "like_kubeadm.yaml"
#: By whom what is refused: operations, with the others that they use, and further modules.
LIFECYCLE: Mapping[str, tuple[Sequence[ModuleType], Sequence[ModuleType]]] = {
    "Any of them": ((), (common, cli_nodes, cli_reset, lock, jobrecord)),
    "A node is added": ((adding, node_add, settling), (nodes, remotefiles, saltssh)),
    "A node is removed": ((removing, node_remove), ()),
    "A control plane is to serve too": ((replicating,), (replica_renewal, replica_images)),
    "A host is reset": ((reset, reset_plan), ()),
    "A host is reached": ((), (hostkeys, ssh, sshfaults)),
}
#: Operations whose errors are those of other commands.
GENERAL = ("bootstrap", "cluster", "cluster_state", "containers", "installed", "before")
HEADER = """<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Made by python -m tools.reference: change the source, not this page. -->
"""


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""Return a Markdown table; pipes in cells are escaped.

    >>> print(table(["a", "b"], [["1", "x|y"]]))
    | a | b |
    |---|---|
    | 1 | x\|y |
    """
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines)


# ---- bootstrap.yaml --------------------------------------------------------------------------------------


def configuration_page() -> str:
    """Return the fields of bootstrap.yaml, from the JSON Schema that is on the ISO."""
    rows = [
        (
            f"`{field.path}`",
            field.kind,
            explanations.need(field),
            f"`{field.default}`" if field.default else "",
            field.description,
        )
        for field in explanations.fields()
    ]
    fields = table(["Field", "Type", "Required", "Default", "Meaning"], rows)
    return f"""# bootstrap.yaml

The configuration of a bootstrap: `bootstrap.sh --config FILE`. It is checked before anything is changed: all
faults are reported at once, each with its line; an unknown key is a fault. A copy is kept in
`/etc/caisson/bootstrap.yaml`, mode 0600. The schema itself is on the ISO: `installer/config/bootstrap.schema.json`.

```console
# /mnt/caisson/bootstrap.sh config init --output FILE     # a first configuration, from this host's interfaces
# /mnt/caisson/bootstrap.sh config check --config FILE    # all faults, and what is chosen on this host
# /mnt/caisson/bootstrap.sh config explain KEY            # what this page says, without this page
```

{fields}

IPv6 is understood and not built: a CIDR list may hold IPv6 networks, which are never chosen, and needs an IPv4 one;
pods and services get IPv4 networks only.

The control-plane endpoint is not a field: it is always the name `api.CLUSTERNAME.internal`, port 6443.
"""


def node_list_page() -> str:
    """Return the fields of nodes.yaml, from the JSON Schema that is on the ISO."""
    rows = [
        (
            f"`{field.path}`",
            field.kind,
            "yes" if field.is_required else "",
            f"`{field.default}`" if field.default else "",
            field.description,
        )
        for field in explanations.fields(nodes.load_schema())
    ]
    return f"""# nodes.yaml

A list of hosts that are to become nodes. All its faults are reported at once, each with its line, before any host is
asked anything; an unknown key is a fault, and so is an address, a name or a host key that two entries share. The schema
itself is on the ISO: `installer/config/nodes.schema.json`.

```yaml
apiVersion: caisson/v1
kind: NodeList
nodes:
  - address: 10.1.0.12
    role: control-plane
    identity: /root/.ssh/id_ed25519
    hostKey: SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU
  - address: 10.1.0.21
    name: worker1
    user: admin
    labels: {{example.com/rack: r1}}
    taints: ["example.com/gpu=yes:NoSchedule"]
```

{table(["Field", "Type", "Required", "Default", "Meaning"], rows)}

YAML reads some names as numbers or as true and false (`010`, `12:30`, `no`): put them in quotes. A private key that
others may read is refused, as ssh itself refuses it.
"""


# ---- the tables ------------------------------------------------------------------------------------------


def ports_page() -> str:
    """Return the port table that firewalld is fed from."""
    file = REPOSITORY_DIR / "salt" / "parameters" / "ports.yaml"
    entries = yaml.safe_load(file.read_text(encoding="utf-8"))["ports"]
    words = {
        "control_plane": "control plane",
        "control_planes": "other control planes, by address",
        "workload_plane": "workload plane",
        "local": "nobody from outside",
        "loopback": "loopback",
        "any": "every address",
    }
    roles = {"bootstrap": "Bootstrap node", "control-plane": "Control plane", "worker": "Worker"}
    rows = [
        (
            entry["name"],
            str(entry["port"]),
            entry["protocol"],
            words[entry["source"]],
            words[entry["bind"]]
            + (f"; {words[entry['bind_with_vip']]} with a virtual one" if "bind_with_vip" in entry else ""),
            entry["component"],
            *("yes" if role in entry["roles"] else "" for role in roles),
        )
        for entry in entries
    ]
    head = ["Name", "Port", "Protocol", "Who may connect", "Bound to", "Component", *roles.values()]
    return f"""# Ports

One table, `salt/parameters/ports.yaml`, feeds firewalld, the preflights, the listeners and this page. "Who may connect"
becomes a rule of the policy `caisson-nodes`, with the CIDRs of that network as its source. The last columns say which
nodes listen there: a node opens, and a preflight looks at, the ports of its own role only. What is for other control
planes a node opens to each of them when that is added, and on a cluster of one to nobody.

{table(head, rows)}

Where the control plane has a virtual address, its nodes also let in VRRP (protocol 112 of IP, without ports), each from
the address of every other control plane alone. A virtual address can be bound only where it is, so the API server then
listens on every address; who may connect stays the same.

## What the table does not decide

- **Addresses of pods and services** are no business of the network: `caisson-guard.service` loads a small packet filter
  (`/etc/caisson/guard.nft`) that drops what comes from elsewhere than a pod with such an address as its source, or for
  such an address as its target. Where firewalld does not run there is no guard either.
- **A pod** reaches every listener of its own node: the zone `caisson-pods` accepts. A NetworkPolicy of the site narrows
  where pods may connect to.
- **A Service of type NodePort** is open to every network that reaches the node's address in the control plane.
  kube-proxy rewrites its packets before firewalld looks, and firewalld accepts what was rewritten. A NetworkPolicy
  narrows it, with `externalTrafficPolicy: Local`, which keeps the caller's address.
- **While firewalld reloads** it drops new connections for about a second and keeps those that stand. The caller's
  kernel tries again after a second: of 1,000 requests a second from a pod to a service none fails, the slowest takes
  1.1 s. A datagram is lost then; a resolver, say, asks again.
- **While firewalld restarts** (`systemctl restart firewalld`) the host has no rules of it: every port is open from its
  stop until `firewall-cmd --state` says running. Reload it instead.

## To bar a host inside the CIDRs

What `caisson-nodes` accepts (priority -100) never gets to the zones: a rich rule with reject or drop, or a source in
the zone `drop`, does not bar a host inside the CIDRs from these ports. A policy of your own does, with a lower priority
number and the target DROP, from a zone that holds the host's address:

```
firewall-cmd --permanent --new-zone=barred
firewall-cmd --permanent --zone=barred --add-source=192.0.2.66
firewall-cmd --permanent --new-policy=barred-hosts
firewall-cmd --permanent --policy=barred-hosts --set-priority=-200
firewall-cmd --permanent --policy=barred-hosts --add-ingress-zone=barred
firewall-cmd --permanent --policy=barred-hosts --add-egress-zone=HOST
firewall-cmd --permanent --policy=barred-hosts --set-target=DROP
firewall-cmd --reload
```

All that the host sends is dropped then; connections that stand go on until they end. Caisson changes no policy but its
own. To let the host in again: `firewall-cmd --permanent --delete-policy=barred-hosts`,
then `firewall-cmd --permanent --delete-zone=barred`, then `firewall-cmd --reload`.
"""


def exit_codes_page() -> str:
    """Return the exit codes of builder and installer, from their error classes."""
    installer_rows = [
        (str(error.exit_code), error.code(), f"`{error.__name__}`", explanations.error_meaning(error))
        for error in explanations.error_classes()
    ]
    return f"""# Exit codes

Every error says what is wrong, what is known about it and what to do. Within one program a
code is never given to another class.

## The builder

`./doit.sh` and `python -m build.evidence.verify` end with the code of the error's class, or with 0 when all went well.
Codes 1 to 3 are doit's: a task failed, a task raised an error of no such class, the command line is wrong;
`doit.sh` itself ends with 3 when it cannot provide what a task needs.

{table(["Code", "Class", "Meaning"], _codes(build.base.errors, build.base.errors.BuildError))}

## The installer

`bootstrap.sh` and `caisson`; 0 means done. The code of the class is printed first, and `caisson explain CODE` says
what stands here.

{table(["Exit code", "Code", "Class", "Meaning"], installer_rows)}
"""


def _codes(module: Any, root: type[Exception]) -> list[Sequence[str]]:
    """Return code, class and first sentence of every error class of a module, by code."""
    rows = {
        (int(vars(error)["exit_code"]), error.__name__): _first_sentence(error)
        for _, error in inspect.getmembers(module, inspect.isclass)
        if issubclass(error, root) and "exit_code" in vars(error)
    }
    return [(str(code), f"`{name}`", text) for (code, name), text in sorted(rows.items())]


def _first_sentence(thing: object) -> str:
    """Return the summary of a docstring as Markdown; a path's "Return where .." becomes "Where .."."""
    text = " ".join((inspect.getdoc(thing) or "").split("\n\n", maxsplit=1)[0].split()).replace("``", "`")
    return text.replace("Return where", "Where", 1)


def refusals_page() -> str:
    """Return what is refused, and what fails, of nodes that join, leave and are reset; from the sources themselves."""
    tables = []
    for title, (operations, further) in LIFECYCLE.items():
        modules = [*refusals.with_what_they_use(operations, but=GENERAL), *further]
        rows = [
            (
                str(found.error.exit_code),
                found.error.code(),
                " ".join(found.message.split()),
                found.resolution.replace("\n", "; "),
            )
            for found in refusals.refusals(modules)
        ]
        tables.append(f"## {title}\n\n{table(['Exit code', 'Code', 'What it says', 'What to do'], rows)}")
    sections = "\n\n".join(tables)
    return f"""# Refusals

What `caisson node add`, `caisson node remove` and `caisson reset` say when they do not do what was asked, or cannot.
What differs from time to time stands in capitals. Each says more than stands here: what was found, on which host. What
[a check](checks.md) finds has a code of its own, and so has [a phase](phases.md); any command may end with another of
the [exit codes](exit-codes.md), too.

{sections}
"""


def files_page() -> str:
    """Return the installer's own files on a host, from the one class that names them."""
    paths = Paths(Path("/"))
    rows = []
    for name, member in vars(Paths).items():
        if isinstance(member, property):
            rows.append((f"`{getattr(paths, name)}`", _first_sentence(member)))
        elif name in {"media_dir", "self_dir"}:
            rows.append((f"`{getattr(paths, name)('VERSION-BUILD')}`", _first_sentence(member)))
    return f"""# Files on a host

What the installer itself writes or reads. What kubeadm, containerd and Salt keep is where they keep it
everywhere: `/etc/kubernetes`, `/var/lib/etcd`, `/var/lib/kubelet`, `/var/lib/containerd`, `/etc/salt`.

{table(["Path", "What it is"], sorted(rows))}
"""


PHASES_HEADINGS = [
    "",
    "Code",
    "Name",
    "What it does",
    "Who does it",
    "How a person takes it back, the last phase first",
]


def _phases_table(operation: Operation) -> str:
    return table(
        PHASES_HEADINGS,
        [
            (str(number), phase.code, f"`{phase.name}`", phase.title, phase.carried_out_by, phase.undo)
            for number, phase in enumerate(operation.phases, start=1)
        ],
    )


def phases_page() -> str:
    """Return the phases of a bootstrap, and those by which a node is added, removed and reset."""
    return f"""# Phases

They run in this order; each looks first and acts only where something is not as it should be, so all may be
run again at any time. Their beginnings and ends are in the journal, `/var/lib/caisson/journal.jsonl`.

> **Never run `kubeadm reset` on a node of Caisson.** It deletes etcd's data and empties
> `/etc/kubernetes/manifests`, where nginx, the registry and the salt-master are too.
> [When something is wrong](../how-to/when-something-is-wrong.md).

## Of a bootstrap

`--from NAME` starts at one of them.

{_phases_table(bootstrap.OPERATION)}

## Of `caisson node add`, for each host

All run on the bootstrap node; what they do on the other host they do over SSH or by a job there. NODE is its name.

{_phases_table(node_add.OPERATION)}

## Of `caisson node remove`

They run on the bootstrap node, but `reset-host`, which starts the next list on the other host. NODE is its name.

{_phases_table(node_remove.OPERATION)}

## Of `caisson media replicate`, for each control plane

They run on the bootstrap node; what they do on the other host they do over SSH or by a job there. NODE is its name.

{_phases_table(replicating.OPERATION)}

## Of `caisson reset`

On the host itself; its journal and its log are in `/var/log/caisson`, since nothing else is left.

{_phases_table(reset.OPERATION)}
"""


def differences_page() -> str:
    """Return in what a bootstrapped node differs from one by ``kubeadm init``."""
    entries = likeness.read_allowed(DIFFERENCES_FILE.read_text(encoding="utf-8"))
    has = {"bootstrap": "a bootstrapped node only", "kubeadm": "kubeadm's only"}
    rows = [
        (
            f"`{entry.place}`",
            f"both: `{entry.bootstrap}`, kubeadm's `{entry.kubeadm}`"
            if entry.side == "both"
            else has[entry.side],
            entry.reason,
        )
        for entry in entries
    ]
    return f"""# Differences from kubeadm

What a bootstrapped node has that `kubeadm init` with the same configuration does not make, or the other way round. A
test compares both and fails on any other difference, and on an entry that is about none: see
[Like kubeadm's](../explanation/like-kubeadm.md). `*` stands for any characters.

{table(["What", "Who has it", "Why"], rows)}
"""


def checks_page() -> str:
    """Return the preflight checks: tables, then what ``caisson explain`` says of each."""
    texts = "\n\n".join(
        f"## {check.id} {check.title}\n\n{check.why}\n\n- {explanations.severity(check)}: "
        f"{explanations.severity_meaning(check)}\n- fix: {check.fix}"
        for check in explanations.ALL_CHECKS
    )
    return f"""# Preflight checks

`bootstrap.sh check` runs them alone and changes nothing. In a bootstrap the phase `preflight` runs them, and
an error stops it. A code never changes its meaning. A check is ignored by its code, with a reason, in
[`overrides.ignorePreflights`](bootstrap-configuration.md). How to read what they print:
[Read the preflight table](../how-to/read-the-preflight-table.md).

{_checks_table(checks.CHECKS)}

Hosts that are to become nodes are looked at in the same way, over SSH and before a byte is written there, and then
compared with each other and with this host:

{_checks_table(between.FLEET_CHECKS)}

{texts}
"""


def _checks_table(listed: Sequence[explanations.AnyCheck]) -> str:
    rows = [
        (f"[{check.id}](#{_anchor(check)})", explanations.severity(check), check.title, check.fix)
        for check in listed
    ]
    return table(["Code", "Severity", "What should be so", "What to do if it is not"], rows)


def _anchor(check: explanations.AnyCheck) -> str:
    """Return the anchor of a check's heading, as forges make it."""
    return re.sub(r"[^\w\- ]", "", f"{check.id} {check.title}".lower()).replace(" ", "-")


def commands_page() -> str:
    """Return the installer's commands and options, from its own parser."""
    rows = list(_options(cli.make_parser("caisson"), "caisson"))
    return f"""# Commands of the installer

On the ISO the program is `bootstrap.sh`, on a host it is `caisson`; both take the same commands. Without a
command, `bootstrap.sh` means `bootstrap.sh bootstrap`. Each ends with one of the [exit codes](exit-codes.md).

{table(["Command", "Option", "Meaning"], rows)}
"""


def _options(parser: argparse.ArgumentParser, command: str) -> Iterator[Sequence[str]]:
    """Yield one row for each command, then for its options, then for the commands below it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            titles = {choice.dest: choice.help or "" for choice in action._choices_actions}
            # What has no help is no one's to type.
            for name, below in ((name, action.choices[name]) for name in titles):
                yield (f"`{command} {name}`", "", titles[name])
                yield from _options(below, f"{command} {name}")
        elif action.dest != "help" and action.help != argparse.SUPPRESS:
            name = action.option_strings[-1] if action.option_strings else ""
            value = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
            meaning = (action.help or "").replace("%(default)s", str(action.default))
            yield ("", f"`{f'{name} {value}'.strip()}`", meaning)


# ---- what the builder reads -------------------------------------------------------------------------------


def inventory_page() -> str:
    """Return the fields of the files that say what a bundle holds, from their JSON Schemas."""
    return f"""# Inventory

What goes into a bundle, written by people. All faults of all files are reported at once, with file and line; an
unknown key is a fault. The JSON Schemas are in `build/inventory/schemas/`, for editors; a test holds them to what the
builder takes.

{_schema_section("versions", "versions.yaml")}
{_schema_section("images", "images.yaml")}
{_schema_section("packages", "packages.yaml")}
Everything is solved against each baseline. A package of a baseline is never upgraded or replaced, but for those in
`may_upgrade`: what would force that is an error that names release, package and upgrade. Where baselines need
different builds of a package, the lock has both. `product.json` lists the baselines that a bundle is proven on.

{_schema_section("policy", "policy.yaml")}
`policy=FILE` takes another one. A licence tag is split at "and", "or" and commas; each name must be allowed, of
names joined by "or" one of them.

{_schema_section("extra", "A vendor's file")}
Given as `extra=FILE`, several joined by commas. See [Add a vendor's payload](../how-to/add-a-vendors-payload.md).
"""


def profiles_page() -> str:
    """Return the fields of an upstream profile, from its JSON Schema."""
    return f"""# Upstream profiles

A profile says where bytes come from. It is chosen by `upstream=NAME`: `production` (the default) and other names
are files in `profiles/`, `lab` is the one that the lab writes, and anything with a slash or ending in `.yaml` is a
path. Paths in a profile are relative to it.

{_schema_section("profile", "profiles/NAME.yaml")}
Python packages come from `python_index`; without it from where the user's own pip configuration says (`index-url`,
`extra-index-url`, `find-links`, `no-index`, in its files or in the environment). pip itself is not run: the page of a
package is read, and its file taken by digest. Other settings of pip, such as `cert` and `proxy`, are not looked at:
what follows holds for all that is fetched.

Proxies and `~/.netrc` are honoured everywhere. Logins of registries are those of `podman login`, `docker login` and
`skopeo login`, where those keep them (containers-auth.json(5)), credential helpers and stores included. Trusted are the
certificate authorities that `REQUESTS_CA_BUNDLE`, `CURL_CA_BUNDLE`, `SSL_CERT_FILE` or `SSL_CERT_DIR` names, else
those of the system.

By `signature_policy` the manifest for linux/amd64 is judged, under the name that the mirror gives to the image: a
signature of an index alone does not count. Without a policy the digests of the lock are all that images are held to.
"""


def _schema_section(name: str, title: str) -> str:
    file = REPOSITORY_DIR / "build" / "inventory" / "schemas" / f"{name}.schema.json"
    schema = json.loads(file.read_text(encoding="utf-8"))
    rows = table(["Field", "Type", "Required", "Default", "Meaning"], _schema_fields(schema, ""))
    return f"## {title}\n\n{rows}\n"


def _schema_fields(schema: Mapping[str, Any], prefix: str) -> Iterator[Sequence[str]]:
    """Yield one row for each property, the ones below it after it; a map's keys are ``NAME``."""
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        required = "yes" if name in schema.get("required", ()) else ""
        default = f"`{json.dumps(field['default'])}`" if "default" in field else ""
        yield f"`{path}`", _schema_type(field), required, default, field.get("description", "")
        yield from _schema_fields(field, f"{path}.")
        for key, below in (("items", f"{path}[]."), ("additionalProperties", f"{path}.NAME.")):
            if isinstance(field.get(key), dict):
                yield from _schema_fields(field[key], below)


def _schema_type(field: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_schema_type(choice) for choice in field["anyOf"])
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    kind: str = field.get("type", "")
    return {"array": "list", "object": "map", "string": "text", "boolean": "true or false"}.get(kind, kind)


PAGES: Mapping[str, Callable[[], str]] = {
    "bootstrap-configuration.md": configuration_page,
    "checks.md": checks_page,
    "commands.md": commands_page,
    "differences-from-kubeadm.md": differences_page,
    "exit-codes.md": exit_codes_page,
    "files.md": files_page,
    "inventory.md": inventory_page,
    "node-list.md": node_list_page,
    "phases.md": phases_page,
    "ports.md": ports_page,
    "profiles.md": profiles_page,
    "refusals.md": refusals_page,
}


def render(name: str) -> str:
    """Return the whole text of one page."""
    return HEADER + PAGES[name]()


def main() -> None:
    """Write all pages."""
    REFERENCE_DIR.mkdir(parents=True, exist_ok=True)
    for name in PAGES:
        (REFERENCE_DIR / name).write_text(render(name), encoding="utf-8")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""The commands of the how-to guides, run as they stand there; every other command of the docs names its test."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from tests import pages
from tests.iso.guides import Guide, Run, Setting, Site, make_site

REPOSITORY_DIR = Path(__file__).parents[2]
HOW_TO = "docs/how-to"
#: The site that builds from a mirror.
NAME = "plant"
FINGERPRINT = "0123456789ABCDEF0123456789ABCDEF01234567"

# ---------------------------------------------------------------- what each guide wants and promises


@contextlib.contextmanager
def building(site: Site) -> Iterator[Setting]:
    """Build with a profile ``production`` that has the lab's addresses: there is no network here."""
    yield Setting()
    assert (site.checkout / "caisson.lock").is_file()
    assert site.iso_file.is_file()
    assert site.iso_of("lab", "-lab").is_file()


@contextlib.contextmanager
def from_a_mirror(site: Site) -> Iterator[Setting]:
    """Put a mirror that is out of reach before each repository and registry."""
    text = (site.source_dir / HOW_TO / "build-from-a-mirror.md").read_text(encoding="utf-8")
    assert "`lock_file: ../NAME.lock`" in text
    assert '"https://raw.githubusercontent.com/"' in text
    assert list(site.lab_profile["manifests"]) == ["https://raw.githubusercontent.com/"]
    site.write_profile(NAME, f"../{NAME}.lock", has_dead_mirrors=True)
    yield Setting(values={"NAME": NAME})
    assert (site.checkout / f"{NAME}.lock").is_file()
    product = json.loads((site.out_dir / NAME / "tree" / "product.json").read_text(encoding="utf-8"))
    assert product["profile"] == {"name": NAME, "lab": False}


@contextlib.contextmanager
def with_a_vendor_s_payload(site: Site) -> Iterator[Setting]:
    page = site.source_dir / HOW_TO / "add-a-vendors-payload.md"
    (text,) = (fence.text for fence in pages.fences(page) if fence.text.startswith("# scada.yaml\n"))
    site.write_vendor_file(text)
    policy = yaml.safe_load((site.checkout / "policy.yaml").read_text(encoding="utf-8"))
    policy["registries"].append("registry.acme.example")
    policy["licences"].append("Acme*")
    (site.vendor_dir / "policy.yaml").write_text(yaml.safe_dump(policy), encoding="utf-8")
    yield Setting(values={"/srv/scada": str(site.vendor_dir)})
    words = page.read_text(encoding="utf-8")
    assert (
        "The lock is `/srv/scada/scada.lock`, the ISO `_out/caisson-VERSION-BUILD-scada-4.2.0.iso`." in words
    )
    assert (site.vendor_dir / "scada.lock").is_file()
    assert site.vendor_iso_file.is_file()


@contextlib.contextmanager
def signing(site: Site) -> Iterator[Setting]:
    site.need(site.checkout / "caisson.lock", "./doit.sh lock")
    yield Setting(
        values={FINGERPRINT: site.signing_key.fingerprint},
        environment={"GNUPGHOME": str(site.signing_key.home_dir)},
    )
    assert Path(f"{site.iso_file}.sha256.asc").is_file()


@contextlib.contextmanager
def approving(site: Site) -> Iterator[Setting]:
    """Approve on a host that has the files and a fresh keyring, and nothing of the builder."""
    site.need(site.checkout / "caisson.lock", "./doit.sh lock")
    with_key = Setting(environment={"GNUPGHOME": str(site.signing_key.home_dir)})
    site.run(f"./doit.sh iso sign={site.signing_key.fingerprint}", Run(), with_key)
    host_dir = site.root / "approver"
    home_dir = host_dir / "home"
    home_dir.mkdir(parents=True, mode=0o700)
    for end in ("", ".sha256", ".sha256.asc"):
        Path(host_dir, f"{site.iso_file.name}{end}").hardlink_to(f"{site.iso_file}{end}")
    shutil.copy(site.signing_key.key_file, host_dir / "release-key.asc")
    environment = {"GNUPGHOME": str(home_dir)}
    try:
        yield Setting(values={"caisson-VERSION-BUILD.iso": site.iso_file.name}, environment=environment)
    finally:
        # gpg starts an agent of its own; it must not outlive the test.
        site.run("gpgconf --kill all", Run(), Setting(environment=environment))


@contextlib.contextmanager
def verifying(site: Site) -> Iterator[Setting]:
    """Mount the ISO elsewhere than at /mnt, which may be somebody's."""
    if os.geteuid() != 0:
        pytest.skip("the guide mounts the ISO: needs root")
    site.need(site.checkout / "caisson.lock", "./doit.sh lock")
    site.need(site.iso_file, "./doit.sh iso")
    mount_dir = site.root / "mnt"
    mount_dir.mkdir()
    values = {"caisson-VERSION-BUILD.iso": str(site.iso_file), "/mnt": str(mount_dir)}
    try:
        yield Setting(values=values)
    finally:
        if mount_dir.is_mount():
            site.run(f"umount {mount_dir}", Run(), Setting())


@contextlib.contextmanager
def comparing(site: Site) -> Iterator[Setting]:
    """Take for A what was built with a vendor's payload, for B what was built without."""
    site.need(site.checkout / "caisson.lock", "./doit.sh lock")
    site.need(site.iso_file, "./doit.sh iso")
    if not site.vendor_iso_file.exists():
        with with_a_vendor_s_payload(site) as setting:
            for command, how in GUIDES["add-a-vendors-payload.md"].runs.items():
                site.run(command, how, setting)
    old_dir = site.checkout / "old"
    old_dir.mkdir()
    shutil.copy(site.vendor_dir / "scada.lock", old_dir / "caisson.lock")
    yield Setting(
        values={
            "caisson-OLD.iso": str(site.vendor_iso_file),
            "caisson-NEW.iso": str(site.iso_file),
        }
    )


#: Where the kernel has no iso9660. The command itself is run in nodes, which have it by FUSE: test_lab_node.py.
EXTRACT = "xorriso -report_about FAILURE -osirrox on -indev caisson-VERSION-BUILD.iso -extract / /mnt"


def can_mount_iso() -> bool:
    """Say whether the kernel knows the file system of an ISO, with a module that it may have to load."""
    if modprobe := shutil.which("modprobe", path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
        subprocess.run([modprobe, "--quiet", "isofs"], check=False, timeout=60)
    return "\tiso9660\n" in Path("/proc/filesystems").read_text(encoding="ascii")


#: The commands of each guide, in its order. One that does not stand here fails the test: say how it is run.
GUIDES: Mapping[str, Guide] = {
    "build-the-iso.md": Guide(
        setting=building,
        runs={
            "./doit.sh lock": Run(says=r"caisson\.lock written"),
            "./doit.sh": Run(),
            "./doit.sh lock name=etcd": Run(says=r"caisson\.lock unchanged"),
            "./doit.sh iso upstream=lab": Run(),
            "./doit.sh list": Run(says=r"(?m)^lockcheck "),
            "./doit.sh why name=socat": Run(says=r"socat-[\s\S]*wanted by packages\.yaml:\d+"),
            "./doit.sh upstream": Run(says=r"all \d+ things that are wanted are there"),
            "./doit.sh lockcheck": Run(),
            "./doit.sh fetchplan": Run(says=r"nothing is missing[\s\S]*fits"),
            "./doit.sh gc": Run(says=r"needed by: .*caisson\.lock"),
        },
    ),
    "build-from-a-mirror.md": Guide(
        setting=from_a_mirror,
        runs={
            "./doit.sh lock upstream=NAME": Run(says=rf"{NAME}\.lock written"),
            "./doit.sh iso upstream=NAME": Run(),
        },
    ),
    "add-a-vendors-payload.md": Guide(
        setting=with_a_vendor_s_payload,
        runs={
            "./doit.sh lock extra=/srv/scada/scada.yaml policy=/srv/scada/policy.yaml": Run(
                says=r"scada\.lock written"
            ),
            "./doit.sh iso extra=/srv/scada/scada.yaml policy=/srv/scada/policy.yaml": Run(),
        },
    ),
    "sign-an-iso.md": Guide(
        setting=signing,
        runs={
            "gpg --list-secret-keys --with-fingerprint": Run(says=r"release@example\.com"),
            f"./doit.sh iso sign={FINGERPRINT}": Run(),
            f"gpg --armor --export {FINGERPRINT} > release-key.asc": Run(),
        },
    ),
    "approve-an-iso.md": Guide(
        setting=approving,
        runs={
            "gpg --show-keys --with-fingerprint release-key.asc": Run(
                where="approver", says=r"([0-9A-F]{4} +){9}"
            ),
            "gpg --import release-key.asc": Run(where="approver"),
            "LC_ALL=C gpg --verify caisson-VERSION-BUILD.iso.sha256.asc caisson-VERSION-BUILD.iso.sha256": Run(
                where="approver", says=r"Good signature[\s\S]*Primary key fingerprint"
            ),
            "LC_ALL=C sha256sum --check caisson-VERSION-BUILD.iso.sha256": Run(
                where="approver", says=r"\.iso: OK"
            ),
            "checkisomd5 caisson-VERSION-BUILD.iso": Run(where="approver"),
        },
    ),
    "verify-an-iso.md": Guide(
        setting=verifying,
        runs={
            "sha256sum --check caisson-VERSION-BUILD.iso.sha256": Run(
                where="checkout/_out", says=r"\.iso: OK"
            ),
            "mount -o loop,ro caisson-VERSION-BUILD.iso /mnt": Run(
                is_possible=can_mount_iso, instead=EXTRACT
            ),
            "cd /mnt && sha256sum --quiet --check SHA256SUMS": Run(says=r"\A\Z"),
            "./doit.sh verify": Run(),
            ".venv/bin/python -m build.evidence.verify caisson-VERSION-BUILD.iso": Run(),
        },
    ),
    "compare-two-bundles.md": Guide(
        setting=comparing,
        runs={
            ".venv/bin/python -m build.evidence.diff old/caisson.lock caisson.lock": Run(says="scada-agent"),
            ".venv/bin/python -m build.evidence.diff caisson-OLD.iso caisson-NEW.iso --format markdown": Run(
                says="scada-agent"
            ),
        },
    ),
}

# ---------------------------------------------------------------- what other tests run

_HERE = "tests/iso/test_how_to.py"
_BOOTSTRAP = "tests/node/test_bootstrap.py"
_CLI = "tests/unit/installer/cli/test_cli.py"
_CONFIG_DIFF = f"{_CLI}::test_config_diff_and_a_bootstrap_that_is_refused"
_CHANGED = "tests/node/test_changed.py"
_NODE = "tests/node/test_lab_node.py"
_LEFTOVERS = "tests/node/test_leftovers.py::test_nothing_is_left_of_a_killed_run"
_WRONG = "tests/node/test_when_wrong.py"
_JOBS = "tests/node/test_jobs.py"
_NODE_ADD = "tests/node/test_node_add.py"
_REMOVE = "tests/node/test_remove.py"
_LEAVES = "tests/soak/test_control_plane_leaves.py"
_RESET = "tests/node/test_reset.py"
_CONTROL_PLANES = "tests/node/test_control_planes.py"
_FIVE = "tests/soak/test_five_nodes.py"
_PROBE = "tests/node/test_probe.py"
_REGISTRY = "tests/node/test_registry.py"
_REGISTRY_AGAIN = "tests/soak/test_registry_again.py"
_REPLICA = "tests/soak/test_replica.py"
_MEDIA = "tests/node/test_media.py"
_KEPT_LAB = "tests/unit/lab/test_cleanup.py::test_a_kept_lab_stays_until_it_is_asked_for"
_GROW_IT = "tests/soak/test_tutorials.py::test_the_cluster_grows_and_shrinks_as_the_page_says"
_REPLACED = "tests/soak/test_several.py::test_a_control_plane_that_is_gone_is_replaced"
_CONSOLE = "tests/node/test_console.py"
_VIP = "tests/node/test_vip.py"
_COLLECTED = f"{_HERE}::test_every_part_of_the_tests_is_found"
_GROWS = "tests/unit/packaging/test_doit_sh.py::test_the_environment_grows_with_what_is_asked"
_CHECK = "tests/node/test_preflight.py::test_a_clean_node_passes_and_stays_as_it_was"
_MOUNTED = f"{_NODE}::test_an_iso_is_mounted_as_an_operator_does"
DNF_DIR = "/etc/caisson/dnf"
_DNF = f"dnf --config {DNF_DIR}/dnf.conf --noplugins --releasever=9 -y"
_WITHOUT_FIREWALLD = (
    "tests/node/test_cloud_host.py::test_firewalld_is_installed_by_the_command_that_the_warning_prints"
)
_FIRST_CONFIGURATION = f"{_CLI}::test_config_init_makes_a_good_configuration"

#: Page -> command -> the test that does the same. It must exist.
ELSEWHERE: Mapping[str, Mapping[str, str]] = {
    "README.md": {
        "./doit.sh demo": _LEFTOVERS,
        "./doit.sh test": f"{_HERE}::test_every_command_of_the_docs_is_run",  # it is what runs this
    },
    "CONTRIBUTING.md": {
        "./doit.sh lint": _GROWS,
        ".venv/bin/pytest tests/unit tests/real": _COLLECTED,
        "./doit.sh help test": _GROWS,
        ".venv/bin/pytest tests/sls": _COLLECTED,
        "./doit.sh test": f"{_HERE}::test_every_command_of_the_docs_is_run",
        # These ask a package index, which a test may not count on: what they made is checked.
        "tools/lock-python.sh": "tests/unit/packaging/test_requirements.py::test_the_lock_answers_what_is_asked_for",
        "tools/lock-python.sh --upgrade": "tests/unit/packaging/test_requirements.py::test_all_locks_agree",
    },
    "docs/tutorials/first-cluster.md": {
        "./doit.sh demo --keep": _LEFTOVERS,
        ".venv/bin/python -m lab node list": f"{_NODE}::test_nothing_leaves_and_what_tries_is_counted",
        ".venv/bin/python -m lab node enter node1": f"{_NODE}::test_commands_have_a_clean_environment_and_a_limit",
        "export KUBECONFIG=/etc/kubernetes/admin.conf": (
            f"{_BOOTSTRAP}::test_the_output_shows_phases_nodes_addresses_and_kubeconfig"
        ),
        "kubectl get nodes --output wide": f"{_BOOTSTRAP}::test_the_node_is_ready_with_the_version_of_the_media",
        "kubectl get pods --all-namespaces": (f"{_BOOTSTRAP}::test_every_system_pod_runs_and_is_ready"),
        "caisson status": f"{_BOOTSTRAP}::test_without_the_media_the_cluster_is_up_and_status_says_what_is_missing",
        "kubectl logs --namespace kube-system nginx-node1": (
            f"{_BOOTSTRAP}::test_every_running_image_came_from_nginx_or_is_one_of_the_imported"
        ),
        "kubectl run lost --image registry.example.com/none:1": (
            f"{_BOOTSTRAP}::test_an_image_that_is_not_on_the_media_fails_fast_and_asks_nobody"
        ),
        "kubectl describe pod lost": f"{_BOOTSTRAP}::test_an_image_that_is_not_on_the_media_fails_fast_and_asks_nobody",
        "kubectl delete pod lost --now": (
            f"{_BOOTSTRAP}::test_an_image_that_is_not_on_the_media_fails_fast_and_asks_nobody"
        ),
        "exit": f"{_BOOTSTRAP}::test_nothing_left_the_node_since_boot",
        "/mnt/caisson/bootstrap.sh --config /etc/caisson/bootstrap.yaml --accept-lab-bundle": (
            f"{_BOOTSTRAP}::test_a_second_run_changes_nothing"
        ),
        ".venv/bin/python -m lab clean --all": _LEFTOVERS,
    },
    "docs/tutorials/grow-it.md": {
        # Typed there from the page itself, but for its first and its last command.
        **{
            command.text: _GROW_IT for command in pages.commands(REPOSITORY_DIR / "docs/tutorials/grow-it.md")
        },
        "./doit.sh demo --keep": _LEFTOVERS,
        ".venv/bin/python -m lab clean --lab LAB": _KEPT_LAB,
    },
    "docs/how-to/install-on-a-host.md": {
        "mkdir -p /mnt/caisson": _MOUNTED,
        "mount -o loop,ro caisson-VERSION-BUILD.iso /mnt/caisson": _MOUNTED,
        "/mnt/caisson/bootstrap.sh config init > bootstrap.yaml": _FIRST_CONFIGURATION,
        "/mnt/caisson/bootstrap.sh check --config bootstrap.yaml": _CHECK,
        "/mnt/caisson/bootstrap.sh --config bootstrap.yaml": (
            f"{_BOOTSTRAP}::test_the_output_shows_phases_nodes_addresses_and_kubeconfig"
        ),
        "/mnt/caisson/bootstrap.sh --config bootstrap.yaml --detach": (
            f"{_JOBS}::test_the_same_command_goes_on_with_the_same_job"
        ),
        "caisson jobs": f"{_JOBS}::test_one_that_is_killed_says_that_it_was_interrupted",
        "caisson job ID --follow": "tests/unit/installer/cli/test_jobs.py::test_one_that_succeeded",
        "cp /etc/caisson/bootstrap.yaml new.yaml": _CONFIG_DIFF,
        "caisson config diff --config new.yaml": _CONFIG_DIFF,
        "/mnt/caisson/bootstrap.sh --config new.yaml": f"{_CHANGED}::test_what_may_change_is_applied",
        f"HOME={DNF_DIR} {_DNF} install firewalld": _WITHOUT_FIREWALLD,
        "systemctl enable --now firewalld": _WITHOUT_FIREWALLD,
    },
    "docs/how-to/check-hosts-before-they-join.md": {
        # As the lab asks a node for it (lab.node.Node.authorize).
        "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub": (
            f"{_PROBE}::test_one_host_by_options_is_confirmed_on_the_terminal"
        ),
        "caisson node check --file nodes.yaml": (
            f"{_PROBE}::test_one_is_fit_the_other_has_every_fault_and_nothing_is_left"
        ),
    },
    "docs/how-to/add-a-worker.md": {
        # As the lab asks a node for it (lab.node.Node.authorize).
        "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub": f"{_NODE_ADD}::test_it_is_a_node_with_its_pods",
        "caisson node add 10.1.0.21 --name worker1 --identity /root/.ssh/id_ed25519 --host-key SHA256:FINGERPRINT": (
            f"{_NODE_ADD}::test_it_is_a_node_with_its_pods"
        ),
        "kubectl get nodes": f"{_NODE_ADD}::test_it_is_a_node_with_its_pods",
        "caisson node add --file nodes.yaml": f"{_NODE_ADD}::test_of_a_list_one_broken_host_stops_no_other",
    },
    "docs/how-to/remove-a-node.md": {
        "caisson node remove worker1 --identity /root/.ssh/id_ed25519": f"{_REMOVE}::test_it_leaves_without_a_trace",
        "caisson node remove worker1 --dead": (
            f"{_REMOVE}::test_a_host_that_is_gone_leaves_quickly_and_does_not_come_back"
        ),
        **dict.fromkeys(
            (
                "mv /etc/kubernetes/manifests/etcd.yaml /root/etcd.yaml",
                (
                    "while [ -n \"$(crictl ps -q --label io.kubernetes.pod.namespace=kube-system --name '^etcd$')\" ]; "
                    "do sleep 1; done"
                ),
                "cp -a /var/lib/etcd /root/etcd-before",
                (
                    r"sed 's/^    - etcd$/&\n    - --force-new-cluster/' /root/etcd.yaml "
                    "> /etc/kubernetes/manifests/etcd.yaml"
                ),
                "caisson status",
                "cp /root/etcd.yaml /etc/kubernetes/manifests/etcd.yaml",
                "caisson node remove node2 --dead",
            ),
            f"{_LEAVES}::test_the_one_that_is_left_goes_on_alone_by_the_page",
        ),
        "caisson reset": f"{_RESET}::test_alone_it_shows_all_and_does_nothing",
        "caisson reset --yes": f"{_RESET}::test_the_host_is_what_it_was",
    },
    "docs/how-to/add-a-control-plane.md": {
        "caisson node add 10.1.0.12 --role control-plane --name cp2 --identity /root/.ssh/id_ed25519 "
        "--host-key SHA256:FINGERPRINT": f"{_CONTROL_PLANES}::test_all_are_voters_and_their_pods_ready",
        "kubectl get nodes": f"{_FIVE}::test_any_control_plane_may_be_powered_off",
        "kubectl --namespace kube-system get pods --selector=component=etcd": (
            f"{_CONTROL_PLANES}::test_all_are_voters_and_their_pods_ready"
        ),
    },
    "docs/how-to/replace-a-dead-control-plane.md": {
        "kubectl get nodes": _REPLACED,
        "caisson status": f"{_NODE_ADD}::test_all_nodes_are_shown_and_each_is_asked",
        "caisson node remove cp2 --dead": _REPLACED,
        # As the lab asks a node for it (lab.node.Node.authorize).
        "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub": _REPLACED,
        "caisson node add 10.1.0.12 --role control-plane --name cp2 --identity /root/.ssh/id_ed25519 "
        "--host-key SHA256:FINGERPRINT": _REPLACED,
        "kubectl --namespace kube-system get pods --selector=component=etcd": _REPLACED,
    },
    "docs/how-to/keep-a-virtual-address.md": {
        "caisson status": f"{_VIP}::test_status_says_who_has_it",
        "caisson vip set 10.1.0.100": f"{_VIP}::test_it_is_set",
        "caisson vip away": f"{_VIP}::test_it_is_not_sent_away_where_nobody_could_take_it",
        "caisson vip back": "tests/unit/installer/operations/test_vip_away.py::test_it_moves_and_is_kept_away",
    },
    "docs/how-to/log-in-to-the-console.md": {
        "sudo caisson console login": f"{_CONSOLE}::test_a_code_becomes_a_token_that_may_what_its_role_says",
        "caisson console user add anna --role operator": f"{_CONSOLE}::test_users_come_and_go",
        "caisson console user list": f"{_CONSOLE}::test_users_come_and_go",
        "caisson console user remove anna": f"{_CONSOLE}::test_users_come_and_go",
        "kubectl --kubeconfig /etc/kubernetes/admin.conf create token anna -n caisson-users --duration 8h": (
            f"{_CONSOLE}::test_users_come_and_go"
        ),
    },
    "docs/how-to/bring-images-with-the-iso.md": {
        "caisson images list": f"{_REGISTRY_AGAIN}::test_images_that_the_site_brings_are_pushed_by_the_bootstrap",
    },
    "docs/how-to/push-an-image.md": {
        "caisson images push app.tar": "tests/sls/test_images.py::test_what_docker_save_wrote_is_pushed",
        "caisson images push app.tar --as quay.io/vendor/app:1": (
            f"{_REGISTRY}::test_two_vendors_images_of_one_name_stay_two"
        ),
        "caisson images login": "tests/unit/installer/cli/test_images.py::test_login_says_how_and_shows_no_password",
        "caisson images login --rotate": f"{_REGISTRY}::test_a_new_password_counts_at_once_and_nothing_starts_again",
        "caisson images list": "tests/sls/test_images.py::test_images_are_listed_under_the_names_that_pods_use",
        "caisson images verify": f"{_REGISTRY}::test_a_damaged_blob_is_named_and_removal_frees_what_nothing_needs",
        "caisson images remove quay.io/vendor/app:1": (
            f"{_REGISTRY}::test_a_damaged_blob_is_named_and_removal_frees_what_nothing_needs"
        ),
    },
    "docs/how-to/replace-or-add-an-iso.md": {
        "caisson media list": f"{_MEDIA}::test_both_are_listed",
        # As the lab's node does it before it adds one.
        "install -D -t /var/lib/caisson-media -o root -g root -m 0644 caisson-NEW.iso": (
            f"{_MEDIA}::test_a_file_that_others_can_change_is_refused_and_nothing_stays"
        ),
        "caisson media add /var/lib/caisson-media/caisson-NEW.iso": (
            f"{_MEDIA}::test_one_is_added_and_the_second_time_changes_nothing"
        ),
        "caisson media verify": f"{_MEDIA}::test_a_flipped_byte_is_named",
        "caisson media verify VERSION-BUILD": f"{_MEDIA}::test_a_flipped_byte_is_named",
        "caisson media add /dev/disk/by-id/usb-STICK": (f"{_MEDIA}::test_a_drive_is_taken"),
        "caisson media use VERSION-BUILD": "tests/node/test_media_use.py::test_another_one_is_used_and_both_serve",
        "caisson media remove VERSION-BUILD": f"{_MEDIA}::test_one_is_removed_and_the_other_serves_on",
    },
    "docs/how-to/serve-from-a-second-node.md": {
        "caisson media replicate": f"{_REPLICA}::test_it_serves_and_all_ask_it",
        "caisson media replicate NODE --identity FILE": f"{_REPLICA}::test_it_serves_and_all_ask_it",
        "caisson media list": f"{_REPLICA}::test_it_serves_and_all_ask_it",
        "caisson media follow": f"{_REPLICA}::test_what_the_site_pushed_follows",
        "caisson status": f"{_REPLICA}::test_it_serves_and_all_ask_it",
    },
    "docs/how-to/keep-certificates-good.md": {
        "caisson certificates list": "tests/node/test_certificate.py::test_it_is_listed_and_the_timer_runs",
        "caisson certificates renew": "tests/node/test_certificate.py::test_it_is_renewed_without_a_restart",
    },
    "docs/how-to/when-something-is-wrong.md": {
        # Typed there from the page itself, word for word.
        command.text: f"{_WRONG}::test_every_command_of_the_page_is_typed"
        for command in pages.commands(REPOSITORY_DIR / HOW_TO / "when-something-is-wrong.md")
    },
    "docs/how-to/scan-an-iso.md": {
        "./doit.sh sbom": "tests/unit/build/evidence/test_sbom.py::test_what_is_inside_is_counted"
    },
    "docs/how-to/read-the-preflight-table.md": {
        "/mnt/caisson/bootstrap.sh config init --output bootstrap.yaml": (
            f"{_CLI}::test_config_init_writes_a_file_and_overwrites_none"
        ),
        "/mnt/caisson/bootstrap.sh check --config bootstrap.yaml": _CHECK,
    },
    "docs/how-to/use-lab-nodes.md": {
        ".venv/bin/python -m lab node start node1 --iso _out/caisson-VERSION-BUILD-lab.iso": _MOUNTED,
        ".venv/bin/python -m lab node start node2": f"{_NODE}::test_the_nodes_see_each_other_in_three_networks",
        ".venv/bin/python -m lab node start node1 --bootstrapped --iso _out/caisson-VERSION-BUILD-lab.iso": (
            f"{_CHANGED}::test_a_copy_of_a_kept_disk_is_the_same_node_with_its_cluster"
        ),
        ".venv/bin/python -m lab clean --disks": "tests/unit/lab/test_kept.py::test_the_command_removes_kept_disks",
        ".venv/bin/python -m lab node list": f"{_NODE}::test_nothing_leaves_and_what_tries_is_counted",
        ".venv/bin/python -m lab node enter node1": f"{_NODE}::test_commands_have_a_clean_environment_and_a_limit",
        ".venv/bin/python -m lab node enter node1 -- systemctl is-system-running": (
            f"{_NODE}::test_a_node_is_up_soon_and_everything_in_it_runs"
        ),
        ".venv/bin/python -m lab node stop node2": f"{_NODE}::test_a_stopped_node_says_so_and_boots_again",
        ".venv/bin/python -m lab clean": _LEFTOVERS,
        ".venv/bin/python -m lab clean --all": _LEFTOVERS,
        ".venv/bin/python -m lab upstream up": f"{_HERE}::test_a_guide_is_followed",  # its fixture starts it
        ".venv/bin/python -m lab upstream status": "tests/unit/lab/test_upstream.py::test_status_names_process_and_end",
        ".venv/bin/python -m lab upstream down": f"{_HERE}::test_a_guide_is_followed",
    },
    "docs/how-to/run-the-tests.md": {
        "./doit.sh test": f"{_HERE}::test_every_command_of_the_docs_is_run",
        ".venv/bin/pytest tests/unit tests/sls": _COLLECTED,
        ".venv/bin/pytest tests/unit/build -k profile": _COLLECTED,
        ".venv/bin/pytest tests/node -x --durations=0": _COLLECTED,
        "./doit.sh soak": "tests/soak/test_soak.py::test_both_kinds_of_hosts_are_installed",
        ".venv/bin/pytest tests/unit --update-goldens": _COLLECTED,
        "git diff tests": _COLLECTED,
    },
    "docs/reference/soak.md": {
        "./doit.sh soak": "tests/soak/test_soak.py::test_both_kinds_of_hosts_are_installed",
    },
    "docs/reference/bench.md": {
        "./doit.sh bench --page": "tests/unit/build/test_bench.py::test_every_figure_can_be_taken",
    },
    "docs/reference/bootstrap-configuration.md": {
        "/mnt/caisson/bootstrap.sh config init --output FILE": (
            f"{_CLI}::test_config_init_writes_a_file_and_overwrites_none"
        ),
        "/mnt/caisson/bootstrap.sh config check --config FILE": _FIRST_CONFIGURATION,
        "/mnt/caisson/bootstrap.sh config explain KEY": f"{_CLI}::test_explain_a_key",
    },
}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Make the copy of the checkout once: what a guide built, others take up."""
    with (
        tempfile.TemporaryDirectory(prefix="caisson-guides-") as directory,
        make_site(Path(directory).resolve(), REPOSITORY_DIR) as made,
    ):
        yield made


@pytest.mark.parametrize("page", GUIDES)
def test_a_guide_is_followed(page: str, site: Site) -> None:
    guide = GUIDES[page]
    written = [command.text for command in pages.commands(REPOSITORY_DIR / HOW_TO / page)]
    assert written == list(guide.runs), (
        "the table of this module says how each command is run, in the page's order"
    )
    with guide.setting(site) as setting:
        for command, how in guide.runs.items():
            site.run(command, how, setting)


def test_every_command_of_the_docs_is_run() -> None:
    """Here, or by the test that is named for it."""
    written = {
        str(page.relative_to(REPOSITORY_DIR)): {command.text for command in pages.commands(page)}
        for page in pages.repository_pages(REPOSITORY_DIR)
    }
    known = {
        **{f"{HOW_TO}/{page}": set(guide.runs) for page, guide in GUIDES.items()},
        **{page: set(tests) for page, tests in ELSEWHERE.items()},
    }
    assert {page: found for page, found in written.items() if found} == known
    named = {test for tests in ELSEWHERE.values() for test in tests.values()}
    assert [test for test in sorted(named) if not is_test(test)] == []


def is_test(test: str) -> bool:
    """Say whether there is a test of this name, written as pytest writes it."""
    path, *names = test.split("::")
    file = REPOSITORY_DIR / path
    if not file.is_file():
        return False
    body = ast.parse(file.read_text(encoding="utf-8")).body
    for name in names:
        found = [
            node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name
        ]
        body = found[0].body if found else []
    return bool(body)


def collected(command: str) -> subprocess.CompletedProcess[str]:
    """Let a command of pytest find its tests, and run none."""
    return subprocess.run(
        ["bash", "-c", f"{command} --collect-only --quiet"],
        cwd=REPOSITORY_DIR, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_every_part_of_the_tests_is_found() -> None:
    """What pages tell people to type for a part of the tests: collected here, run by ``./doit.sh test``."""
    commands = [
        command
        for tests in ELSEWHERE.values()
        for command, test in tests.items()
        if test == _COLLECTED and command.startswith(".venv/bin/pytest ")
    ]
    assert len(commands) == 6
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ended = list(pool.map(collected, commands))
    for command, done in zip(commands, ended, strict=True):
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr}"
    subprocess.run(["git", "diff", "tests"], cwd=REPOSITORY_DIR, capture_output=True, timeout=60, check=True)

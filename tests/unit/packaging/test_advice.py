# SPDX-License-Identifier: Apache-2.0
"""What pages and messages tell a person to type: commands that do what the words beside them say, and to ours alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from installer.operations.bootstrap import PHASES
from installer.operations.certificates import KUBEADM_FIX
from installer.operations.etcd_state import SPACE_FIX
from tests import pages

REPOSITORY_DIR = Path(__file__).parents[3]
PAGES = [page for page in pages.repository_pages(REPOSITORY_DIR) if page.name != "CHANGELOG.md"]
SOURCES = sorted((REPOSITORY_DIR / "installer").rglob("*.py"))
TEXTS = [*PAGES, *(file for file in SOURCES if "vendor" not in file.parts)]
GUIDE = REPOSITORY_DIR / "docs/how-to/when-something-is-wrong.md"


def _identifier(file: Path) -> str:
    return str(file.relative_to(REPOSITORY_DIR))


@pytest.mark.parametrize("file", TEXTS, ids=_identifier)
def test_certificates_are_renewed_with_the_period_of_the_cluster(file: Path) -> None:
    """Past their end nobody answers for it, and kubeadm falls back to a year."""
    given = "--config /etc/caisson/kubeadm/init.yaml"
    text = file.read_text(encoding="utf-8")
    assert [end for end in re.findall(r"kubeadm certs renew all(.*)", text) if given not in end] == []


@pytest.mark.parametrize("file", TEXTS, ids=_identifier)
def test_the_clock_is_set_with_a_time_and_with_nobody_who_sets_it_back(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for found in re.finditer(r"timedatectl set-time(.*)", text):
        assert found[1].startswith(" 'YYYY-MM-DD hh:mm:ss'")
        assert "timedatectl set-ntp false" in text[: found.start()]


@pytest.mark.parametrize("page", PAGES, ids=_identifier)
def test_a_container_is_found_by_its_whole_name_and_in_its_namespace(page: Path) -> None:
    """A site's own etcd is no business of ours."""
    for command in pages.commands(page):
        for words in command.text.split("crictl ps")[1:]:
            if "--name" in words:
                assert "--label io.kubernetes.pod.namespace=kube-system --name '^" in words, command.text
                assert "$'" in words, command.text


def test_what_fills_etcd_is_forgotten_before_its_place_is_given_back() -> None:
    typed = " ".join(command.text for command in pages.commands(GUIDE))
    order = [
        typed.index(words)
        for words in ("keys compact --physical $revision", "keys defrag", "keys alarm disarm")
    ]
    assert order == sorted(order)
    # Source: etcdctl(1): five seconds by default, which a full database takes longer than to be written again.
    assert 'keys="--command-timeout=5m ' in typed
    assert re.search("compact.*defragment.*clear", SPACE_FIX)


@pytest.mark.parametrize("file", TEXTS, ids=_identifier)
def test_a_container_has_time_to_end(file: Path) -> None:
    """Without a time crictl kills it at once, etcd too. Source: crictl(1), stop --timeout, 0 by default."""
    text = file.read_text(encoding="utf-8")
    assert [end for end in re.findall(r"crictl stop(.*)", text) if not end.startswith(" --timeout 30 ")] == []


@pytest.mark.parametrize("file", [GUIDE, *SOURCES], ids=_identifier)
def test_who_prunes_images_hears_of_those_that_no_registry_has(file: Path) -> None:
    """Without a network they come from nowhere again."""
    text = file.read_text(encoding="utf-8")
    if "crictl rmi --prune" in text:
        assert "only imported" in text


def test_what_a_message_says_to_do_with_certificates_is_what_the_page_says() -> None:
    typed = [command.text for command in pages.commands(GUIDE)]
    for told in KUBEADM_FIX.split("'")[1], KUBEADM_FIX.partition("again: ")[2]:
        assert told in typed


def test_no_key_is_written_where_others_read_it_and_none_is_lost() -> None:
    (made,) = (command.text for command in pages.commands(GUIDE) if "kubeadm kubeconfig user" in command.text)
    assert made.startswith("(umask 077; ")
    assert " > /etc/kubernetes/kubelet.conf.new) && mv /etc/kubernetes/kubelet.conf.new " in made


def test_a_phase_is_called_what_it_does() -> None:
    titles = {phase.name: phase.title for phase in PHASES}
    assert titles["addons"] == "apply CoreDNS"

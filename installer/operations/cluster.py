# SPDX-License-Identifier: Apache-2.0
"""The phases that make Salt ready for the others: its local mode, the checks through it, its master's minion."""

from __future__ import annotations

import json
import time
from functools import partial

from installer.base.errors import CommandError, ConfigError, HostError, PreflightError, SaltError
from installer.base.run import run
from installer.config import changes
from installer.engine import pillartop, saltcall, traces
from installer.engine.beside import Signs
from installer.engine.context import Context
from installer.engine.phase import States
from installer.operations import bus, containers, media_certificate, push_login, settling

ANSWER = "the minion to answer its master"
HAND_OVER = States(("salt_minion.connected",), local=True)
PING_TIMEOUT_S = 120.0
POLL_S = 0.3
FIRST_ASK_AFTER_S = 15.0
"""After a hand-over: the minion starts, and images are pulled; a question takes two seconds of a processor."""
SERVICE_FILES = (
    "/etc/caisson/ca.crt",
    "/etc/caisson/tls/media.crt",
    "/etc/caisson/tls/media.key",
    *traces.LOGIN_FILES,
)
PUBLISH_PORT = 4505
"""Where a minion listens for its master's jobs. Source: Salt, configuration of the master, ``publish_port``."""


def run_minion_local(context: Context) -> bool:
    """Write the pillar and the local configuration; make sure that Salt starts and finds its states."""
    changed = _answer_names(context)
    changed = saltcall.write_configuration(context) or changed
    context.salt.close()  # one that has read what was there before
    names = saltcall.call(context, "cp.list_states", local=True)
    if not isinstance(names, list) or "roles.bootstrap" not in names:
        raise SaltError(
            "Salt does not find its states on the media",
            details=f"looked in {context.media_dir}/salt; found {len(names or [])} states",
            resolution="check that the media is mounted: caisson status",
        )
    return changed


def make_logins(context: Context) -> bool:
    """Make the password of whoever pushes images, and nginx' own; let nginx know the further nodes, which may not.

    A certificate that the site brings for nginx is copied here, too: its key is not for Salt to see.
    """
    is_brought = media_certificate.bring(context)
    if is_brought:
        context.ui.detail("changed: the certificate that the site brings for nginx")
    changed = pillartop.bar_pushes(context.paths, pillartop.pillars(context.paths))
    changed = pillartop.let_push(context.paths) or changed
    changed = push_login.let_push_again(context.paths) or changed
    if push_login.ensure(context.paths) or changed:
        context.ui.detail("changed: the passwords of the registry, or the nodes that may not push to it")
        return True
    return is_brought


def check_keys(context: Context) -> None:
    """Look whether the keys, certificates and passwords of Caisson's own services are there.

    Raises:
        HostError: one is not, or is empty.
    """
    named = [context.paths.at(file) for file in SERVICE_FILES]
    missing = [str(file) for file in named if not file.is_file() or file.stat().st_size == 0]
    if missing:
        raise HostError(
            "keys, certificates or passwords of nginx and the registry are not there",
            details="\n".join(missing),
            resolution="the phase salt-master makes them",
        )


def check_minion_local(context: Context) -> None:
    """Look whether Salt still works by the present configuration.

    It is not written here: phases between this one and the first that is run read it too, and would not be run.

    Raises:
        ConfigError: the configuration, or the host, says something else than when the phase was run.
    """
    outdated = saltcall.outdated_configuration(context)
    if outdated:
        raise ConfigError(
            "the configuration has changed since Salt was given it",
            details="\n".join(
                [*changes.since(context.paths, context.config, context.facts), *map(str, outdated)]
            ),
            resolution="the phase minion-local gives it the present one",
        )


def run_node_checks(context: Context) -> bool:
    """Run the preflights once more through Salt's own Python, as every later node will.

    What the phase before tried (programs, a container, packets, dnf) is not tried twice.
    """
    answer = saltcall.call(
        context, "caisson_preflight.run", [str(context.config_file)], {"with_trials": False}, local=True
    )
    if not isinstance(answer, dict) or "failed" not in answer:
        raise SaltError("the preflights gave no answer through Salt", details=str(answer)[:2000])
    if answer["failed"]:
        raise PreflightError(
            f"{len(answer['failed'])} checks failed on this node",
            details="\n".join(answer["failed"]),
            resolution="fix each, or ignore it by its code in overrides.ignorePreflights with a reason",
        )
    return False


def run_minion_connected(context: Context) -> bool:
    """Hand the minion over to the master. That the master reaches it is asked beside the next phases.

    None of them needs it: they work from the media. The phase ``verify-cluster`` waits for the answer.
    """
    changed = HAND_OVER(context)
    _begin_to_ask(context, after_s=FIRST_ASK_AFTER_S if changed else 0.0)
    return changed


def await_answer(context: Context) -> None:
    """Wait until the minion has answered its master; ask it also when the run has begun after the hand-over.

    Raises:
        SaltError: it does not answer.
    """
    _begin_to_ask(context)
    context.beside.wait(context.ui.progress)


def _begin_to_ask(context: Context, after_s: float = 0.0) -> None:
    context.beside.begin(ANSWER, partial(wait_for_answer, context, after_s=after_s))


def wait_for_answer(context: Context, signs: Signs, *, after_s: float = 0.0) -> None:
    """Ask until the minion answers its master, with a state's file and its pillar, or nobody wants to know.

    The first time is in ``after_s`` seconds, or as soon as it is waited for.

    Raises:
        SaltError: it does not, for :data:`PING_TIMEOUT_S` since only this is waited for.
    """
    waited_since: float | None = None
    asks_from = time.monotonic() + after_s
    while not signs.stop.wait(POLL_S):
        if time.monotonic() < asks_from and not signs.awaited.is_set():
            continue
        last = _fault(context)
        if not last:
            return
        if not signs.awaited.is_set():
            continue
        if waited_since is None:
            waited_since = time.monotonic()
        elif time.monotonic() - waited_since > PING_TIMEOUT_S:
            raise SaltError(
                f"the minion does not answer its master after {PING_TIMEOUT_S:.0f} s",
                details=last,
                resolution=f"see: journalctl -u salt-minion -n 50; and: {containers.log('salt-master')}",
            )


def _fault(context: Context) -> str:
    """Ask once; return "" or why there was no answer. A command that did not end in time is one of the reasons."""
    try:
        # A ping that nobody hears takes its whole timeout: ask when the minion listens.
        return _ask(context) if _listens_to_master() else "it is not connected to the master"
    except CommandError as exc:
        return exc.message


def _answer_names(context: Context) -> bool:
    """Let /etc/hosts answer for the endpoint and for the host's own name (see ``installer.config.hosts``).

    Further control planes stand behind the endpoint's name too, after this one.
    """
    return settling.name_cluster(context.paths, saltcall.pillar(context))


def _listens_to_master() -> bool:
    """Tell whether a connection from this host to the port where a master publishes its jobs is established."""
    connections = ["state", "established", f"( dport = :{PUBLISH_PORT} )"]
    return bool(run(["ss", "--tcp", "--numeric", "--no-header", *connections], timeout_s=30).stdout.strip())


def _ask(context: Context) -> str:
    """Ask the minion through the master; return "" when it answers as it should, else what was said instead.

    The minion asks the master for a state's file, and says which pillar it has: all that its master is for. (Values
    of the pillar come back as asterisks.)
    """
    functions = ["cp.hash_file,pillar.ls", "salt://top.sls", ","]
    answer = bus.ask_why(context.facts.node_name, *functions)
    if answer.value is bus.NO_ANSWER:
        return answer.why or "no answer"
    try:
        is_good = bool(answer.value["cp.hash_file"]["hsum"]) and "caisson" in answer.value["pillar.ls"]
    except (TypeError, KeyError):
        is_good = False
    return "" if is_good else f"it answers {json.dumps(answer.value)[-500:]}"

# SPDX-License-Identifier: Apache-2.0
"""Run Salt on this host: local mode from the media, or connected to the master; read its answer; tell its progress.

The installer calls ``salt-call`` and nothing else of Salt: the answer comes on its own standard output, so there is
no job to poll and no minion to wait for. One stays for all calls of a mode (saltworker.py). Local mode has a
configuration directory of its own, which the minion never reads: nothing of it can be left behind in ``/etc/salt``.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from installer.base import files
from installer.base.errors import CommandError, PackageError, SaltError
from installer.config import changes
from installer.config.ports import BOOTSTRAP_ROLE
from installer.engine import controlplanes, mediaservers, pillartop
from installer.engine.context import Context
from installer.engine.saltworker import LOCAL_DIR

LOG_NAME = "salt.log"
SILENCE_LIMIT_S = 3600.0
"""How long a call may go on without a sign: the next state, or what a state waits for.

Timeouts nest: a state's own commands and waits give up earlier (a test compares), so that what took too long is
named by its state. How long the whole call takes is not limited: that depends on how many states there are.
"""
FOLLOW_INTERVAL_S = 0.5
PACKAGE_STATES = "caisson_package_|-"
PROGRESS_LINE = re.compile(r"(?:Running state \[(?P<state>.+?)\] at time|caisson waits: (?P<wait>.+))")


@dataclass(frozen=True)
class Applied:
    """What a state run did: how many states there were, the ids of those that changed something, what each said.

    ``failed`` are those that did not do what they should; what was not run because of another one said nothing.
    """

    total: int
    changed: tuple[str, ...]
    said: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    failed: tuple[str, ...] = field(default=(), repr=False)


def pillar(context: Context) -> dict[str, Any]:
    """Return the pillar: the user's facts, validated once, what the media holds, the control planes known here."""
    config, facts, product = context.config, context.facts, context.product
    kept = changes.values(config, facts)
    return {
        "version": product.version,
        "product": product.summary,
        "built": product.source_date_epoch,
        "self_dir": str(context.paths.self_dir(product.full_version)),
        "media_dir": str(context.media_dir),
        **kept,
        "node": {**kept["node"], "role": BOOTSTRAP_ROLE},
        # A resolver on a loopback address is not one that a pod could ask.
        "nameservers": [entry for entry in facts.nameservers if not entry.startswith(("127.", "::1"))],
        "versions": dict(product.versions),
        "images": {
            name: {
                "reference": image.reference,
                "digest": image.digest,
                "platform_digest": image.platform_digest,
                "preload": image.is_preloaded,
            }
            for name, image in sorted(product.images.items())
        },
        "manifests": {name: {"path": entry.path} for name, entry in sorted(product.manifests.items())},
        "media_servers": mediaservers.addresses(context, facts.node_name),
        "media_name": config.media_name,
        **_control_planes(context),
    }


def _control_planes(context: Context) -> dict[str, Any]:
    """Return whom etcd lets in, and who is behind the endpoint's name after this host: a virtual address, alone."""
    known, vip = controlplanes.known(context), context.config.networks.vip
    others = controlplanes.endpoint_addresses(known, context.facts.node_name)[1:]
    others = others if vip is None else [str(vip)]
    elsewhere = {context.config.endpoint: others} if others else {}
    return {"control_planes": controlplanes.listed(known), "elsewhere": elsewhere}


def local_configuration(context: Context) -> dict[str, Any]:
    """Return the minion configuration of local mode: states from the mounted media, no master. Pure."""
    return {
        "id": context.facts.node_name,
        "file_client": "local",
        "file_roots": {"base": [f"{context.media_dir}/salt"]},
        "pillar_roots": {"base": [str(context.paths.pillar_dir)]},
        # Straight from the media: nothing is synchronised, so nothing can be stale.
        "module_dirs": [f"{context.media_dir}/salt/_modules"],
        "states_dirs": [f"{context.media_dir}/salt/_states"],
        "cachedir": "/var/cache/caisson/salt-local",
        "enable_fqdns_grains": False,
        "enable_gpu_grains": False,
        # A function that is nowhere is looked for in modules of such a name only, not in all three hundred: a second
        # for each phase. Source: Salt, salt/loader/lazy.py, LazyLoader._iter_files.
        "lazy_loader_strict_matching": True,
    }


def write_configuration(context: Context) -> bool:
    """Write the pillar and the configuration of local mode; return whether anything changed."""
    wanted = _configuration(context)
    changes = [files.write_file(path, text, mode=0o600, dir_mode=0o700) for path, text in wanted.items()]
    return any(changes)


def outdated_configuration(context: Context) -> list[Path]:
    """Return which files of Salt's are not there, or say other things than ``write_configuration`` would write."""
    return [path for path, text in _configuration(context).items() if not _holds(path, text)]


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == text.encode()
    except OSError:
        return False


def _configuration(context: Context) -> dict[Path, str]:
    directory, others = context.paths.pillar_dir, pillartop.known(context.paths)
    return {
        directory / "top.sls": pillartop.render(pillartop.top(context.facts.node_name, others)),
        directory / "caisson.sls": pillartop.render({"caisson": pillar(context)}),
        context.paths.at(LOCAL_DIR) / "minion": pillartop.canonical(local_configuration(context)),
    }


def apply(
    context: Context,
    sls: Sequence[str],
    *,
    local: bool,
    tell: Callable[[Applied], None] = lambda _: None,
) -> Applied:
    """Apply the states ``sls``, in this order, and return what changed; ``tell`` is told in any case, before it raises.

    Raises:
        SaltError: a state failed (each is named with its comment), or Salt gave no answer.
    """
    answer = call(context, "state.apply", [",".join(sls)], local=local)
    if not isinstance(answer, Mapping):
        faults = answer if isinstance(answer, list) else [answer]
        raise SaltError(
            f"Salt cannot apply {', '.join(sls)}",
            details="\n".join(str(fault) for fault in faults),
            resolution=f"see {_log_file(context)}; the states are part of the media",
        )
    tell(summarise(answer))
    return evaluate(answer, sls, log_file=_log_file(context))


def summarise(states: Mapping[str, Mapping[str, Any]]) -> Applied:
    """Return what Salt's answer to ``state.apply`` says was done, and what was not."""
    ran = {key: state for key, state in states.items() if not _is_consequence(state)}
    failed = (state for state in ran.values() if state.get("result") is False)
    return Applied(
        total=len(states),
        changed=tuple(_id(state) for state in states.values() if state.get("changes")),
        said={_id(state): str(state.get("comment", "")) for state in ran.values()},
        failed=tuple(_id(state) for state in failed),
    )


def _id(state: Mapping[str, Any]) -> str:
    return str(state.get("__id__", "?"))


def evaluate(states: Mapping[str, Mapping[str, Any]], sls: Sequence[str], *, log_file: Path) -> Applied:
    """Turn Salt's answer to ``state.apply`` into counts; raise for failed states.

    States that only failed because of another one are left out of the message.

    Raises:
        PackageError: nothing but packages could not be installed.
        SaltError: any other state failed.

    >>> evaluate({"x": {"__id__": "A", "result": True, "changes": {"f": "new"}}}, ["a"], log_file=Path("l"))
    Applied(total=1, changed=('A',))
    """
    failed = {key: state for key, state in states.items() if state.get("result") is False}
    causes = {key: state for key, state in failed.items() if not _is_consequence(state)} or failed
    if causes:
        details = []
        for state in causes.values():
            details.append(f"{state.get('__sls__', '?')}: {state.get('__id__', state.get('name', '?'))}")
            details += [f"  {line}" for line in str(state.get("comment", "")).strip().splitlines()]
        are_packages = all(key.startswith(PACKAGE_STATES) for key in causes)
        raise (PackageError if are_packages else SaltError)(
            f"{len(causes)} state{'s' if len(causes) > 1 else ''} of {', '.join(sls)} failed",
            details="\n".join(details),
            resolution=f"fix what is named above and run the same command again; log: {log_file}",
        )
    return summarise(states)


def call(
    context: Context,
    function: str,
    arguments: Sequence[Any] = (),
    options: Mapping[str, Any] | None = None,
    *,
    local: bool,
) -> Any:
    """Let Salt run one execution function with JSON arguments, and return what it returned.

    Raises:
        SaltError: Salt is not installed, took too long, the function raised, or Salt ended.
    """
    log_file = _log_file(context)
    request = {"function": function, "args": list(arguments), "kwargs": dict(options or {})}
    follower = _Follower(log_file, context)
    with follower:
        try:
            worker = context.salt.worker(log_file, local=local)
            text = worker.ask(
                json.dumps(request), timeout_s=SILENCE_LIMIT_S, last_sign=lambda: follower.last_sign
            )
            answer: dict[str, Any] = json.loads(text)
        except (CommandError, ValueError) as exc:
            context.salt.close()
            details = exc.details if isinstance(exc, CommandError) else str(exc)
            if follower.text:
                details = f"last heard of: {follower.text}\n{details}"
            raise SaltError(
                f"Salt gave no answer to {function}", details=details, resolution=f"see {log_file}"
            ) from exc
    if "error" in answer:
        raise SaltError(
            f"Salt cannot run {function}", details=str(answer["error"]), resolution=f"see {log_file}"
        )
    return answer["return"]


class _Follower:
    """Reads the log of Salt while it runs and tells the user which state it is at.

    ``text`` is what was heard last, ``last_sign`` when, by the monotonic clock.
    """

    def __init__(self, log_file: Path, context: Context) -> None:
        self._log_file = log_file
        self._ui = context.ui
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="caisson-salt-log", daemon=True)
        self._offset = log_file.stat().st_size if log_file.exists() else 0
        self.text = ""
        self.last_sign = 0.0

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def _follow(self) -> None:
        while not self._stop.wait(FOLLOW_INTERVAL_S):
            text = self._last_progress()
            if text:
                self.text, self.last_sign = text, time.monotonic()
                self._ui.progress(text)

    def _last_progress(self) -> str | None:
        try:
            with self._log_file.open("rb") as stream:
                stream.seek(self._offset)
                content = stream.read()
        except OSError:
            return None
        self._offset += len(content)
        found = list(PROGRESS_LINE.finditer(content.decode("utf-8", errors="replace")))
        return (found[-1]["state"] or found[-1]["wait"]).strip() if found else None


def _is_consequence(state: Mapping[str, Any]) -> bool:
    comment = str(state.get("comment", ""))
    return comment.startswith(("One or more requisite failed", "State was not run because"))


def _log_file(context: Context) -> Path:
    return context.paths.log_dir / LOG_NAME

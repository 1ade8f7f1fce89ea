"""Taking a lab away, from nothing but its name, whatever state it is in.

Order: processes, namespaces (their links and routes go with them), control groups, the directory
last. Every step is safe to repeat, errors are gathered and do not stop what follows. A lab that was
killed half-way through being built, or half-way through this, is taken down like any other.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from netloom.kernel import namespaces
from netloom.lab import engines, processes, record
from netloom.lab.names import parse_namespace
from netloom.lab.processes import Process
from netloom.model.errors import InvalidConfig, NetloomError


def namespaces_of(lab: str) -> list[str]:
    """Return the names of all namespaces that belong to ``lab``, recorded or not."""
    found = []
    for name in namespaces.names("nl-"):
        parsed = parse_namespace(name)
        if parsed and parsed.lab == lab:
            found.append(name)
    return found


def processes_in(names: list[str]) -> list[Process]:
    """Return the living processes inside the named namespaces."""
    inside = processes.by_namespace()
    found = []
    for name in names:
        try:
            pids = inside.get(namespaces.identity(namespaces.path(name)), [])
        except InvalidConfig:
            continue  # a plain file: its creator was killed half-way
        found += [process for pid in pids if (process := Process.of(pid))]
    return found


def end_processes(lab: str, names: list[str]) -> None:
    """End every process inside ``names``, and with them all that ``lab`` started elsewhere.

    Whoever calls from within the lab (``lab exec … netloom lab down``) is spared.
    """
    spare = processes.ancestry()
    # Twice: what a dying process had just started is found the second time.
    for _ in range(2):
        found = {*processes_in(names), *processes.members(lab)}
        if not found - {p for p in found if p.pid in spare}:
            return
        processes.end(found, spare)


def down(lab: str) -> bool:
    """Remove the lab; return whether anything of it was there.

    Raises the first error after all steps were tried.
    """
    with _undisturbed():
        return _down(lab)


def _down(lab: str) -> bool:
    names = namespaces_of(lab)
    there = bool(names) or record.directory(lab).exists()
    errors: list[NetloomError] = []
    try:
        end_processes(lab, names)
    except NetloomError as error:
        errors.append(error)
    for name in names:
        try:
            namespaces.delete(name)
        except NetloomError as error:
            errors.append(error)
    try:
        engines.remove_cgroups(lab)
    except NetloomError as error:
        errors.append(error)
    if errors:
        raise errors[0]
    record.remove(lab)
    return there


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let a second Ctrl-C not leave half of what the first one asked to be removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def remove_namespace(name: str) -> None:
    """End what runs inside one namespace and remove it; absent is well."""
    processes.end(processes_in([name]), processes.ancestry())
    namespaces.delete(name)


def sweep() -> list[str]:
    """Take down the labs whose owner is dead; return their names."""
    record.remove_drafts()
    swept = []
    for name in record.names():
        try:
            abandoned = record.load(name).abandoned
        except InvalidConfig:
            continue  # being removed by another right now, or not a lab
        if abandoned and down(name):
            swept.append(name)
    return swept

"""The agent of this host in the foreground, until SIGTERM or SIGINT, whatever command line asked.

The start is in the order of what traffic waits for. First what the first turn needs is loaded and
the turn is asked for; the local API's server and the drivers are loaded when it is done, since
whoever asks them for something would have to wait for that turn anyway. Until then Python's
collector of cycles rests: all that a start makes (modules, the picture of the cluster, what should
be in the kernel) is there to stay, and looking through it again and again for garbage took a tenth
of a start with thousands of peers.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import sys
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from netloom.cli.ending import Ending
from netloom.cli.settings import Settings, flannel_format
from netloom.model import addr
from netloom.store.opening import check_url

if TYPE_CHECKING:
    from netloom.agent.agent import Agent
    from netloom.agent.settings import AgentSettings

_log = logging.getLogger(__name__)
_READY_LOOK_S = 0.05
#: A store that is away at boot must not hold up the boot, nor be a reason to be restarted: after
#: this time the agent, which serves what it can, counts as started.
_READY_PATIENCE_S = 30.0
#: The first turn has the processor for itself for so long. Where the store is away and nothing is
#: known of the cluster there is none: then the API has to say so.
_HEAD_START_S = 1.0
_HEAD_START_LOOK_S = 0.01
#: For so long a thread keeps Python to itself while another wants it. At the usual 5 ms a turn that
#: waited for the kernel would wait for the upkeep's thread as well, at each of its system calls.
_SWITCH_S = 0.0005
#: Of glibc's malloc.h.
_M_ARENA_MAX = -8


def run(settings: Settings) -> None:
    """Run the agent until SIGTERM or SIGINT. Raises what its start raises."""
    check_url(settings.datastore)  # a store that is away is waited for, this for nothing
    gc.disable()  # until _settle
    _use_one_heap()
    sys.setswitchinterval(_SWITCH_S)
    from netloom.agent.agent import Agent
    from netloom.agent.logs import configure

    configure(settings.log_format, settings.log_level)
    stop = Ending()
    with Agent(_agent_settings(settings)) as running:
        _give_head_start(running, stop)
        _serve(running, settings, stop)


def _use_one_heap() -> None:
    """Let all threads share one heap: each of its own keeps what the others could use.

    Python's threads take turns anyway. To be called before there are threads; see mallopt(3).
    """
    with suppress(AttributeError):  # a C library without it
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _agent_settings(settings: Settings) -> AgentSettings:
    from netloom.agent.settings import AgentSettings

    form = flannel_format(settings.datastore)
    return AgentSettings(
        settings.datastore,
        settings.state_dir,
        settings.run_dir,
        settings.socket,
        settings.host_id,
        settings.host_name,
        settings.interface,
        settings.audit_interval_s,
        settings.metrics_listen,
        settings.subnet_file,
        form.network if form else "default",
        settings.forward_rules,
        settings.secrets_dir,
    )


def _give_head_start(running: Agent, stop: Ending) -> None:
    """Wait until the first turn is done, a while at most: what is loaded now would slow it down."""
    patience = time.monotonic() + _HEAD_START_S
    while running.engine.turn is None and time.monotonic() < patience:
        if stop.wait(_HEAD_START_LOOK_S):
            return


def _serve(running: Agent, settings: Settings, stop: Ending) -> None:
    from netloom.agent import http, metrics
    from netloom.drivers.cni.server import routes as cni_routes

    public = metrics.public_routes(running.status)
    routes = {**running.routes(), **public, **cni_routes(running.attachments)}
    with ExitStack() as stack:
        if settings.metrics_listen:
            stack.enter_context(http.serve_public(settings.metrics_listen, public))
        # Last: who is answered here takes the agent for started, and nothing may fail after it.
        stack.enter_context(http.serve(settings.socket, routes))
        _tell(running, stop)


def _tell(running: Agent, stop: Ending) -> None:
    """Tell the service manager when the agent is ready and, as often as it asks, that it turns.

    An agent whose loop is stuck does not say that it is alive: the manager starts a new one, which
    costs the data path nothing.
    """
    from netloom.agent.agent import STALL_S
    from netloom.agent.notify import Notifier

    notifier = Notifier()
    patience = time.monotonic() + _READY_PATIENCE_S
    while not stop.wait(_READY_LOOK_S) and not running.ready and time.monotonic() < patience:
        pass
    if not stop.wait(0):
        notifier.ready(_in_a_line(running))
        _log.info(_in_a_line(running))
        _settle()
    while not stop.wait(notifier.heartbeat_s):
        if running.engine.stalled_s() < STALL_S:
            notifier.alive()
    notifier.stopping()


def _settle() -> None:
    """Let the collector of cycles work from now on, and spare it what the start has made.

    What is frozen is looked at no more, so that a peer that joins late pays nothing for thousands
    that are there; it is still freed when the last reference goes. What the start needed for a
    while goes back to the system.
    """
    addr.forget()
    gc.collect()
    gc.freeze()
    gc.enable()
    with suppress(AttributeError):  # a C library without it
        ctypes.CDLL(None).malloc_trim(0)


def _in_a_line(running: Agent) -> str:
    """Return "ready", or what stands in the way, as ``systemctl status`` shall show it."""
    if running.ready:
        return "ready"
    problems = running.status().problems
    return f"not ready: {problems[0].text if problems else 'the first turn is not done'}"

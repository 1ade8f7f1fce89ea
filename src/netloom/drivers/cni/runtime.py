"""A small CNI runtime: it runs the plugins of a list as container runtimes do.

The lab attaches its containers with it, and tests use it to stand our plugin in a chain with
others. It follows libcni's behaviour: ADD forward and DEL backward, each plugin gets the one
before's result, declared capabilities only, results kept between ADD and DEL. On a failed ADD it
undoes nothing by itself: as with libcni, the caller issues the DEL.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from netloom.drivers.cni import codes
from netloom.drivers.cni.cache import Cache, Cached
from netloom.drivers.cni.conflist import Conflist
from netloom.drivers.cni.versions import at_least
from netloom.model.errors import InvalidConfig, NetloomError, Unavailable

NONE: Mapping[str, Any] = MappingProxyType({})


class PluginFailed(NetloomError):
    """A plugin answered with an error; ``code`` and ``details`` are the protocol's."""

    def __init__(self, plugin: str, code: int, message: str, details: str = "") -> None:
        super().__init__(f"{plugin}: {message} (CNI code {code})", hint=details)
        self.plugin = plugin
        self.code = code
        self.message = message
        self.details = details
        self.exit_code = codes.exit_code_of(code)


@dataclass(frozen=True, slots=True)
class Attachment:
    """One interface of one container: the four values that every plugin call is about.

    ``arguments`` become CNI_ARGS, ``capabilities`` are offered to the plugins that declare them.
    """

    container_id: str
    netns: str
    ifname: str = "eth0"
    capabilities: Mapping[str, Any] = field(default_factory=lambda: NONE)
    arguments: tuple[tuple[str, str], ...] = ()

    def variables(self) -> dict[str, str]:
        """Return the environment variables that name this attachment."""
        return {
            "CNI_CONTAINERID": self.container_id,
            "CNI_NETNS": self.netns,
            "CNI_IFNAME": self.ifname,
            "CNI_ARGS": ";".join(f"{key}={value}" for key, value in self.arguments),
        }


class Runtime:
    """Runs plugins found in ``bin_dirs``, in the environment ``env``.

    ``prefix`` is put before each plugin's command, e.g. ``("nsenter", "--net=/run/netns/h1")``
    where the host is a namespace. A plugin gets ``timeout_s``, then it is killed.
    """

    def __init__(
        self,
        bin_dirs: Sequence[Path | str],
        cache_dir: Path,
        env: Mapping[str, str] | None = None,
        *,
        prefix: Sequence[str] = (),
        timeout_s: float = 120.0,
    ) -> None:
        self._bin_dirs = tuple(Path(directory) for directory in bin_dirs)
        self._cache = Cache(cache_dir)
        self._env = dict(os.environ if env is None else env)
        self._prefix = tuple(prefix)
        self._timeout_s = timeout_s

    def add(
        self,
        conflist: Conflist,
        container_id: str,
        netns: str,
        ifname: str = "eth0",
        capability_args: Mapping[str, Any] = NONE,
        *,
        arguments: Sequence[tuple[str, str]] = (),
    ) -> dict[str, Any]:
        """Attach and return the chain's final result. Raises PluginFailed at the first failure."""
        attachment = Attachment(container_id, netns, ifname, capability_args, tuple(arguments))
        result: Any = None
        for plugin in conflist.plugins:
            config = conflist.configuration(plugin, capability_args, result)
            result = self._run("ADD", plugin.type, config, attachment.variables())
            if not isinstance(result, dict):
                raise PluginFailed(plugin.type, codes.BAD_JSON, "ADD printed no result")
        cached = Cached(
            conflist.name,
            container_id,
            ifname,
            netns,
            result,
            capability_args,
            attachment.arguments,
        )
        self._cache.write(cached, json.dumps(dict(conflist.source)).encode())
        return dict(result)

    def delete(
        self, conflist: Conflist, container_id: str, netns: str, ifname: str = "eth0"
    ) -> None:
        """Detach; repeats are safe. Goes on to no earlier plugin once one has failed."""
        known = self._cache.read(conflist.name, container_id, ifname)
        attachment = _attachment(known, container_id, netns, ifname)
        previous = known.result if known and at_least(conflist.version, "0.4.0") else None
        for plugin in reversed(conflist.plugins):
            config = conflist.configuration(plugin, attachment.capabilities, previous)
            self._run("DEL", plugin.type, config, attachment.variables())
        self._cache.forget(conflist.name, container_id, ifname)

    def check(
        self, conflist: Conflist, container_id: str, netns: str, ifname: str = "eth0"
    ) -> None:
        """Ask each plugin whether the attachment is as it was added. Raises PluginFailed."""
        if not at_least(conflist.version, "0.4.0"):
            raise InvalidConfig(
                f"network {conflist.name}: cniVersion {conflist.version} has no CHECK",
                field="cniVersion",
                value=conflist.version,
                hint="use 0.4.0 or later",
            )
        if conflist.disable_check:
            return
        known = self._cache.read(conflist.name, container_id, ifname)
        attachment = _attachment(known, container_id, netns, ifname)
        for plugin in conflist.plugins:
            previous = known.result if known else None
            config = conflist.configuration(plugin, attachment.capabilities, previous)
            self._run("CHECK", plugin.type, config, attachment.variables())

    def gc(self, conflist: Conflist, valid: Collection[tuple[str, str]]) -> None:
        """Remove all attachments of the list's network but the ``valid`` (container id, ifname).

        Goes on after failures; raises the first at the end.
        """
        if conflist.disable_gc:
            return
        failures: list[NetloomError] = []
        for cached in list(self._cache.of_network(conflist.name)):
            if (cached.container_id, cached.ifname) not in valid:
                try:
                    self.delete(conflist, cached.container_id, cached.netns, cached.ifname)
                except NetloomError as error:
                    failures.append(error)
        if at_least(conflist.version, "1.1.0"):
            failures += self._gc_plugins(conflist, valid)
        if failures:
            raise failures[0]

    def status(self, conflist: Conflist) -> None:
        """Ask each plugin whether it could serve an ADD. Raises PluginFailed (50, 51)."""
        if not at_least(conflist.version, "1.1.0"):
            return
        for plugin in conflist.plugins:
            self._run("STATUS", plugin.type, conflist.configuration(plugin, NONE), {})

    def versions(self, plugin: str) -> list[str]:
        """Return the specification versions that ``plugin`` says it supports."""
        answer = self._run("VERSION", plugin, {"cniVersion": "1.1.0"}, {})
        found = answer.get("supportedVersions") if isinstance(answer, dict) else None
        return [str(version) for version in found or ()]

    def _gc_plugins(
        self, conflist: Conflist, valid: Collection[tuple[str, str]]
    ) -> list[NetloomError]:
        keep = [{"containerID": container, "ifname": ifname} for container, ifname in sorted(valid)]
        failures: list[NetloomError] = []
        for plugin in conflist.plugins:
            config = conflist.configuration(plugin, NONE)
            config["cni.dev/valid-attachments"] = keep
            config["cni.dev/attachments"] = keep  # the key's older, misspelt name
            try:
                self._run("GC", plugin.type, config, {})
            except NetloomError as error:
                failures.append(error)
        return failures

    def _find(self, plugin: str) -> Path:
        for directory in self._bin_dirs:
            path = directory / plugin
            if path.is_file() and os.access(path, os.X_OK):
                return path
        places = os.pathsep.join(str(directory) for directory in self._bin_dirs)
        raise InvalidConfig(
            f"no CNI plugin {plugin!r} in {places}",
            field="type",
            value=plugin,
            hint="install containernetworking-plugins, or `netloom install` for our own",
        )

    def _run(
        self, command: str, plugin: str, config: Mapping[str, Any], variables: Mapping[str, str]
    ) -> Any:
        """Run one plugin and return its answer, None when it printed nothing."""
        env = {key: value for key, value in self._env.items() if not key.startswith("CNI_")}
        env |= variables
        env |= {
            "CNI_COMMAND": command,
            "CNI_PATH": os.pathsep.join(str(directory) for directory in self._bin_dirs),
        }
        try:
            done = subprocess.run(
                [*self._prefix, str(self._find(plugin))],
                input=json.dumps(config).encode(),
                env=env,
                stdout=subprocess.PIPE,
                timeout=self._timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(
                f"{plugin}: no answer to {command} in {self._timeout_s:g} s"
            ) from None
        except OSError as error:
            raise InvalidConfig(f"{plugin}: cannot be started: {error}") from None
        return _answer(command, plugin, done)


def _attachment(known: Cached | None, container_id: str, netns: str, ifname: str) -> Attachment:
    """Name an attachment with the arguments that it was added with, where we know them."""
    if known is None:
        return Attachment(container_id, netns, ifname)
    return Attachment(container_id, netns, ifname, known.capabilities, known.arguments)


def _answer(command: str, plugin: str, done: subprocess.CompletedProcess[bytes]) -> Any:
    text = done.stdout.strip()
    answer: Any = None
    readable = True
    try:
        answer = json.loads(text) if text else None
    except ValueError:
        readable = False
    if done.returncode == 0 and readable:
        return answer
    if isinstance(answer, dict) and isinstance(answer.get("code"), int):
        raise PluginFailed(
            plugin, answer["code"], str(answer.get("msg", "")), str(answer.get("details", ""))
        )
    shown = text[:200].decode(errors="replace") or "nothing"
    raise PluginFailed(
        plugin, codes.BAD_JSON, f"{command} ended with {done.returncode} and printed {shown}"
    )

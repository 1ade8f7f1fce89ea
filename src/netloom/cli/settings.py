"""The settings of an agent and of every verb: where each comes from, and what it is.

Flags win over ``NETLOOM_*`` variables, those over the file (``/etc/netloom/netloom.yaml`` or
``--config``), that over defaults. Each value remembers its origin, so that an error names the place
where a person must edit.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from netloom.cli import setting_values
from netloom.cli.host_identity import remembered_host_id
from netloom.model.errors import InvalidConfig, NotPermitted
from netloom.model.fields import nearest
from netloom.model.host import parse_host_id

if TYPE_CHECKING:
    from netloom.model.addr import Family
    from netloom.store.flannel.layout import Format

DEFAULT_CONFIG = Path("/etc/netloom/netloom.yaml")
#: Where flannel writes it, and so the default where flannel's format is in use.
SUBNET_FILE = Path("/run/flannel/subnet.env")
ENV_PREFIX = "NETLOOM_"
LOG_FORMATS = ("text", "json")
LOG_LEVELS = ("debug", "info", "warning", "error")
UNDERLAY_METHODS = ("default-route",)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its field of :class:`Settings`, its key in the file, how it is read."""

    name: str
    key: str
    parse: Callable[[object, str], Any]
    help: str
    metavar: str = "TEXT"

    @property
    def env(self) -> str:
        """The environment variable's name."""
        return ENV_PREFIX + self.flag.removeprefix("--").replace("-", "_").upper()

    @property
    def flag(self) -> str:
        """The flag's name; units are in the help text."""
        return "--" + self.name.removesuffix("_s").replace("_", "-")


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "datastore",
        "datastore",
        setting_values.url,
        "The cluster's store: sqlite:///PATH, or etcd://HOST:PORT,HOST:PORT.",
        "URL",
    ),
    Setting(
        "state_dir", "stateDir", setting_values.path, "Folder of what must survive a reboot.", "DIR"
    ),
    Setting("run_dir", "runDir", setting_values.path, "Folder of what must not.", "DIR"),
    Setting("socket", "socket", setting_values.path, "The agent's unix socket.", "PATH"),
    Setting("host_id", "hostId", parse_host_id, "This host's identity, kept for ever.", "ID"),
    Setting("host_name", "hostName", setting_values.text, "This host's name for people.", "NAME"),
    Setting(
        "metrics_listen",
        "metricsListen",
        setting_values.text,
        "Serve /metrics, /healthz, /readyz on this TCP address too.",
        "ADDR:PORT",
    ),
    Setting(
        "log_format", "logFormat", setting_values.one_of(*LOG_FORMATS), "text or json.", "FORMAT"
    ),
    Setting(
        "log_level",
        "logLevel",
        setting_values.one_of(*LOG_LEVELS),
        "debug, info, warning or error.",
        "LEVEL",
    ),
    Setting(
        "audit_interval_s",
        "auditInterval",
        setting_values.seconds,
        "Look at the whole kernel so often, in seconds.",
        "SECONDS",
    ),
    Setting(
        "underlay",
        "underlay",
        setting_values.one_of(*UNDERLAY_METHODS),
        "How the address that peers reach us at is chosen.",
        "METHOD",
    ),
    Setting(
        "interface",
        "interface",
        setting_values.interface,
        "Use this interface's address instead: a name, an address, or methods in order, such as "
        "regex=^eth;can-reach=192.0.2.1;public=203.0.113.7.",
        "NAME",
    ),
    Setting(
        "subnet_file",
        "subnetFile",
        setting_values.path_or_none,
        "Tell container engines of the host's block in this file, as flannel does, or 'none'.",
        "PATH",
    ),
    Setting(
        "forward_rules",
        "forwardRules",
        setting_values.truth,
        "true: accept our traffic inside of iptables where its FORWARD chain drops. Or false.",
        "BOOL",
    ),
    Setting(
        "secrets_dir",
        "secretsDir",
        setting_values.path,
        "Folder of the passwords that resources name: DIR/NAME/KEY, readable by root alone.",
        "DIR",
    ),
)
BY_NAME: Mapping[str, Setting] = {setting.name: setting for setting in SETTINGS}


@dataclass(frozen=True)
class Settings:
    """All settings, read and checked. ``origins`` says for each field where its value came from."""

    datastore: str
    state_dir: Path
    run_dir: Path
    socket: Path
    host_name: str
    metrics_listen: str = ""
    log_format: str = "text"
    log_level: str = "info"
    audit_interval_s: float = 30.0
    underlay: str = "default-route"
    interface: str = ""
    subnet_file: Path | None = None
    forward_rules: bool = True
    secrets_dir: Path = Path("/etc/netloom/secrets")
    given_host_id: str = ""
    origins: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @cached_property
    def host_id(self) -> str:
        """This host's identity: the one given, else the one on disk, made on first use.

        It depends on the machine and never on an address, and once written it never changes.
        """
        return self.given_host_id or remembered_host_id(self.state_dir, self.host_name)

    def render(self) -> dict[str, Any]:
        """Return ``{key: {value, origin}}`` of all settings, for people and for JSON."""
        return {
            setting.key: {
                "value": _shown(getattr(self, setting.name)),
                "origin": self.origins.get(setting.name, "default"),
            }
            for setting in SETTINGS
        }


def load_settings(
    flags: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    config_path: str | Path | None = None,
) -> Settings:
    """Read all settings. ``flags`` are by field name; None means not given.

    ``config_path`` (or ``NETLOOM_CONFIG``) must exist; the default file need not. Raises
    InvalidConfig that names the flag, variable or file key to edit.
    """
    env = os.environ if env is None else env
    _refuse_misspelt(env)
    values, origins = _from_file(config_path or env.get("NETLOOM_CONFIG"))
    if said := _calicos_methods(env):
        values["interface"] = setting_values.interface(said, " and ".join(_METHODS.values()))
        origins["interface"] = " and ".join(name for name in _METHODS.values() if env.get(name))
    for setting in SETTINGS:
        if env.get(setting.env):
            values[setting.name] = setting.parse(env[setting.env], setting.env)
            origins[setting.name] = setting.env
        given = (flags or {}).get(setting.name)
        if given is not None:
            values[setting.name] = setting.parse(given, setting.flag)
            origins[setting.name] = setting.flag
    state_dir = values.setdefault("state_dir", Path("/var/lib/netloom"))
    run_dir = values.setdefault("run_dir", Path("/run/netloom"))
    values.setdefault("socket", run_dir / "agent.sock")
    values.setdefault("datastore", f"sqlite://{state_dir}/cluster.db")
    values.setdefault("host_name", os.uname().nodename)
    if flannel_format(values["datastore"]):
        values.setdefault("subnet_file", SUBNET_FILE)
    values["given_host_id"] = values.pop("host_id", "")
    return Settings(**values, origins=MappingProxyType(origins))


#: Calico's variables of how each family's underlay is chosen.
_METHODS: dict[Family, str] = {4: "IP_AUTODETECTION_METHOD", 6: "IP6_AUTODETECTION_METHOD"}


def _calicos_methods(env: Mapping[str, str]) -> str:
    """Return what Calico's variables say, as the setting ``interface`` has it; "" for nothing.

    There the other family's card is found by itself: one chosen for IPv6 alone moves IPv4 nowhere.
    """
    said = {family: env.get(name, "") for family, name in _METHODS.items()}
    if not any(said.values()):
        return ""
    from netloom.core.selection_merge import by_family

    if said[6] and not said[4] and said[6] != "none":
        said[4] = "first-found"
    return by_family(said)


def flannel_format(datastore: str) -> Format | None:
    """Return flannel's format if the datastore is to be used in it. Raises InvalidConfig."""
    if "format=" not in datastore:
        return None
    from netloom.store.flannel.url import take_format

    return take_format(datastore)[1]


def _from_file(path: str | Path | None) -> tuple[dict[str, Any], dict[str, str]]:
    place = Path(path) if path else DEFAULT_CONFIG
    try:
        text = place.read_text(encoding="utf-8")
    except FileNotFoundError:
        if path:
            raise InvalidConfig(
                f"{place}: no such file", field="config", value=str(place)
            ) from None
        return {}, {}
    except PermissionError:
        raise NotPermitted(f"{place}: may not be read", hint="run it as root") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"{place}: {error}", field="config", value=str(place)) from None
    data = _parse_yaml(text, place)
    by_key = {setting.key: setting for setting in SETTINGS}
    values, origins = {}, {}
    for key, value in data.items():
        if key not in by_key:
            raise InvalidConfig(
                f"{place}: {key}: unknown setting",
                field=str(key),
                value=value,
                hint=nearest(str(key), by_key),
            )
        if value is not None:
            where = f"{place}: {key}"
            values[by_key[key].name] = by_key[key].parse(value, where)
            origins[by_key[key].name] = where
    return values, origins


def _parse_yaml(text: str, place: Path) -> Mapping[Any, Any]:
    import yaml

    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidConfig(f"{place}: not YAML: {error}", field="config") from None
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise InvalidConfig(
            f"{place}: expected settings as 'key: value'",
            field="config",
            hint="e.g. datastore: sqlite:///var/lib/netloom/cluster.db",
        )
    return data


def _refuse_misspelt(env: Mapping[str, str]) -> None:
    """Refuse a variable that is nearly one of ours: it would be ignored without a word.

    Others may begin with NETLOOM_ as well (labs, scripts); those that resemble none are let be.
    """
    known = [setting.env for setting in SETTINGS] + ["NETLOOM_CONFIG"]
    for name in env:
        if name.startswith(ENV_PREFIX) and name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.9)
            if close:
                raise InvalidConfig(
                    f"{name}: unknown variable",
                    field=name,
                    value=env[name],
                    hint=f"did you mean {close[0]!r}?",
                )


def _shown(value: object) -> object:
    return str(value) if isinstance(value, Path) else value

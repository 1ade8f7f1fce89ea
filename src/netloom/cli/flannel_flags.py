"""flannel's flags: their names, kinds and defaults, and reading them as Go's flag package does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from netloom.model.errors import InvalidConfig
from netloom.model.fields import nearest, whole_number

DEFAULT_ENDPOINTS = "http://127.0.0.1:4001,http://127.0.0.1:2379"
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
_KUBE = "leases come from etcd"


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. ``kind``: text, bool, int or many. ``void`` says why it cannot apply."""

    name: str
    kind: str = "text"
    default: str = ""
    help: str = ""
    void: str = ""

    @property
    def env(self) -> str:
        """Its environment variable."""
        return "FLANNELD_" + self.name.replace("-", "_").upper()


FLAGS: tuple[Flag, ...] = (
    Flag("etcd-endpoints", default=DEFAULT_ENDPOINTS, help="etcd's members, separated by commas"),
    Flag("etcd-prefix", default="/coreos.com/network", help="where flannel's keys are"),
    Flag("etcd-keyfile", help="the client's key (PEM)"),
    Flag("etcd-certfile", help="the client's certificate (PEM)"),
    Flag("etcd-cafile", help="the authority's certificate (PEM)"),
    Flag("etcd-username", help="etcd's user"),
    Flag("etcd-password", help="its password"),
    Flag("iface", "many", help="the underlay's interface, by name or address; the first that is"),
    Flag("iface-regex", "many", help="the same by a pattern of addresses or names"),
    Flag("iface-can-reach", help="the interface over which this address is reached"),
    Flag("public-ip", help="where peers reach this host"),
    Flag("public-ipv6", help="the same for IPv6"),
    Flag("subnet-file", default="/run/flannel/subnet.env", help="where engines learn of the block"),
    Flag("ip-masq", "bool", "false", "masquerade what leaves the network"),
    Flag("healthz-ip", default="0.0.0.0", help="serve /healthz, /readyz and /metrics here"),
    Flag("healthz-port", "int", "0", "and on this port; 0: nowhere"),
    Flag("v", "int", "0", "log more from 4 on"),
    Flag("version", "bool", "false", "print the version"),
    Flag("help", "bool", "false", "print this"),
    Flag(
        "subnet-lease-renew-margin",
        "int",
        "60",
        void="a lease is kept alive all the time, not renewed at its end",
    ),
    Flag(
        "ip-masq-fully-random-disable",
        "bool",
        "false",
        void="source ports are always chosen at random; predictable ones invite spoofing",
    ),
    Flag(
        "iptables-resync",
        "int",
        "5",
        void="the kernel tells of every change of our nftables rules, and it is repaired at once",
    ),
    Flag(
        "iptables-forward-rules",
        "bool",
        "true",
        help="accept our traffic inside of iptables where its FORWARD chain drops",
    ),
    Flag(
        "ip-blackhole-route",
        "bool",
        "false",
        void="an address of the block that no container has is answered by its bridge",
    ),
    Flag("kube-subnet-mgr", "bool", "false"),
    Flag("kube-api-url", void=_KUBE),
    Flag("kube-annotation-prefix", default="flannel.alpha.coreos.com", void=_KUBE),
    Flag("kubeconfig-file", void=_KUBE),
    Flag("net-config-path", default="/etc/kube-flannel/net-conf.json", void=_KUBE),
    Flag("set-node-network-unavailable", "bool", "true", void=_KUBE),
    Flag("vmodule", void="there is one log level: -v"),
    Flag("log_backtrace_at", void="our log has no line numbers"),
    Flag("logtostderr", "bool", "false", void="the log goes to stderr always"),
    Flag("alsologtostderr", "bool", "false", void="the log goes to stderr always"),
)
BY_NAME = {flag.name: flag for flag in FLAGS}


@dataclass
class Given:
    """What was said: values by flag, in order, and where each flag was said."""

    values: dict[str, list[str]] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, value: str, origin: str) -> None:
        """Take a value; of a flag that stands once the last counts. Raises InvalidConfig."""
        flag = BY_NAME[name]
        if flag.kind == "bool" and value not in (*_TRUE, *_FALSE):
            raise _wrong(origin, value, "true or false")
        if flag.kind == "int" and whole_number(value) is None:
            raise _wrong(origin, value, "a whole number")
        many = value.split(",") if flag.kind == "many" else [value]
        before = self.values.get(name, []) if flag.kind == "many" else []
        self.values[name] = before + many
        self.origins[name] = origin

    def one(self, name: str) -> str:
        """Return a flag's value, "" when it was not said."""
        return self.values[name][-1] if name in self.values else ""

    def truth(self, name: str) -> bool:
        """Return a bool flag's value, its default when it was not said."""
        return (self.one(name) or BY_NAME[name].default) in _TRUE

    def number(self, name: str) -> int:
        """Return an int flag's value, its default when it was not said."""
        number = whole_number(self.one(name) or BY_NAME[name].default)
        assert number is not None, "refused where it was added"
        return number

    def origin(self, name: str) -> str:
        """Return where a flag was said."""
        return self.origins.get(name, f"-{name}")


def parse(args: Sequence[str]) -> Given:
    """Parse flags with one dash or two, ``-name value`` or ``-name=value``. Raises InvalidConfig.

    A bool takes its value by '=' alone, and '--' ends the flags.
    """
    given, left = Given(), list(args)
    while left:
        word = left.pop(0)
        name, separator, value = word.lstrip("-").partition("=")
        name = "help" if name == "h" else name
        if word == "--" or not word.startswith("-") or word.startswith("---"):
            rest = [word, *left] if word != "--" else left
            if rest:
                raise InvalidConfig(
                    f"{rest[0]!r} is not a flag", field="arguments", hint="see flanneld -help"
                )
            break
        flag = BY_NAME.get(name)
        if flag is None:
            raise InvalidConfig(
                f"-{name}: unknown flag", field=f"-{name}", hint=nearest(name, BY_NAME)
            )
        if not separator and flag.kind == "bool":
            value = "true"
        elif not separator:
            if not left:
                raise InvalidConfig(f"-{name}: needs a value", field=f"-{name}")
            value = left.pop(0)
        given.add(name, value, f"-{name}")
    return given


def usage() -> str:
    """Return the flags as ``-help`` prints them."""
    lines = ["Usage of flanneld (netloom):"]
    for flag in FLAGS:
        text = flag.help or (f"does not apply: {flag.void}" if flag.void else "not yet")
        default = f" (default {flag.default})" if flag.default and flag.kind != "bool" else ""
        lines += [
            f"  -{flag.name}{'' if flag.kind == 'bool' else ' value'}",
            f"        {text}{default}",
        ]
    return "\n".join(lines)


def _wrong(origin: str, value: str, wanted: str) -> InvalidConfig:
    return InvalidConfig(
        f"{origin}: {value!r} is not {wanted}", field=origin, value=value, hint=f"give {wanted}"
    )

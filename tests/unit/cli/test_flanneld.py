"""flannel's command line: every flag, variable and file, and what they come to with us."""

from __future__ import annotations

from pathlib import Path

import pytest

from netloom.cli import flanneld
from netloom.cli.flannel_flags import FLAGS
from netloom.cli.settings import load_settings
from netloom.model.errors import InvalidConfig
from netloom.store.opening import open_store

NOWHERE = Path("/nonexistent/flanneld")


def settings(*args: str, file: Path = NOWHERE, **env: str) -> dict[str, object]:
    given = flanneld.gather(list(args), env, file)
    return flanneld.settings_of(given, env)


def url(*args: str, file: Path = NOWHERE, **env: str) -> str:
    return str(settings(*args, file=file, **env)["datastore"])


def test_without_flags_it_is_flannels_defaults():
    assert settings() == {
        "datastore": "etcd://127.0.0.1:4001,127.0.0.1:2379"
        "?format=flannel&prefix=/coreos.com/network&ipmasq=false",
        "subnet_file": "/run/flannel/subnet.env",
    }


@pytest.mark.parametrize(
    "args",
    [
        ("-etcd-prefix", "/a/b"),
        ("--etcd-prefix", "/a/b"),
        ("-etcd-prefix=/a/b",),
        ("--etcd-prefix=/a/b", "-ip-masq=false"),
        ("-etcd-prefix=/x", "-etcd-prefix=/a/b"),
    ],
)
def test_one_dash_or_two_blank_or_equals(args: tuple[str, ...]):
    assert "prefix=/a/b&ipmasq=false" in url(*args)


def test_scene_5s_sysconfig_file_is_read_and_flags_and_variables_win(tmp_path: Path):
    file = tmp_path / "flanneld"
    file.write_text(
        "# Flanneld configuration options\n"
        'FLANNEL_ETCD_ENDPOINTS="http://192.168.17.10:2379"\n'
        'FLANNEL_ETCD_PREFIX="/atomic.io/network"\n'
        'FLANNEL_OPTIONS="-ip-masq -iface=ens33"\n'
    )
    expected = "etcd://192.168.17.10:2379?format=flannel&prefix=/atomic.io/network&ipmasq=true"
    assert url(file=file) == expected
    assert settings(file=file)["interface"] == "interface=ens33"
    assert "prefix=/b&" in url(file=file, FLANNEL_ETCD_PREFIX="/b")
    assert "prefix=/c&" in url(file=file, FLANNEL_ETCD_PREFIX="/b", FLANNELD_ETCD_PREFIX="/c")
    assert "prefix=/d&" in url("-etcd-prefix=/d", file=file, FLANNELD_ETCD_PREFIX="/c")


def test_every_flag_is_a_variable_too():
    for flag in FLAGS:
        value = {"bool": "true", "int": "1"}.get(flag.kind, "x")
        given = flanneld.gather([], {flag.env: value}, NOWHERE)
        assert given.values == {flag.name: [value]}
        assert given.origin(flag.name) == flag.env


def test_tls_and_a_user_go_to_the_store_and_a_password_into_no_url():
    text = url(
        "-etcd-endpoints=https://h1:2379,https://[fd00::3]:2379",
        "-etcd-cafile=/ca.pem",
        "-etcd-certfile=/c.pem",
        "-etcd-keyfile=/k.pem",
        "-etcd-username=flannel",
        "-etcd-password=secret",
    )
    assert text.startswith("etcds://h1:2379,[fd00::3]:2379?")
    assert "ca=/ca.pem&cert=/c.pem&key=/k.pem&user=flannel" in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (["-iface=ens33"], "interface=ens33"),
        (["-iface=a", "-iface", "10.0.0.1"], "interface=a;interface=10.0.0.1"),
        (
            ["-iface-can-reach=10.0.0.1", "-iface-regex=^e", "-iface=a"],
            "interface=a;regex=^e;can-reach=10.0.0.1",
        ),
        (["-public-ip=1.2.3.4", "-public-ipv6=fd00::1"], "public=1.2.3.4;public=fd00::1"),
    ],
)
def test_the_interface_is_chosen_by_flannels_flags_in_flannels_order(args: list[str], wanted: str):
    assert settings(*args)["interface"] == wanted
    load_settings({"interface": wanted}, {})


def test_health_and_log_level_are_taken():
    got = settings("-healthz-port=8080", "-healthz-ip=::1", "-v=5", "-subnet-file=/x")
    assert (got["metrics_listen"], got["log_level"], got["subnet_file"]) == (
        "[::1]:8080",
        "debug",
        "/x",
    )


def test_the_rules_in_other_firewalls_can_be_left_out():
    assert "forward_rules" not in settings()
    assert settings("-iptables-forward-rules=false")["forward_rules"] is False
    read = load_settings(settings("-iptables-forward-rules=false"), {})
    assert read.forward_rules is False
    assert load_settings({}, {"NETLOOM_FORWARD_RULES": "false"}).forward_rules is False


def test_a_variable_of_ours_wins_over_flannels_default_and_not_over_a_flag():
    assert "subnet_file" not in settings(NETLOOM_SUBNET_FILE="/ours")
    assert settings("-subnet-file=/x", NETLOOM_SUBNET_FILE="/ours")["subnet_file"] == "/x"


def test_flags_that_cannot_apply_say_why_unless_they_say_the_default():
    given = flanneld.gather(["-iptables-resync=9", "-vmodule=x=1"], {}, NOWHERE)
    said = flanneld.notes(given)
    assert [note.split(" does not apply: ")[0] for note in said] == ["-iptables-resync", "-vmodule"]
    given = flanneld.gather(["-iptables-resync=5", "-iptables-forward-rules=true"], {}, NOWHERE)
    assert flanneld.notes(given) == []
    given = flanneld.gather(["-etcd-cafile=/ca"], {}, NOWHERE)
    assert "without TLS" in flanneld.notes(given)[0]


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["-etcd-endpoint=x"], "-etcd-endpoint: unknown flag", "etcd-endpoints"),
        (["-etcd-prefix"], "needs a value", ""),
        (["-ip-masq=maybe"], "'maybe' is not true or false", ""),
        (["-v=high"], "'high' is not a whole number", ""),
        (["run"], "'run' is not a flag", "-help"),
        (["-etcd-endpoints=tcp://h:2379"], "wrong scheme 'tcp'", "http://h:2379"),
        (["-etcd-endpoints=h:2379"], "'h:2379' has no scheme", "http://h:2379"),
        (["-etcd-endpoints=http://a:1,https://b:1"], "with TLS and without", "all of them"),
        (["-kube-subnet-mgr"], "-kube-subnet-mgr", "-etcd-endpoints"),
    ],
)
def test_a_wrong_flag_is_refused_with_the_remedy(args: list[str], message: str, hint: str):
    with pytest.raises(InvalidConfig, match=message) as caught:
        settings(*args)
    assert hint in caught.value.hint


def test_a_misspelt_variable_in_the_file_is_not_ignored(tmp_path: Path):
    (tmp_path / "f").write_text("FLANNEL_ETCD_ENDPOINT=http://h:1\n")
    with pytest.raises(InvalidConfig, match="FLANNEL_ETCD_ENDPOINT: unknown") as caught:
        settings(file=tmp_path / "f")
    assert "FLANNEL_ETCD_ENDPOINTS" in caught.value.hint


def test_the_datastore_url_is_one_that_the_store_takes():
    with pytest.raises(InvalidConfig, match=r"/nonexistent/ca\.pem"):
        open_store(url("-etcd-endpoints=https://127.0.0.1:1", "-etcd-cafile=/nonexistent/ca.pem"))


def test_version_and_help_leave_with_success(capsys: pytest.CaptureFixture[str]):
    assert flanneld.run(["-version"], {}, NOWHERE) == 0
    assert flanneld.run(["--help"], {}, NOWHERE) == 0
    assert "-etcd-endpoints" in capsys.readouterr().out


def test_an_error_is_a_sentence_and_an_exit_code(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as left:
        flanneld.main(["-nosuch"])
    assert left.value.code == 3
    assert "error: -nosuch: unknown flag" in capsys.readouterr().err

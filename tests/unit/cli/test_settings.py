"""Settings: who wins, what is refused, and that each value knows where it came from."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from netloom.cli.settings import SETTINGS, load_settings
from netloom.model.errors import InvalidConfig, NotPermitted

#: Without a name to give to this host the settings would write one into its own state folder.
KNOWN = {"NETLOOM_HOST_ID": "1a"}


def write(folder: Path, text: str) -> Path:
    path = folder / "netloom.yaml"
    path.write_text(text)
    return path


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    config = write(tmp_path, "hostName: file\nlogLevel: error\nlogFormat: json\n")
    env = {"NETLOOM_HOST_NAME": "env", "NETLOOM_LOG_LEVEL": "warning", **KNOWN}
    settings = load_settings({"host_name": "flag", "log_level": None}, env, config)
    assert (settings.host_name, settings.log_level, settings.log_format) == (
        "flag",
        "warning",
        "json",
    )
    assert settings.audit_interval_s == 30.0
    shown = settings.render()
    assert [shown[key]["origin"] for key in ("hostName", "logLevel", "logFormat", "underlay")] == [
        "--host-name",
        "NETLOOM_LOG_LEVEL",
        f"{config}: logFormat",
        "default",
    ]


def test_places_follow_the_folders_unless_they_are_given_themselves() -> None:
    env = {"NETLOOM_STATE_DIR": "/a", "NETLOOM_RUN_DIR": "/b"}
    settings = load_settings({}, env)
    assert settings.datastore == "sqlite:///a/cluster.db"
    assert settings.socket == Path("/b/agent.sock")
    assert load_settings({"socket": "/c.sock"}, env).socket == Path("/c.sock")


def test_every_setting_can_be_given_in_every_way(tmp_path: Path) -> None:
    values = {"log_format": "json", "log_level": "debug", "audit_interval_s": 5}
    values |= {"underlay": "default-route", "datastore": "sqlite:///x", "forward_rules": "false"}
    for setting in SETTINGS:
        value = str(values.get(setting.name, "/x"))
        known = KNOWN
        if setting.name == "host_id":
            value, known = "abc", {}
        config = write(tmp_path, f"{setting.key}: {value}\n")
        ways: list[dict[str, Any]] = [
            {"flags": {setting.name: value}, "env": known},
            {"flags": {}, "env": {setting.env: value, **known}},
            {"flags": {}, "env": known, "config_path": config},
        ]
        shown = [load_settings(**way).render()[setting.key] for way in ways]
        assert [item["origin"] for item in shown] == [
            setting.flag,
            setting.env,
            f"{config}: {setting.key}",
        ]
        if setting.name != "host_id":
            assert len({str(item["value"]) for item in shown}) == 1


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("datastor: x", "datastor: unknown setting", "did you mean 'datastore'?"),
        ("logLevel: lodu", "logLevel: unknown 'lodu'", "known: debug, error, info, warning"),
        ("auditInterval: soon", "auditInterval: 'soon' is not a time", "number of seconds"),
        ("forwardRules: 0", "forwardRules: 0 is not true or false", "true or false"),
        ("auditInterval: nan", "auditInterval: 'nan' is not a time", "number of seconds"),
        ("hostId: a b", "hostId: 'a b' is not a host id", "use letters"),
        ("stateDir: [x]", r"stateDir: \['x'\] is not a text", ""),
        ("- a\n- b", "expected settings", "datastore: sqlite"),
        ("a: b: c", "not YAML", ""),
    ],
)
def test_a_wrong_file_is_refused_with_its_path_key_and_remedy(
    tmp_path: Path, text: str, message: str, hint: str
) -> None:
    config = write(tmp_path, text)
    with pytest.raises(InvalidConfig, match=message) as caught:
        load_settings({}, {}, config)
    assert str(config) in str(caught.value)
    assert hint in caught.value.hint


def test_an_error_names_the_flag_or_the_variable_that_was_wrong() -> None:
    with pytest.raises(InvalidConfig, match="--log-level: unknown 'x'"):
        load_settings({"log_level": "x"}, {})
    with pytest.raises(InvalidConfig, match="NETLOOM_AUDIT_INTERVAL: '-1' is not"):
        load_settings({}, {"NETLOOM_AUDIT_INTERVAL": "-1"})
    with pytest.raises(InvalidConfig, match=r"--datastore: '/var/x\.db' is not"):
        load_settings({"datastore": "/var/x.db"}, {})


def test_a_misspelt_variable_is_refused_and_a_foreign_one_let_be() -> None:
    with pytest.raises(InvalidConfig) as caught:
        load_settings({}, {"NETLOOM_DATASTOR": "x"})
    assert caught.value.hint == "did you mean 'NETLOOM_DATASTORE'?"
    load_settings({}, {"NETLOOM_LAB": "x"})


def test_a_file_named_must_exist_and_the_default_one_need_not(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="no such file"):
        load_settings({}, {}, tmp_path / "absent.yaml")
    with pytest.raises(InvalidConfig, match="no such file"):
        load_settings({}, {"NETLOOM_CONFIG": str(tmp_path / "absent.yaml")})


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    config = write(tmp_path, "")
    config.chmod(0)
    os.seteuid(65534)
    try:
        with pytest.raises(NotPermitted):
            load_settings({}, {}, config)
    finally:
        os.seteuid(0)


def test_a_host_keeps_its_identity_when_its_name_changes(tmp_path: Path) -> None:
    env = {"NETLOOM_STATE_DIR": str(tmp_path / "state")}
    first = load_settings({"host_name": "old"}, env)
    assert not (tmp_path / "state").exists()  # nothing is written before someone asks
    assert load_settings({"host_name": "new"}, env).host_id != ""
    assert load_settings({"host_name": "newer"}, env).host_id == (
        load_settings({"host_name": "new"}, env).host_id
    )
    assert first.host_id == load_settings({}, env).host_id


def test_two_names_on_one_machine_are_two_identities(tmp_path: Path) -> None:
    ids = {
        load_settings({"host_name": name, "state_dir": tmp_path / name}, {}).host_id
        for name in ("h1", "h2")
    }
    assert len(ids) == 2


def test_first_starts_at_once_agree_on_one_identity(tmp_path: Path) -> None:
    program = (
        "import sys; from netloom.cli.settings import load_settings; "
        "print(load_settings({'state_dir': sys.argv[1], 'host_name': sys.argv[2]}, {}).host_id)"
    )

    def start(number: int) -> str:
        command = [sys.executable, "-c", program, str(tmp_path), f"name{number}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(start, range(8)))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["host-id"]


def test_a_damaged_identity_is_refused_and_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "host-id").write_text("two words\n")
    with pytest.raises(InvalidConfig, match="host-id"):
        _ = load_settings({"state_dir": tmp_path}, {}).host_id
    assert (tmp_path / "host-id").read_text() == "two words\n"

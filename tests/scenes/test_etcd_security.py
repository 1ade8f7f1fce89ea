"""TLS, client certificates, users and tokens, with a real etcd that demands them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.store_contract.etcd_certificates import Authority
from tests.store_contract.etcd_cluster import EtcdCluster, cluster
from tests.store_contract.etcd_follower import PATIENCE_S, following, put_surely

from netloom.model.datastore import Put, Transaction
from netloom.model.errors import InvalidConfig, NetloomError, NotPermitted, Unavailable
from netloom.store.etcd.store import EtcdStore
from netloom.store.etcd.url import PASSWORD_VARIABLE

pytestmark = pytest.mark.skipif(
    not shutil.which("etcd") or not shutil.which("openssl"),
    reason="etcd-server or openssl is not installed",
)


@dataclass
class Secured:
    """A member that speaks TLS and wants client certificates of ``authority``."""

    etcd: EtcdCluster
    authority: Authority
    cert: Path
    key: Path

    @property
    def place(self) -> str:
        return f"etcds://{self.etcd.members[0].endpoint}"

    @property
    def url(self) -> str:
        return f"{self.place}?ca={self.authority.path}&cert={self.cert}&key={self.key}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def secured(
    run_id: str, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Secured]:
    cert, key = authority.issue("server")
    flags = tls_flags(authority, cert, key)
    with cluster(run_id, "et", 1, tmp_path_factory.mktemp("etcd"), flags) as etcd:
        made = Secured(etcd, authority, *authority.issue("agent"))
        etcd.settled(made.url)
        yield made


def tls_flags(authority: Authority, cert: Path, key: Path) -> list[str]:
    return [
        *("--cert-file", str(cert), "--key-file", str(key)),
        *("--client-cert-auth", "--trusted-ca-file", str(authority.path)),
    ]


def refused(url: str, kind: type[NetloomError], words: str = "") -> NetloomError:
    """Return how a store is refused; a member that was too slow to say so is asked again."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with pytest.raises(NetloomError) as caught:
            EtcdStore(url)
        error = caught.value
        slow = isinstance(error, Unavailable) and not (kind is Unavailable and words in str(error))
        if not slow or time.monotonic() > deadline:
            assert isinstance(error, kind), error
            assert words in str(error)
            assert error.hint
            return error


def day(hours: float) -> str:
    return f"{datetime.now(UTC) + timedelta(hours=hours):%Y-%m-%d}"


def test_calls_and_watches_go_through_tls_with_client_certificates(secured: Secured):
    store = EtcdStore(secured.url)
    follower = following(store)
    big = os.urandom(1 << 20)
    revision = put_surely(store, "/f/big", big)
    follower.until(lambda f: revision in f.seen, "the event")
    follower.finish()
    assert follower.picture["/f/big"] == big
    store.close()


def test_without_a_client_certificate_the_member_refuses(secured: Secured):
    words = "our client certificate, or want"
    error = refused(f"{secured.place}?ca={secured.authority.path}", Unavailable, words)
    assert f"{secured.etcd.members[0].endpoint}: it " in str(error)


def test_another_authority_is_not_trusted(secured: Secured, tmp_path: Path):
    other = Authority(tmp_path, "other")
    error = refused(f"{secured.place}?ca={other.path}", Unavailable, "certificate")
    assert secured.etcd.members[0].endpoint in str(error)


def test_plain_http_to_a_tls_port_is_told(secured: Secured):
    error = refused(secured.place.replace("etcds", "etcd"), Unavailable)
    assert secured.etcd.members[0].endpoint in str(error)


@pytest.mark.parametrize(
    ("begins_h", "ends_h", "said"),
    [(-48, -24, "expired on {ends}"), (24, 48, "is not valid before {begins}")],
)
def test_our_own_certificate_out_of_its_time_is_refused_with_the_date(
    secured: Secured, begins_h: float, ends_h: float, said: str
):
    words = said.format(begins=day(begins_h), ends=day(ends_h))
    cert, key = secured.authority.issue("dated", begins_h=begins_h, ends_h=ends_h)
    url = f"{secured.place}?ca={secured.authority.path}&cert={cert}&key={key}"
    error = refused(url, InvalidConfig)
    assert words in str(error)
    assert str(cert) in str(error)


@pytest.mark.parametrize(
    ("begins_h", "ends_h", "said"),
    [(-48, -24, "expired on {ends}"), (24, 48, "is not valid before {begins}")],
)
def test_a_members_certificate_out_of_its_time_is_told_with_the_date(
    run_id: str, tmp_path: Path, authority: Authority, begins_h: float, ends_h: float, said: str
):
    """A host whose clock is wrong by a day sees the second: both times are in the message."""
    words = said.format(begins=day(begins_h), ends=day(ends_h))
    cert, key = authority.issue("old", begins_h=begins_h, ends_h=ends_h)
    flags = ["--cert-file", str(cert), "--key-file", str(key)]
    with cluster(run_id, "ed", 1, tmp_path, flags) as etcd:
        etcd.listening()
        refused(f"etcds://{etcd.members[0].endpoint}?ca={authority.path}", Unavailable, words)


def test_certificate_files_that_cannot_be_used_are_named(secured: Secured, tmp_path: Path):
    ca, cert, key = secured.authority.path, secured.cert, secured.key
    _, other_key = secured.authority.issue("other")
    empty, locked = tmp_path / "empty", tmp_path / "locked.key"
    empty.write_text("")
    subprocess.run(
        ["openssl", "ec", "-in", key, "-aes128", "-passout", "pass:x", "-out", locked],
        capture_output=True, check=True,
    )  # fmt: skip
    for given, message in [
        (("/no/ca", cert, key), "ca file /no/ca cannot be read: No such file"),
        ((empty, cert, key), f"ca file {empty} holds no certificate"),
        ((ca, "/no/cert", key), "cert file /no/cert cannot be read"),
        ((ca, empty, key), f"cert file {empty} it holds no certificate"),
        ((ca, cert, empty), f"key file {empty} holds no private key"),
        ((ca, cert, other_key), f"key file {other_key} does not belong to certificate {cert}"),
        ((ca, cert, locked), f"key file {locked} is encrypted"),
    ]:
        url = f"{secured.place}?ca={given[0]}&cert={given[1]}&key={given[2]}"
        assert message in str(refused(url, InvalidConfig))


@pytest.fixture
def users(run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EtcdCluster]:
    """A cluster with users: root, ``ann`` for Netloom's keys, ``flan`` for flannel's."""
    monkeypatch.setenv(PASSWORD_VARIABLE, "s3cret")
    with cluster(run_id, "eu", 1, tmp_path) as etcd:
        for line in [
            "user add root:s3cret", "user grant-role root root",
            "role add loom", "role grant-permission loom --prefix=true readwrite /netloom/",
            "role add flannel", "role grant-permission flannel --prefix=true readwrite /coreos/",
            "user add ann:s3cret", "user grant-role ann loom",
            "user add flan:s3cret", "user grant-role flan flannel",
            "auth enable",
        ]:  # fmt: skip
            etcd.ctl(*line.split())
        yield etcd


def test_a_user_reads_writes_and_watches_what_it_may(users: EtcdCluster):
    store = EtcdStore(f"{users.url}?user=ann")
    follower = following(store, "/netloom/v1/")
    revision = put_surely(store, "/netloom/v1/a", b"x")
    follower.until(lambda f: revision in f.seen, "the event")
    assert "-" in store.store_id, "a mark was written"
    with pytest.raises(NotPermitted, match="permission denied"):
        store.commit(Transaction([Put("/elsewhere", b"")]))
    with pytest.raises(NotPermitted, match="permission denied"):
        store.list("/")
    lease = store.grant(60)
    assert store.keep_alive(lease)
    store.revoke(lease)
    follower.finish()
    store.close()


def test_a_token_that_is_no_longer_known_is_renewed(users: EtcdCluster):
    """A member that restarts has forgotten all (simple) tokens."""
    store = EtcdStore(f"{users.url}?user=ann")
    follower = following(store, "/netloom/v1/")
    put_surely(store, "/netloom/v1/a", b"1")
    for number in range(2):
        users.kill()
        users.start()
        revision = put_surely(store, "/netloom/v1/a", b"again %d" % number)
        follower.until(lambda f, revision=revision: revision in f.seen, "the event")  # type: ignore[misc]
    follower.finish()
    assert follower.listings == 1
    store.close()


def test_a_password_that_is_changed_under_us_is_told(users: EtcdCluster):
    store = EtcdStore(f"{users.url}?user=ann")
    root = ("--user", "root:s3cret")
    users.client.run(
        "sh", "-c", f"ETCDCTL_API=3 etcdctl --endpoints {users.members[0].endpoint} "
        f"{' '.join(root)} user passwd ann --interactive=false", input="other\n",
    )  # fmt: skip
    users.kill()
    users.start()
    users.settled(f"{users.url}?user=root")
    with pytest.raises(NotPermitted, match="refuses user 'ann' or the password"):
        store.get("/netloom/v1/a")
    store.close()


def test_a_user_without_rights_on_our_root_still_has_a_store(users: EtcdCluster):
    """A user made for flannel's keys: the cluster's id alone names the store."""
    store = EtcdStore(f"{users.url}?user=flan")
    follower = following(store, "/coreos/")
    revision = put_surely(store, "/coreos/network", b"x")
    follower.until(lambda f: revision in f.seen, "the event")
    follower.finish()
    assert store.store_id
    assert "-" not in store.store_id
    batch = store.watch("/coreos/", revision).next(4)
    assert batch is None, "probing finds nothing wrong"
    store.close()


def test_no_user_and_a_wrong_password_are_told(users: EtcdCluster, tmp_path: Path):
    error = refused(users.url, InvalidConfig)
    assert "wants a user and a password" in str(error)
    password = tmp_path / "password"
    password.write_text("wrong\n")
    error = refused(f"{users.url}?user=ann&password-file={password}", NotPermitted)
    assert "refuses user 'ann' or the password" in str(error)
    assert "wrong" not in json.dumps([str(error), error.hint])


def test_a_user_given_to_a_cluster_without_users_is_well(
    run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(PASSWORD_VARIABLE, "s3cret")
    with cluster(run_id, "en", 1, tmp_path) as etcd:
        store = EtcdStore(f"{etcd.url}?user=ann")
        put_surely(store, "/f/a", b"x")
        store.close()


def test_every_endpoint_that_cannot_be_reached_is_named_with_its_reason(
    run_id: str, tmp_path: Path
):
    with cluster(run_id, "ex", 1, tmp_path) as etcd:
        three = "etcd://10.99.0.11:9,10.99.0.77:2379,no.such.host.:2379"
        error = refused(three, Unavailable, "10.99.0.11:9: connection refused")
        assert "10.99.0.77:2379: " in str(error)
        assert "no.such.host.:2379: " in str(error)
        process = etcd.place(etcd.members[0]).popen(
            "python3", "-m", "http.server", "8000", stderr=subprocess.PIPE, stdout=subprocess.PIPE
        )
        etcd.listening(8000)
        refused("etcd://10.99.0.11:8000", Unavailable, "HTTP 501")
        process.kill()
        process.communicate()

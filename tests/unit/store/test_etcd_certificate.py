"""The dates of certificates as openssl makes them, and what is no certificate."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.store_contract.etcd_certificates import Authority

from netloom.store.etcd.certificate import Validity, validity, validity_of_pem

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("ends_h", [24, 24 * 365 * 30])  # UTCTime, and GeneralizedTime after 2049
def test_dates_are_read_from_both_of_their_forms(tmp_path: Path, ends_h: float):
    certificate, _ = Authority(tmp_path).issue("some", begins_h=-5, ends_h=ends_h)
    found = validity_of_pem(certificate.read_text())
    now = datetime.now(UTC)
    assert abs(found.begins - (now - timedelta(hours=5))) < timedelta(minutes=5)
    assert abs(found.ends - (now + timedelta(hours=ends_h))) < timedelta(minutes=5)


@pytest.mark.parametrize(
    ("begins", "ends", "said"),
    [
        (-1, 1, ""),
        (-2, -1, "expired on 2026-05-31 12:00 UTC"),
        (1, 2, "is not valid before 2026-06-02 12:00 UTC and this machine's clock says 2026-06-01"),
    ],
)
def test_what_is_wrong_is_said_with_the_date(begins: int, ends: int, said: str):
    dates = Validity(NOW + timedelta(days=begins), NOW + timedelta(days=ends))
    assert dates.problem(NOW).startswith(said)
    assert bool(dates.problem(NOW)) == bool(said)


def test_what_is_no_certificate_is_a_value_error(tmp_path: Path):
    with pytest.raises(ValueError, match="PEM"):
        validity_of_pem("nothing")
    certificate, _ = Authority(tmp_path).issue("some")
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    for size in range(len(der) - 1):
        with pytest.raises(ValueError, match=r".+"):
            validity(der[:size])

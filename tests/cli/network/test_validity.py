"""Certificates that are no longer valid, or not yet, are told of before clients refuse them."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import trustme

from appliance.cli.checks import CheckStatus
from appliance.cli.checks.service import check_certificate
from appliance.cli.network.certificates import Certificates
from appliance.cli.network.validity import Validity, validity_of

DAY_S = 86_400.0


def at(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=timezone.utc)


def write(path: Path, *, begins: datetime, ends: datetime) -> Path:
    """A certificate with its chain and its key in one file."""
    issued = trustme.CA().issue_cert("127.0.0.1", not_before=begins, not_after=ends)
    issued.private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


@pytest.mark.parametrize("ends", [at(2049, 12, 31), at(2051, 1, 2)], ids=["UTC", "generalized"])
def test_both_ways_of_writing_a_date(tmp_path: Path, ends: datetime) -> None:
    begins = at(2025, 2, 3)
    validity = validity_of(write(tmp_path / "cert.pem", begins=begins, ends=ends))
    assert validity.from_s == begins.timestamp()
    assert validity.until_s == ends.timestamp()


def test_a_chain_is_as_good_as_its_weakest_link(tmp_path: Path) -> None:
    early = write(tmp_path / "early.pem", begins=at(2020, 1, 1), ends=at(2026, 1, 1))
    late = write(tmp_path / "late.pem", begins=at(2025, 1, 1), ends=at(2030, 1, 1))
    early.write_text(early.read_text() + late.read_text())
    assert validity_of(early) == Validity(at(2025, 1, 1).timestamp(), at(2026, 1, 1).timestamp())


@pytest.mark.parametrize(
    ("now_s", "complaint"),
    [
        (-1.0, "is not valid before 1970-01-01: until then clients refuse it"),
        (0.0, ""),
        (89 * DAY_S, ""),
        (95 * DAY_S, "expires in 5 days, on 1970-04-11"),
        (101 * DAY_S, "expired on 1970-04-11: clients refuse it"),
    ],
)
def test_what_is_said_when(now_s: float, complaint: str) -> None:
    assert Validity(0.0, 100 * DAY_S).complaint(now_s) == complaint


@pytest.mark.parametrize(
    "text", ["", "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----"]
)
def test_what_is_no_certificate(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cert.pem"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"no certificate|cut off"):
        validity_of(path)
    assert check_certificate(path, 0.0).status is CheckStatus.WARN


def test_a_server_starts_with_an_expired_one_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = datetime.now(timezone.utc)
    path = write(tmp_path / "cert.pem", begins=now - timedelta(9), ends=now - timedelta(1))
    Certificates(path, None)
    [record] = caplog.records
    day = (now - timedelta(1)).strftime("%Y-%m-%d")
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        f"the certificate in {path} (--tls-cert) expired on {day}: clients refuse it"
    )


def test_the_doctor_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "cert.pem", begins=at(2025, 1, 1), ends=at(2026, 1, 1))
    check = check_certificate(path, at(2026, 1, 3).timestamp())
    assert (check.status, check.finding) == (
        CheckStatus.WARN,
        f"{path} expired on 2026-01-01: clients refuse it",
    )
    check = check_certificate(path, at(2025, 5, 1).timestamp())
    assert (check.status, check.finding) == (CheckStatus.OK, f"{path} is valid until 2026-01-01")

"""Pools: who may claim blocks of one, and what is read and written."""

from __future__ import annotations

from typing import Any

import pytest

from netloom.model.errors import InvalidConfig
from netloom.model.pool import Pool

SIZES = {4: 26, 6: 122}


def _pool(**fields: Any) -> Pool:
    return Pool.parse({"cidr": "10.244.0.0/16", **fields}, "pools[0]", default_block_size=SIZES)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"name": "default-ipv4-ippool", "natOutgoing": False},
        {"nodeSelector": "rack == '1'", "disabled": True},
        {"assignmentMode": "Manual", "disableBGPExport": True},
    ],
)
def test_a_pool_reads_what_it_wrote(fields: dict[str, Any]) -> None:
    pool = _pool(**fields)
    assert Pool.parse(pool.render(), "pools[0]", default_block_size=SIZES) == pool


def test_what_was_never_said_of_a_pool_is_not_written() -> None:
    assert _pool().render() == {"cidr": "10.244.0.0/16", "blockSize": 26, "natOutgoing": True}


def test_a_pool_is_open_to_the_hosts_that_it_selects_unless_it_is_disabled() -> None:
    assert _pool().open_to({})
    assert _pool(nodeSelector="rack == '1'").open_to({"rack": "1"})
    assert not _pool(nodeSelector="rack == '1'").open_to({"rack": "2"})
    assert not _pool(disabled=True).open_to({})


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": "No_Name"}, "pools[0].name"),
        ({"nodeSelector": "rack ="}, "pools[0].nodeSelector"),
        ({"disabled": "perhaps"}, "pools[0].disabled"),
        ({"assignmentMode": "manual"}, "pools[0].assignmentMode"),
        ({"disableBGPexport": True}, "pools[0].disableBGPexport"),
    ],
)
def test_what_is_wrong_with_a_pool_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        _pool(**fields)
    assert caught.value.field == field

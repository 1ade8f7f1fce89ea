"""The second kernel is one of its own, and what runs in it can do nothing to the machine."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from tests.conftest import Netns

from netloom.kernel import preflight


def test_it_is_another_kernel_with_modules_that_load_by_themselves(netns: Netns) -> None:
    assert Path("/usr/lib/uml/modules", os.uname().release).is_dir()
    kinds = ["bridge", "geneve", "ipip", "veth", "vxlan"]
    assert netns.call(lambda: preflight._links(kinds)) == []


def test_the_machines_disk_is_read_only() -> None:
    for place in (Path(__file__).parent, Path("/etc"), Path("/usr/lib"), Path("/root"), Path("/")):
        with pytest.raises(OSError, match="Read-only") as refused:
            (place / "written-by-a-test").touch()
        assert refused.value.errno == errno.EROFS


def test_there_is_no_way_to_the_machines_network() -> None:
    links = os.listdir("/sys/class/net")
    assert [link for link in links if not link.startswith(("tunl", "sit"))] == ["lo"]

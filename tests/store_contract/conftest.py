"""For each module of the contract, before its first store is opened."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.store_contract.patience import be_patient


@pytest.fixture(scope="module", autouse=True)
def _patience() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        be_patient(patch.setattr)
        yield

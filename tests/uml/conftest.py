"""Tests of this folder run in a second kernel: outside, each stands for what it was inside.

Outside, the first test of a module boots the kernel once and runs all chosen tests of the module in
it, with pytest again; the reports written there are those that appear here. Inside, they are tests
like any other, with the labs of ``tests/scenes``.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.scenes import conftest as scenes
from tests.uml import second_kernel

_HERE = Path(__file__).parent
_INSIDE = "NETLOOM_SECOND_KERNEL"
_REPORTS = "reports"
#: What the run inside has no use for: to load it takes seconds there.
_NOT_INSIDE = ("cacheprovider", "hypothesispytest", "xdist", "xdist.looponfail")
_RESULTS = pytest.StashKey[dict[Path, tuple[second_kernel.Ran, list[dict[str, Any]]]]]()

_labs_apart = scenes._labs_apart
lab_names = scenes.lab_names
lab_up = scenes.lab_up


class _Recorder:
    """Inside: writes every report down as it comes, so that a dying kernel leaves the others."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._file = Path(os.environ[_INSIDE])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        with self._file.open("a") as file:
            print(json.dumps(data), file=file)


def pytest_configure(config: pytest.Config) -> None:
    if _INSIDE in os.environ:
        config.pluginmanager.register(_Recorder(config))
    else:
        config.stash[_RESULTS] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Outside, the test that boots the kernel waits for a whole module; inside, each for itself."""
    if _INSIDE not in os.environ:
        for item in items:
            if item.path.parent == _HERE:
                item.add_marker(pytest.mark.timeout(second_kernel.PATIENCE_S + 10))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Outside, report what the test did inside; this hook is asked about all tests there are."""
    if _INSIDE in os.environ or item.path.parent != _HERE:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in _reports(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _reports(item: pytest.Item) -> Iterator[pytest.TestReport]:
    absent = second_kernel.missing()
    if absent:
        path, line, _ = item.location
        yield _report(item, "skipped", (path, line or 0, f"Skipped: {absent}"))
        return
    results = item.config.stash[_RESULTS]
    if item.path not in results:
        results[item.path] = _run_module(item)
    said, written = results[item.path]
    own = [data for data in written if data["nodeid"] == item.nodeid]
    for data in own:
        yield item.config.hook.pytest_report_from_serializable(config=item.config, data=data)
    if not any(data["when"] == "teardown" for data in own):
        yield _report(item, "failed", str(said))


def _report(item: pytest.Item, outcome: Any, text: Any) -> pytest.TestReport:
    when: Any = "setup" if outcome == "skipped" else "call"
    words = dict.fromkeys(item.keywords, 1)
    return pytest.TestReport(item.nodeid, item.location, words, outcome, text, when)


def _run_module(item: pytest.Item) -> tuple[second_kernel.Ran, list[dict[str, Any]]]:
    chosen = [other.nodeid for other in item.session.items if other.path == item.path]
    command = [
        f"PYTHONPATH={shlex.quote(os.environ.get('PYTHONPATH', ''))}",
        f"{_INSIDE}=/run/out/{_REPORTS}",
        *(shlex.quote(word) for word in (sys.executable, "-m", "pytest")),
        *(f"-p no:{plugin}" for plugin in _NOT_INSIDE),
        *(shlex.quote(nodeid) for nodeid in chosen),
    ]
    said = item.get_closest_marker("timeout")
    patience_s = said.args[0] - 10 if said else second_kernel.PATIENCE_S
    return second_kernel.run(" ".join(command), _read_reports, patience_s)


def _read_reports(folder: Path) -> list[dict[str, Any]]:
    file = folder / _REPORTS
    lines = file.read_text().splitlines() if file.exists() else []
    return [json.loads(line) for line in lines]

"""Network namespaces: named ones as ``ip netns`` keeps them, and running code inside any of them.

A named namespace is a file in ``/run/netns`` with the namespace mounted on it, so that ours and
iproute2's are the same. :func:`in_namespace` enters by way of a thread of its own, since Linux
gives each thread its own namespaces: the caller never changes place, whatever goes wrong.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from netloom.model.errors import Conflict, InvalidConfig, KernelRejected, NotPermitted

T = TypeVar("T")

_DIRECTORY = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_NSFS_MAGIC = 0x6E736673
_NS_GET_NSTYPE = 0xB703
_INTERRUPT_PATIENCE_S = 2.0
_MS_BIND, _MS_REC, _MS_SHARED, _MNT_DETACH = 0x1000, 0x4000, 0x100000, 2

_libc = ctypes.CDLL(None, use_errno=True)  # Python 3.11 has no os.setns, os.unshare or mount


def path(name: str) -> Path:
    """Return where the namespace called ``name`` is or would be. Raises InvalidConfig."""
    if not name or "/" in name or name in (".", ".."):
        raise InvalidConfig(
            f"{name!r} is not a name for a network namespace",
            field="netns",
            value=name,
            hint="a name is not empty and holds no '/'",
        )
    return _DIRECTORY / name


def names(prefix: str = "") -> list[str]:
    """Return the names of the named namespaces that start with ``prefix``, sorted."""
    try:
        return sorted(name for name in os.listdir(_DIRECTORY) if name.startswith(prefix))
    except FileNotFoundError:
        return []


def create(name: str) -> Path:
    """Make a new namespace and mount it under ``name``; return its path.

    Raises Conflict when the name is taken, NotPermitted without CAP_SYS_ADMIN.
    """
    target = path(name)
    with _directory_lock():
        try:
            os.close(os.open(target, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o444))
        except FileExistsError:
            raise Conflict(
                f"a network namespace called {name} exists",
                hint=f"choose another name, or remove it with `ip netns delete {name}`",
            ) from None
        try:
            _in_thread(lambda: _unshare_onto(target))
        except BaseException:
            delete(name)  # interrupted, it may be mounted already
            raise
    return target


def delete(name: str) -> None:
    """Unmount the namespace and remove its name; absent is well.

    The namespace itself lives on while a process or an open file holds it.
    """
    target = path(name)
    if not target.exists():
        return
    # EINVAL: nothing is mounted there, which a creator killed half-way leaves behind.
    _check(_libc.umount2(os.fsencode(target), _MNT_DETACH), "unmount", target, errno.EINVAL)
    target.unlink(missing_ok=True)


def is_netns(target: str | os.PathLike[str]) -> bool:
    """Tell whether ``target`` is a network namespace that can be opened."""
    try:
        os.close(_open(target))
    except InvalidConfig:
        return False
    return True


@contextmanager
def opened(target: str | os.PathLike[str]) -> Iterator[int]:
    """Yield an open file descriptor of the namespace at ``target``.

    Raises InvalidConfig naming the path when it is absent or no network namespace.
    """
    fd = _open(target)
    try:
        yield fd
    finally:
        os.close(fd)


def in_namespace(target: str | os.PathLike[str], function: Callable[[], T]) -> T:
    """Run ``function`` in a short-lived thread inside the namespace at ``target``.

    Sockets that it opens stay in that namespace; ``/proc/sys/net`` shows that namespace; processes
    that it starts are born there. Its result or exception is the caller's.

    Raises:
        InvalidConfig: there is no such file, or it is no network namespace.
        NotPermitted: the process lacks CAP_SYS_ADMIN.
    """

    def enter_and_run() -> T:
        with opened(target) as fd:
            _check(_libc.setns(fd, _CLONE_NEWNET), "enter", target)
        return function()

    return _in_thread(enter_and_run)


def in_new_namespace(function: Callable[[], T]) -> T:
    """Run ``function`` in a short-lived thread inside a namespace that ends with the thread.

    Raises NotPermitted without CAP_SYS_ADMIN.
    """

    def leave_and_run() -> T:
        _check(_libc.unshare(_CLONE_NEWNET), "create", "of its own")
        return function()

    return _in_thread(leave_and_run)


def identity(target: str | os.PathLike[str] = "/proc/thread-self/ns/net") -> tuple[int, int]:
    """Return (device, inode) of a namespace: equal exactly when two paths lead to the same one."""
    with opened(target) as fd:
        return identity_of(fd)


def identity_of(fd: int) -> tuple[int, int]:
    """Return the :func:`identity` of the namespace that ``fd`` is open on."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _open(target: str | os.PathLike[str]) -> int:
    try:
        # O_NONBLOCK: a named pipe must not hold us up before we have seen what it is.
        fd = os.open(target, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise NotPermitted(
                f"may not open the network namespace {os.fspath(target)}",
                hint="run as root, or with CAP_SYS_ADMIN and CAP_SYS_PTRACE",
            ) from None
        raise InvalidConfig(
            f"netns: {os.fspath(target)}: {error.strerror}",
            field="netns",
            value=os.fspath(target),
            hint="the container has ended, or the path is misspelt",
        ) from None
    if _is_nsfs(fd) and fcntl.ioctl(fd, _NS_GET_NSTYPE) == _CLONE_NEWNET:
        return fd
    os.close(fd)
    raise InvalidConfig(
        f"netns: {os.fspath(target)} is not a network namespace",
        field="netns",
        value=os.fspath(target),
        hint="give a path such as /run/netns/NAME or /proc/PID/ns/net",
    )


def _is_nsfs(fd: int) -> bool:
    buffer = (ctypes.c_long * 64)()  # struct statfs begins with f_type and is 120 bytes long
    return _libc.fstatfs(fd, buffer) == 0 and buffer[0] == _NSFS_MAGIC


def _unshare_onto(target: Path) -> None:
    """Give this thread a new namespace and mount it on ``target``, which keeps it alive."""
    _check(_libc.unshare(_CLONE_NEWNET), "create", target)
    source = b"/proc/thread-self/ns/net"
    _check(_libc.mount(source, os.fsencode(target), b"none", _MS_BIND, None), "mount", target)


@contextmanager
def _directory_lock() -> Iterator[None]:
    """Hold ``/run/netns`` for ourselves, as a shared mount the way ``ip netns`` sets it up.

    Shared, so that unmounting a namespace here unmounts it in every mount namespace too;
    otherwise a process with a mount namespace of its own would keep it alive.
    """
    _DIRECTORY.mkdir(mode=0o755, exist_ok=True)
    fd = os.open(_DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        directory = os.fsencode(_DIRECTORY)
        share = (b"", directory, b"none", _MS_SHARED | _MS_REC, None)
        if _libc.mount(*share) != 0:
            bind = (directory, directory, b"none", _MS_BIND | _MS_REC, None)
            _check(_libc.mount(*bind), "bind", _DIRECTORY)
            _check(_libc.mount(*share), "share", _DIRECTORY)
        yield
    finally:
        os.close(fd)


def _check(result: int, verb: str, target: str | os.PathLike[str], *well: int) -> None:
    number = ctypes.get_errno()
    if result == 0 or number in well:
        return
    if number in (errno.EPERM, errno.EACCES):
        raise NotPermitted(
            f"may not {verb} the network namespace {os.fspath(target)}",
            hint="run as root, or with CAP_SYS_ADMIN",
        )
    raise KernelRejected(verb, f"network namespace {os.fspath(target)}", number)


def _in_thread(function: Callable[[], T]) -> T:
    """Run ``function`` in a thread of its own and hand its result or exception to the caller."""
    results: list[T] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001  # handed over to the caller below
            errors.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=run, name="netns", daemon=True)
    try:
        thread.start()
        thread.join()
    except BaseException:
        # A Ctrl-C interrupts our waiting, not the thread: whoever cleans up next must find it done.
        # Not join, which refuses when start itself was interrupted.
        done.wait(_INTERRUPT_PATIENCE_S)
        raise
    if errors:
        raise errors[0]
    return results[0]

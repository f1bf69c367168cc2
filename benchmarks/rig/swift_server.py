"""Another S3 endpoint: OpenStack Swift with s3api, from the packages of a distribution.

Debian and Ubuntu: ``apt-get install swift-proxy swift-account swift-container swift-object``. It
shares no code with moto, keeps objects on a disk, and has no conditional puts.
"""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.rig.s3_server import REGION, free_port, wait_for_port

SERVICES = ("account", "container", "object")

#: What it takes, and from whom.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "laboratory:owner", "AWS_SECRET_ACCESS_KEY": "testing"}

_SWIFT = """\
[swift-hash]
swift_hash_path_suffix = laboratory
swift_hash_path_prefix = laboratory
[storage-policy:0]
name = only
default = yes
"""

_SERVICE = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
disable_fallocate = true
log_level = ERROR
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""

_PROXY = f"""\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {{port}}
workers = 0
user = {{user}}
swift_dir = {{folder}}
log_level = ERROR
[pipeline:main]
pipeline = catch_errors gatekeeper cache listing_formats s3api tempauth slo versioned_writes
    symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:cache]
use = egg:swift#memcache
# Nobody listens there: it has to have one, and does without.
memcache_servers = 127.0.0.1:1
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = {REGION}
[filter:tempauth]
use = egg:swift#tempauth
user_laboratory_owner = testing .admin
[filter:slo]
use = egg:swift#slo
[filter:symlink]
use = egg:swift#symlink
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
"""

#: Rings of one device, then a process for each service; run by the Python of the packages.
_SERVE = """
import ctypes, os, signal, sys
def end_with_parent():
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
end_with_parent()
from swift.common import utils
folder, *ports = sys.argv[1:]
utils.set_swift_dir(folder)
from swift.common.ring import RingBuilder
for name, port in zip(("account", "container", "object"), ports):
    builder = RingBuilder(part_power=2, replicas=1, min_part_hours=0)
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port),
                     "device": "disk", "weight": 1.0})
    builder.rebalance()
    builder.get_ring().save(f"{folder}/{name}.ring.gz")
from swift.common.wsgi import run_wsgi
for name in ("account", "container", "object"):
    if os.fork() == 0:
        end_with_parent()
        sys.exit(run_wsgi(f"{folder}/{name}.conf", f"{name}-server"))
sys.exit(run_wsgi(f"{folder}/proxy.conf", "proxy-server"))
"""


class NoSwiftError(Exception):
    """This machine cannot run it, and why."""


@contextmanager
def swift_server(folder: Path) -> Iterator[str]:
    """Its endpoint; ``folder`` is where it keeps everything. Raises NoSwiftError."""
    interpreter = _interpreter()
    (folder / "devices" / "disk").mkdir(parents=True)
    _check_attributes(folder)
    ports = dict(zip((*SERVICES, "proxy"), (free_port() for _ in range(4)), strict=True))
    (folder / "swift.conf").write_text(_SWIFT)
    for name, port in ports.items():
        text = _PROXY if name == "proxy" else _SERVICE
        values = {"name": name, "port": port, "folder": folder, "user": getpass.getuser()}
        (folder / f"{name}.conf").write_text(text.format(**values))
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [interpreter, "-c", _SERVE, str(folder), *(str(ports[name]) for name in SERVICES)],
            stdout=output,
            stderr=output,
            # Not with the packages of this Python.
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
            start_new_session=True,
        )
    try:
        try:
            for port in ports.values():
                wait_for_port(port, process, seconds=30)
        except OSError as error:
            raise NoSwiftError(f"Swift does not start: {log.read_text()[-500:]}") from error
        yield f"http://127.0.0.1:{ports['proxy']}"
    finally:
        process.kill()
        process.wait()


def _interpreter() -> str:
    """The Python that the packages are installed for."""
    missing = [f"swift-{name}" for name in (*SERVICES, "proxy") if not _program(name)]
    if missing:
        raise NoSwiftError(f"OpenStack Swift is not installed: apt-get install {' '.join(missing)}")
    first = Path(_program("proxy") or "").read_text().splitlines()[0]
    return first.removeprefix("#!").strip()


def _program(name: str) -> str | None:
    return shutil.which(f"swift-{name}-server")


def _check_attributes(folder: Path) -> None:
    """It keeps what it knows of an object in extended attributes."""
    try:
        os.setxattr(folder / "devices", "user.laboratory", b"")
    except OSError as error:
        raise NoSwiftError(f"{folder} has no extended attributes: {error.strerror}") from error

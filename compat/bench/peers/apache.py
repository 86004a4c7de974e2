"""Apache 2.4 with mod_dav and mod_dav_fs, on a plain folder or on the GlusterFS mount.

The event MPM and Debian's defaults, with its `AllowOverride None` (else every request looks for
.htaccess in every folder, which costs milliseconds on GlusterFS); only the limits on keep-alive are
lifted, so that every server keeps the one connection of its client.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from compat.bench.peers import gluster
from compat.bench.site import Absent, Running, Site, first_line, free_ports, program

_MODULES = Path("/usr/lib/apache2/modules")
_USER = "www-data"

_CONFIG = """\
ServerRoot "{folder}"
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
PidFile "{folder}/httpd.pid"
ErrorLog "{folder}/error.log"
LogLevel warn
{modules}
{identity}
DefaultRuntimeDir "{folder}"
DocumentRoot "{data}"
KeepAlive On
KeepAliveTimeout 300
MaxKeepAliveRequests 0
Timeout 300
LimitRequestBody 0
DavLockDB "{folder}/locks/db"
<Directory "/">
    Options FollowSymLinks
    AllowOverride None
</Directory>
<Directory "{data}">
    Dav On
    DavDepthInfinity On
    Require all granted
</Directory>
"""


def start_on_disk(site: Site) -> Running:
    """Apache on a folder of the run's disk."""
    httpd = program("apache2", "apache2")
    data = site.place("apache-data")
    if os.geteuid() == 0:
        shutil.chown(data, _USER, _USER)
    return _start(site, "apache", httpd, data, list)


def start_on_gluster(site: Site) -> Running:
    """Apache on a folder of the GlusterFS mount, inside its sandbox."""
    httpd = program("apache2", "apache2")
    volume = gluster.mounted(site)
    data = volume.folder("apache", f"{_USER}:{_USER}")
    running = _start(site, "apache-gluster", httpd, data, volume.sandbox.wrap)
    return Running(running.url, f"{running.version}; {volume.version}")


def _start(site: Site, name: str, httpd: str, data: Path, wrap: Callable[[Sequence[str]], list[str]]) -> Running:
    folder = site.place(name)
    locks = folder / "locks"
    locks.mkdir()
    modules = ["mpm_event", "authz_core", "dav", "dav_fs", "mime"]
    missing = [module for module in modules if not (_MODULES / f"mod_{module}.so").exists()]
    if missing:
        raise Absent(f"Apache's modules {', '.join(missing)} are not in {_MODULES}")
    loads = [f"LoadModule {module}_module {_MODULES}/mod_{module}.so" for module in modules]
    identity = ""
    if os.geteuid() == 0:
        shutil.chown(locks, _USER, _USER)
        identity = f"User {_USER}\nGroup {_USER}"
    port = free_ports()
    types = Path("/etc/mime.types")
    if types.exists():
        loads.append(f"TypesConfig {types}")
    config = folder / "httpd.conf"
    config.write_text(_CONFIG.format(folder=folder, port=port, modules="\n".join(loads), identity=identity, data=data))
    process = site.spawn(name, wrap([httpd, "-D", "FOREGROUND", "-f", str(config)]))
    site.wait_for_port(name, process, port)
    return Running(f"http://127.0.0.1:{port}/", first_line([httpd, "-v"]))

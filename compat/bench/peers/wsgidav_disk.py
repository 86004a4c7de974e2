"""WsgiDAV's own file system provider on cheroot, in a process of its own.

The process imports this module again and calls `serve`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from pathlib import Path

from compat.bench.site import Absent, Running, Site, free_ports

_PROJECT = Path(__file__).resolve().parents[3]


def start(site: Site) -> Running:
    """WsgiDAV on a folder of the run's disk."""
    for package in ("wsgidav", "cheroot"):
        if importlib.util.find_spec(package) is None:
            raise Absent(f"the Python package {package} is not installed")
    data = site.place("wsgidav-data")
    port = free_ports()
    code = f"import sys; sys.path.insert(0, {str(_PROJECT)!r}); "
    code += f"from {__name__} import serve; serve({str(data)!r}, {port})"
    process = site.spawn("wsgidav", [sys.executable, "-c", code])
    site.wait_for_port("wsgidav", process, port)
    versions = (f"{name} {importlib.metadata.version(name)}" for name in ("WsgiDAV", "cheroot"))
    return Running(f"http://127.0.0.1:{port}/", ", ".join(versions))


def serve(folder: str, port: int) -> None:
    """Serves the folder until it is ended by a signal."""
    from cheroot.wsgi import Server
    from wsgidav.wsgidav_app import WsgiDAVApp

    app = WsgiDAVApp(
        {
            "provider_mapping": {"/": folder},
            "simple_dc": {"user_mapping": {"*": True}},
            "http_authenticator": {"domain_controller": None},
            "lock_storage": True,
            "property_manager": True,
            "verbose": 1,
            "logging": {"enable": False},
        }
    )
    server = Server(("127.0.0.1", port), app, timeout=300)
    try:
        server.start()
    except (KeyboardInterrupt, SystemExit):
        server.stop()

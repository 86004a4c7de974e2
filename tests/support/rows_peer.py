"""davfs's WebDAV side, or plain WsgiDAV on plain cheroot, in a process of its own: what a test asks of both.

``python -m tests.support.rows_peer davfs|plain FOLDER`` prints ``ready PORT PORT PORT`` and serves until it is ended: open;
with logins, ``ann`` and ``bob``, whose passwords are their names; with TLS by FOLDER/node.pem and node.key. Volumes or
shares: ``demo``, ``Other``, ``own``. WsgiDAV has its defaults; its share ``own`` copies, moves and deletes by itself, as a
provider does that is not a disk.
"""

from __future__ import annotations

import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.ports import free_run

ROOT = Path(__file__).resolve().parents[2]
SHARES = ("demo", "Other", "own")
USERS = ("ann", "bob")
EXTERNAL = "files.example.org"


@contextmanager
def running(kind: str, folder: Path) -> Iterator[tuple[int, list[int]]]:
    """Such a process over a folder that is made ready for it: its id and its three ports."""
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
    files = ["-keyout", str(folder / "node.key"), "-out", str(folder / "node.pem")]
    subprocess.run([*words.split(), *files], check=True, capture_output=True, timeout=30)
    command = [sys.executable, "-m", "tests.support.rows_peer", kind, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            ready, *ports = child.stdout.readline().split()
            assert ready == "ready"
            yield child.pid, [int(port) for port in ports]
        finally:
            child.kill()


def davfs(folder: Path) -> list[int]:
    """Three listeners over one drive in memory."""
    from davfs.core.passwords import hash_password
    from davfs.dav.application import DavApplication
    from davfs.dav.authenticator import Authenticator
    from davfs.dav.request import DavSettings
    from davfs.dav.server import DavServer
    from tests.support.memory_drive import MemoryDrive

    drive = MemoryDrive(*SHARES)
    settings = DavSettings(external_names=(EXTERNAL,))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "node.pem", folder / "node.key")
    login = Authenticator({name: hash_password(name, b"0123456789abcdef") for name in USERS})
    servers = [
        DavServer("127.0.0.1", 0, DavApplication(drive, settings), threads=24),
        DavServer("127.0.0.1", 0, DavApplication(drive, settings, authenticator=login), threads=8),
        DavServer("127.0.0.1", 0, DavApplication(drive, settings), tls, threads=8),
    ]
    for server in servers:
        server.start()
    return [server.port for server in servers]


def plain(folder: Path) -> list[int]:
    """Three listeners of cheroot with WsgiDAV."""
    from cheroot.ssl.builtin import BuiltinSSLAdapter
    from cheroot.wsgi import Server

    adapter: Any = BuiltinSSLAdapter(str(folder / "node.pem"), str(folder / "node.key"))
    everybody, login = {"*": True}, {"*": {name: {"password": name} for name in USERS}}
    ports = []
    for users, tls in ((everybody, None), (login, None), (everybody, adapter)):
        server: Any = Server(("127.0.0.1", free_run(1)), wsgidav(folder, users))
        server.ssl_adapter = tls
        server.prepare()
        threading.Thread(target=server.serve, daemon=True).start()
        ports.append(server.bind_addr[1])
    return ports


def wsgidav(folder: Path, users: dict[str, Any] | None = None) -> Any:
    """WsgiDAV's application over folders below one."""
    from wsgidav.fs_dav_provider import FileResource, FilesystemProvider, FolderResource
    from wsgidav.wsgidav_app import WsgiDAVApp

    class OwnFile(FileResource):
        def handle_move(self, dest_path: str) -> bool:
            shutil.move(self._file_path, self.provider._loc_to_file_path(dest_path, self.environ))
            return True

        def handle_copy(self, dest_path: str, *, depth_infinity: bool) -> bool:
            shutil.copy(self._file_path, self.provider._loc_to_file_path(dest_path, self.environ))
            return True

    class OwnFolder(FolderResource):
        def handle_delete(self) -> bool:
            shutil.rmtree(self._file_path)
            return True

    class OwnProvider(FilesystemProvider):
        def get_resource_inst(self, path: str, environ: dict[str, Any]) -> Any:
            found = super().get_resource_inst(path, environ)
            if found is None:
                return None
            kind = OwnFolder if found.is_collection else OwnFile
            return kind(found.path, environ, found._file_path)

    for share in SHARES:
        (folder / share).mkdir(exist_ok=True)
    shares = {f"/{share}": str(folder / share) for share in SHARES[:2]}
    return WsgiDAVApp(
        {
            "provider_mapping": {**shares, "/own": OwnProvider(str(folder / "own"))},
            "simple_dc": {"user_mapping": users or {"*": True}},
            "lock_storage": True,
            "property_manager": True,
            "verbose": 1,
            "logging": {"enable": False},
        }
    )


if __name__ == "__main__":
    print("ready", *{"davfs": davfs, "plain": plain}[sys.argv[1]](Path(sys.argv[2])), flush=True)
    while True:
        time.sleep(60)

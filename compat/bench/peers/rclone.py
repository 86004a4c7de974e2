"""`rclone serve webdav` on the GlusterFS mount, with its defaults (it caches listings)."""

from __future__ import annotations

from compat.bench.peers import gluster
from compat.bench.site import Running, Site, first_line, free_ports, program


def start_on_gluster(site: Site) -> Running:
    """rclone on a folder of the GlusterFS mount, inside its sandbox."""
    name = "rclone-gluster"
    rclone = program("rclone", "rclone")
    volume = gluster.mounted(site)
    data = volume.folder("rclone")
    port = free_ports()
    command = [rclone, "serve", "webdav", str(data), "--addr", f"127.0.0.1:{port}"]
    command += ["--config", "/dev/null"]
    process = site.spawn(name, volume.sandbox.wrap(command))
    site.wait_for_port(name, process, port)
    return Running(f"http://127.0.0.1:{port}/", f"{first_line([rclone, 'version'])}; {volume.version}")

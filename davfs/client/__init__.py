"""The client library: a program takes a volume for itself and works in it, talking to the nodes directly.

``docs/client.md`` shows how. May import cluster and below; knows nothing of WebDAV and nothing of a node's insides.
"""

from davfs.client.cluster import Cluster, VolumeStatus, connect
from davfs.client.file import File
from davfs.client.volume import Volume
from davfs.core.model import Entry

__all__ = ["Cluster", "Entry", "File", "Volume", "VolumeStatus", "connect"]

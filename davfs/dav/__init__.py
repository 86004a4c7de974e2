"""The WebDAV side: WsgiDAV on cheroot. Imports cluster and core; alone knows WsgiDAV."""

"""Node-to-node HTTP over mutual TLS. Imports core only; alone knows requests, urllib3, ssl and cryptography."""

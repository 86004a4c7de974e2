"""Real WebDAV clients run against any URL, one command each.

``python -m compat.litmus URL`` and its siblings (cadaver, rclone, davfs2, rclone_mount, memory) drive a client program
that people use, check what came out of it, print a table of operations and exit with 0 only when every one was right.
They know nothing of davfs: any WebDAV server can be named. Nothing here may import ``davfs``.
"""

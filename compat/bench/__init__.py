"""Side by side speed of davfs and other WebDAV servers on one machine (see __main__).

Stands outside the davfs package and imports nothing from it: every server is reached over HTTP.
"""

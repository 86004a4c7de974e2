"""What clients that cannot run here are known to send, as readable files, and a runner that plays them against any URL.

One ``.txt`` per client beside this file; each says where its knowledge is from. ``python -m compat.transcripts URL``
plays them (:mod:`compat.transcripts.play`); :mod:`compat.transcripts.script` reads them and says how they are written.
"""

"""Seeds of ``davfs sim`` that failed once, each with why. They are played in every run of the tests.

What a seed stands for changes with the simulator, so where it was a fault of davfs there is a test that plays just that, too.
"""

FAILED_ONCE: dict[int, str] = {
    8: "the task that sends to a replica ended when Raft did not confirm the vote of its new store in time",
    79: "a damaged small chunk came with a snapshot to the other replicas and took the place of their good copies",
    150: "a change from three replicas to two went on although the store of one of the two did not vote: it never could again",
    464: "a seal alone made firm what a holder had done alone before it was restarted: no later holder could take it back",
    470: "a snapshot brought chunks that were set aside at its source meanwhile: no run of the collector came for them",
    775: "a snapshot brought records as not firm that were by then: the replica that got it asked for it again, for ever",
    1087: "the simulator's chunk store gave a damaged copy out that was set aside",
    1130: "a full disk refused a request that was sent again, and an earlier attempt had taken effect: the client was told no",
    1680: "the same, of a write into a file",
    2203: "the same, in an available volume",
    4564: "a PUT succeeded after its first attempt was settled as a conflict copy, which stayed though nothing conflicted",
    5261: "the same",
    5469: "the same",
    5825: "the simulator did not wait for a node that was still starting with its new disk",
    6202: "a holder that did not know yet that it is none sent a record of the next holder, out of its own node's log",
    8436: "a later attempt at a PUT was refused for certain, and the first became a conflict copy",
    9372: "the checker took a conflict copy of a COPY that nobody was answered for one of the PUT that wrote its source",
    9639: "an attempt succeeded after the first was settled as a conflict copy, as in 4564",
    21216: "a node that had been behind fetched a chunk that was overwritten meanwhile, after the collector's last run",
    21688: "a COPY sent again after its source was overwritten left its first attempt as a conflict copy",
}

MEMBERS_FAILED_ONCE: dict[int, str] = {
    42500: "available: a holder that was cut off lost its place meanwhile, and dropped what it alone had acknowledged",
    43291: "a node was removed, and from then on refused by all, while Raft could not go on without its vote",
    43349: "an old snapshot that had arrived ended the collector's task instead of one attempt of it",
    43973: "the checker of collectors forgot what was committed with the disk of the one node that knew of it",
    45462: "available: a node was removed that alone had the chunk of a late record, which was merged later",
    47321: "available: the collector took the chunk of a record that only a node had which is no replica any more",
    41759: "a node was told as removed while Raft still counted it: with another's disk lost, two of four voters were left",
}
"""The same with ``--members``."""

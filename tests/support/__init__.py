"""What tests of several kinds share: a real cluster of processes, free ports, tools, judged streams of writes."""

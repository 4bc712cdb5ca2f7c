"""Asking a server and measuring what it takes.

subject    the pack, its host and the texts that a benchmark is about
servers    a server in a process of its own: started, waited for, ended
product    `phoropter serve` with what a benchmark adds to it (`timers`, `joining`, `showing`, `faults`)
client     server-sent events through httpx, bytes counted at the socket
calls      many callers in one event loop, as cheap as they can be
readers    one stream, read as fast as it comes or with pauses
retrying   one call, tried again while what went wrong may pass
answers    what one answer said, and whether two say the same
encoding   one entry as bytes, by form
native     the same answers in this process, by `Monitor.stream`
asking     the answers of a server
remote     the answers of a server that keeps nothing (`baseline.server`), and of one that samples
link       a slow link between a client and a server
pairs      runs that belong together: ratios with intervals
trends     whether a cost grows from turn to turn
memory     a process's resident set over time
"""

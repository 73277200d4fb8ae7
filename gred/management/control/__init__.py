"""The control socket: how people and programs ask a running daemon, and tell it to reload.

    protocol   a request and its answer as lines; where the socket is
    server     accepts, bounds and answers clients of a daemon
    commands   what can be asked
    client     the other end, for the command line

Nothing here knows how a tunnel works.
"""

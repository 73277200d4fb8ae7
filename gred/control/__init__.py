"""Decides: which tunnels exist, their state, their MTU, what the data plane is told to do.

Nothing here touches a packet.
"""

"""``gred show``: what the other end of a tunnel must configure, in the words of its system.

    mirror    the other end as a configured tunnel of gred, and what was guessed of it
    writing   what all forms have in common
    ip, networkd, cisco, mikrotik   one form each; ``gred`` needs none, it is config's own

Nothing here asks or changes a host.
"""

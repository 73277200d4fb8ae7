"""People and machines that look at gred: command line, logs, service manager, demo.

Nothing here decides for a tunnel or touches a packet on its way.
"""

"""A laboratory in network namespaces: hosts, wires, daemons, traffic, captures.

For the demonstration, the tests and the benchmarks alike. Nothing here knows a tunnel or a plane:
gred is a program that is started like any other, and what crosses is judged by sockets of the
laboratory's own. Nothing here touches what it did not make.
"""

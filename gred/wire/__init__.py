"""Formats: bytes <-> values, RFC by RFC.

Nothing here opens a socket, reads a clock, writes a log line or owns a descriptor.
"""

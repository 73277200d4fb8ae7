"""Metrics for Prometheus: what they are, and how they are handed out.

moment    what the daemon knows at one moment, taken on its loop a slice at a time
lag       how late the loop is
families  a moment -> metric families of prometheus_client; imported only when asked for
http      requests and answers: /metrics, /healthz, /ready
textfile  the file that node_exporter reads
exporter  a thread of its own that does all this
following begins and ends it as the configuration says
"""

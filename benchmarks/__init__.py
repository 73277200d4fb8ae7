"""gred measured beside its peers, in one run on one machine.

    python -m benchmarks            everything: less than half an hour
    python -m benchmarks --quick    the same with short loads: some four minutes
    python -m benchmarks --list     what there is to choose from

The map:

    subjects/         what is measured: each sets up one tunnel (or 1,000) between two namespaces
    measures.py       what is asked of each subject, and which metrics come out
    loads.py          the loads themselves: iperf3, ping, a flood of small UDP packets (flood.py)
    lab.py            two namespaces, one veth pair, and every process that runs in them
    session.py        the order of things: repeats outside, subjects inside, so that what else the
                      machine does falls on all alike
    results.py        samples, their medians, JSON
    report.py, targets.py, chart.py    what a reader sees: tables of ratios, targets, SVG
    hostile.py        a program of its own: what a tunnel suffers from what does not concern it

Nothing here is imported by gred or by its tests, and nothing here fails because of a figure.
Traffic stays within namespaces that the run made. Figures move from machine to machine: compare
ratios within one run, never figures of two runs.
"""

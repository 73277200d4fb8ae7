"""What makes files of this repository out of gred's own tables; never installed.

    python -m tools

writes the manual pages (man/) and the completions of shells (completion/) anew; tests tell when
that was forgotten.
"""

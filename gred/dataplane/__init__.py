"""Moves packets. Owns every descriptor that packets cross.

Nothing here decides (that is control's) and nothing here speaks to people (that is management's):
what must be told upwards goes to a callback that was handed in.
"""

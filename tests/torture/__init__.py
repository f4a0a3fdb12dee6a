"""A tree of all kinds of agents, and whoever does to it for minutes or hours whatever can be done to it.

`test_torture` runs the program in `__main__` and has `verdict` judge it. To look at single faults:
``PYTHONPATH=tests/support python -m tests.torture FOLDER --seed 1 --without "no descriptors"``.
"""

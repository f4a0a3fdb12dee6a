"""A running tree, and clients that send its control API whatever bytes there are.

`test_fuzz` runs the program in `__main__`, which judges by the answers and by what the tree itself says. `inputs`
deals what is sent, the same for the same seed. By hand:
``PYTHONPATH=tests/support python -m tests.fuzz --seconds 10 --seed 1``.
"""

"""Orchestree beside Debian's real Prometheus and Alertmanager: what is scraped, drawn, alerted and resolved.

`station.py` starts all of it, on free ports of the loopback interface and in folders of its own; `servers.py` has the
two servers and the webhook; `quickened.py` makes minutes of the shipped alerts seconds; `way.py` follows one alert from
the crash to the webhook and back; `plant.py` is a tree that fails on demand.

Everything at once, drawn as text: ``PYTHONPATH=tests/support python -m tests.e2e.show FOLDER``.
"""

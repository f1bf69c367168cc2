"""What tests and measurements of distributed work are made of.

An archive with a stub model, Redis servers, workers and feeders that can be killed, a network and
a disk that fail. The shipped packages import nothing from here.
"""

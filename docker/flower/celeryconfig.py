"""How workers call their lists in Redis, or Flower and they do not understand each other."""

from os import environ

broker_url = environ["CELERY_BROKER_URL"]
broker_transport_options = {"priority_steps": [0, 3, 6], "sep": ":"}
accept_content = ["json"]

"""Pipelines that come with Slackwater, each an app: install the one you want."""
